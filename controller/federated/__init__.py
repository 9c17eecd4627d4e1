"""Federated retraining: runs, their rounds, and what devices are asked to do in them."""
