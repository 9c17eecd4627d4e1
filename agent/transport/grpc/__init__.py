"""Links to the controller over gRPC."""
