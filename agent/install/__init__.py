"""Bringing a version to a slot, and back: table, steps, and the loop that carries them out."""
