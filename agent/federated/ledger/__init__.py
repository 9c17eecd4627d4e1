"""The journal of federated runs, in memory and on the disk."""
