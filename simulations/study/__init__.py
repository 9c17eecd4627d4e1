"""Figures of federated retraining, through the product's own channel: ``make study``.

What is real: the run file, the coordinator with Flower's strategies, the admission check, and on each
device the reading of its order, the signed train step in ONNX Runtime, the encoding of its update with
what rounding has left, and its reply. What is not: processes, links and disks, in whose place stand the
twins in memory, and the clock, which costs no time. The same seed gives the same figures.
"""
