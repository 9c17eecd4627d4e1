"""What a device tells of whether it would train now, and when it tells it."""
