"""Who of several controllers on one database may act: a lease that its holder must keep renewing.

Rules:

1. Nobody takes a lease that another holds and that has not run out.
2. It is asked for in the very transaction that acts. Transactions come one after the other, so whoever
   was too slow is told so before it has written anything: no clock has to be trusted for that.
3. A clock that is set back makes no lease last longer than it was granted for.
"""

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Lease:
    """One controller's right to do one thing alone. Times are Unix seconds.

    Attributes:
        holder: which controller, by a name that each run of it has for itself.
        taken_at: when it was last renewed.
        until: when it runs out.
    """

    name: str
    holder: str
    taken_at: float
    until: float


def takes(lease: Lease | None, holder: str, now: float) -> bool:
    """Whether ``holder`` gets the lease at ``now``: nobody has it, it has run out, or it is its own."""
    return lease is None or lease.holder == holder or now >= lease.until


def asked(lease: Lease | None, wish: Lease) -> Lease:
    """The lease as it stands once ``wish.holder`` has asked for it at ``wish.taken_at``.

    It is ``wish`` if that takes it. One that seems to be from the future was taken before the clock
    was set back: it runs anew from now, so that a holder that lives can renew it and a dead one
    stands in nobody's way for longer than ever.
    """
    now = wish.taken_at
    if lease is None or takes(lease, wish.holder, now):
        return wish
    if now < lease.taken_at:
        return replace(lease, taken_at=now, until=now + (lease.until - lease.taken_at))
    return lease
