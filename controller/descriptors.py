"""File descriptors: every connection takes one, and the usual limit is below a fleet's number."""

import contextlib
import resource


def raise_limit() -> int:
    """Lets this process open as many files as it may ask for; returns how many that is."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # a system with a lower limit of its own
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
