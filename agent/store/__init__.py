"""Outside world: the device's disk."""
