"""Outside world: what carries bytes to devices."""
