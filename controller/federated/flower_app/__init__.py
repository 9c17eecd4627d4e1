"""A run as an app of Flower's own: for its SuperLink and SuperNodes, and for its simulation."""
