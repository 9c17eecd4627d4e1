"""Devices: labels, facts, presence, selectors."""
