"""Outside world: what runs a model that nobody has looked at yet."""
