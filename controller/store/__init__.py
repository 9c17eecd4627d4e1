"""Outside world: the database and the blobs."""
