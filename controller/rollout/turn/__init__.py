"""One turn of the planner: plan, check, record, and what devices are to be told."""
