"""When to renew a certificate, and until when it can be renewed at all."""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

GRACE: Final = timedelta(days=90)
"""How long after its expiry a certificate may still be renewed: a device may have been away."""

_DUE = 2 / 3
_SPREAD = 1 / 12


class Standing(StrEnum):
    """What a certificate's age means."""

    FRESH = "fresh"
    DUE = "due"  # valid, and time to renew
    EXPIRED = "expired"  # no connection any more, but it may still be renewed
    LAPSED = "lapsed"  # only a join token helps


def renew_at(not_before: datetime, not_after: datetime, jitter: float) -> datetime:
    """After two thirds of the lifetime, and up to a twelfth later as ``jitter`` in [0, 1) says.

    Devices that were enrolled together must not come together, and a third (at least a quarter) of
    the lifetime is left for a controller that is down.
    """
    return not_before + (not_after - not_before) * (_DUE + _SPREAD * jitter)


def standing(
    not_before: datetime,
    not_after: datetime,
    now: datetime,
    jitter: float,
    grace: timedelta = GRACE,
) -> Standing:
    """What the certificate's age means at ``now``."""
    if now < renew_at(not_before, not_after, jitter):
        return Standing.FRESH
    if now < not_after:
        return Standing.DUE
    return Standing.EXPIRED if may_renew(not_after, now, grace) else Standing.LAPSED


def may_renew(not_after: datetime, now: datetime, grace: timedelta = GRACE) -> bool:
    """Whether a certificate that ends at ``not_after`` can be renewed at ``now``."""
    return now < not_after + grace
