"""`make bench`: every number as a ratio against the bare thing, measured in the same run."""
