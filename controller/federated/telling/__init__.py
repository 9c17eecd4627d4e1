"""Devices are told what they shall do in federated runs just now."""
