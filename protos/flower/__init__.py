"""Flower's messages, field for field, in a package of our own: a device speaks them without Flower."""
