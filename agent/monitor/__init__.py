"""Watching the data that a model sees: counts, tests, verdicts."""
