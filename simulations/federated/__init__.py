"""Federated runs with devices in this process: the exchange's in-memory twin."""
