"""Letting a version be tried again that failed on this device: a person asks, the agent does it."""
