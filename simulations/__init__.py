"""The fleet without the hardware: in-memory twins of every seam, and the demo."""
