"""Outside world: what executes models."""
