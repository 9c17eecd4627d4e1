"""All that runs in the process of one run's coordinator, and nowhere else; Flower comes in here only."""
