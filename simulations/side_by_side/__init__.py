"""The same federated run on Muster's channel and on Flower's own: ``python -m simulations.side_by_side``.

Real processes on this machine, both ways: the same version, train step, examples, strategy and rounds.
"""
