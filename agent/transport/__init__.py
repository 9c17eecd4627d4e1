"""Outside world: what carries bytes to the controller."""
