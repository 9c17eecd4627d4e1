"""Gradient rules, one file a family of operators; `table` has them all."""
