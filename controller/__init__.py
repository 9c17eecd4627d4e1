"""The centre: signs versions, says which device runs which, and learns how they do."""
