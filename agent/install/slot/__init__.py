"""Tending one slot: the work of every state, and the loop that carries it out."""
