"""Keeping what a model may learn from: inputs of answered requests, and their truths."""
