"""Answering requests: signatures, slots, golden vectors, latency."""
