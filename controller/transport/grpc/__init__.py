"""The controller's end of links over gRPC."""
