"""What the device tells, how it waits, and in which order."""
