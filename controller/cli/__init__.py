"""The operator commands: `muster …`."""
