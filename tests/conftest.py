"""How the property tests are run.

A gate that everybody's work goes through gives the same answer for the same code, so by default
the examples depend on the test alone. ``make soak`` looks for new ones.
"""

import os
import signal

from hypothesis import settings

# Importing Flower sets another level, for processes that tests start as well, whichever came first.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

# A shell that starts the tests in the background has them ignore Ctrl-C, and all that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("gate", derandomize=True, deadline=None, max_examples=50)
settings.register_profile("soak", deadline=None, print_blob=True)
settings.load_profile("gate")
