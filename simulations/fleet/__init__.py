"""A fleet in virtual time: the controller's and the agent's own decisions, between them a bad network.

What is real: on the controller everything that decides on rollouts, over the store's twin in memory; on
each device everything that decides on installs. What is not: cryptography (documents travel in their
envelopes without a signature, and are checked in every other respect), files, models and their
requests, for which ``truth.py`` says what would come of them.
"""
