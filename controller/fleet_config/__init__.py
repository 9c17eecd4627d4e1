"""Fleets as files: what shall run where, and how carefully it gets there. Read, plan, apply."""
