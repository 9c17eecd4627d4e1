"""The version that a federated run makes of its parent, up to where people are asked to sign it."""
