"""Training where the data is: examples that stay here, a trainer with limits, and what is told of it."""
