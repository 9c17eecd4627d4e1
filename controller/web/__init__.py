"""Outside world: the REST API and the metrics."""
