"""What a controller keeps in memory from turn to turn, and how it follows what is stored."""

from collections.abc import Collection, MutableMapping

from controller.registry.version import Version
from controller.rollout.actions import asked, release_of
from controller.rollout.facts import (
    DeviceFacts,
    Facts,
    Release,
    Releases,
    by_device,
    memberships,
)
from controller.rollout.ledger import Ledger
from controller.rollout.rollout import State
from controller.store.store import Transaction
from protos.documents import Directive

Newest = MutableMapping[str, Directive | None]
"""The newest directive of each device, as far as it was read."""


class Books:
    """What is kept. All of it can be read again.

    Attributes:
        newest: the newest directive of each device, as far as it was read.
        revision: of the newest change that the ledger was told of.
    """

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.newest: Newest = {}
        self.revision = 0
        self._releases: dict[tuple[str, int, str], Release] = {}

    def clear(self) -> None:
        """Everything is read anew."""
        self.ledger, self.newest, self.revision = Ledger(), {}, 0

    def releases(self, versions: Collection[Version]) -> Releases:
        """What rollouts need of these; each manifest is read once."""
        found = {}
        for one in versions:
            key = (one.model, one.version, one.state.value)
            if key not in self._releases:
                self._releases[key] = release_of(one)
            found[one.model, one.version] = self._releases[key]
        return found


def follow(tx: Transaction, books: Books, now: float) -> bool:
    """Tells the ledger what has changed since the last time; returns whether anything has.

    Nothing is read of devices that have not changed.
    Call it before the transaction changes anything itself: what is rolled back would stay.
    """
    rollouts = tx.rollouts.all()
    closed = {
        one.id: books.ledger.known.closed.get(one.id) or tuple(tx.rollouts.standings(one.id))
        for one in rollouts
        if one.state is State.ROLLING_BACK
    }
    releases = books.releases(tx.registry.versions())
    is_new = books.ledger.tell_all(rollouts, releases, tx.stages.all(), closed)
    # If the clock was set back all is read: when a device was last heard is no change, and counts.
    changed = tx.changes.since(0 if books.ledger.is_behind(now) else books.revision)
    facts = Facts(
        devices=tuple(changed.devices),
        wanted=tuple(changed.wanted),
        slots=tuple(changed.slots),
        asked=asked(tx, changed.wanted, changed.slots),
    )
    known, members = by_device(facts), memberships(changed.members)
    for device in changed.ids:
        found = known.get(device) or DeviceFacts(device)
        books.ledger.tell(found, members.get(device, ()))
    books.revision = changed.revision
    return is_new or bool(changed.ids)
