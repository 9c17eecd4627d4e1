"""Builds the agent: configuration → adapters → loops in one TaskGroup."""
