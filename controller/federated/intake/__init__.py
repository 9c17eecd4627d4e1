"""What devices send in federated runs: pieces of replies, and whether they would train."""
