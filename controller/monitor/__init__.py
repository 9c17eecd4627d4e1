"""Drift over the fleet: merged windows, few broken devices or a changed world."""
