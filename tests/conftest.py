"""How the property tests are run.

A gate that everybody's work goes through gives the same answer for the same code, so by default
the examples depend on the test alone. ``make soak`` looks for new ones.
"""

from hypothesis import settings

settings.register_profile("gate", derandomize=True, deadline=None)
settings.register_profile("soak", deadline=None, print_blob=True)
settings.load_profile("gate")
