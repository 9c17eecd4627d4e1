"""What a controller keeps in memory from turn to turn, and how it follows what is stored."""

from collections.abc import Collection, Iterator, MutableMapping
from typing import Final

from controller.registry.version import Version
from controller.rollout.actions import asked, gather, release_of
from controller.rollout.facts import DeviceFacts, Release, Releases, by_device
from controller.rollout.ledger import Ledger
from controller.rollout.rollout import Member, State
from controller.store.store import Transaction
from protos.documents import Directive

Newest = MutableMapping[str, Directive | None]
"""The newest directive of each device, as far as it was read."""

SINGLY: Final = 0.15
"""If more of the fleet has changed it is read as a whole, which is quicker then."""


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


def follow(tx: Transaction, books: Books) -> None:
    """Tells the ledger what has changed since the last time, and reads nothing else of any device.

    Call it before the transaction changes anything itself: what is rolled back would stay.
    """
    rollouts = tx.rollouts.all()
    closed = {
        one.id: tuple(tx.rollouts.standings(one.id))
        for one in rollouts
        if one.state is State.ROLLING_BACK
    }
    releases = books.releases(tx.registry.versions())
    books.ledger.tell_all(rollouts, releases, tx.stages.all(), closed)
    changed, revision = tx.changes.since(books.revision)
    known = books.ledger.known.by_device
    read = _singly if len(changed) <= SINGLY * len(known) else _all
    for facts, members in read(tx, changed):
        books.ledger.tell(facts, members)
    books.revision = revision


Read = Iterator[tuple[DeviceFacts, Collection[Member]]]


def _singly(tx: Transaction, devices: Collection[str]) -> Read:
    for device in devices:
        rows, slots = tx.rollouts.wanted(device), tx.devices.slots(device)
        found = asked(tx, rows, slots)
        facts = DeviceFacts(
            device,
            tx.devices.get(device),
            tuple(rows),
            tuple(slots),
            {(model, slot): generation for (_, model, slot), generation in found.items()},
        )
        yield facts, tx.stages.members_of(device)


def _all(tx: Transaction, devices: Collection[str]) -> Read:
    facts = gather(tx)
    members: dict[str, list[Member]] = {}
    for member in facts.members:
        members.setdefault(member.device, []).append(member)
    known = by_device(facts)
    for device in devices:
        yield known.get(device) or DeviceFacts(device), members.get(device, ())
