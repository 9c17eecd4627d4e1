"""What the store keeps of rollouts: the tables that plans are made from, and recorded in."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from controller.fleet.device import Device, SlotState
from controller.rollout.rollout import Member, Rollout, SignedDirective, StageRecord, Wanted
from controller.rollout.standing import Standing

DIRECTIVES_KEPT: Final = 20


class Rollouts(Protocol):
    """Rollouts, what is wanted of each device, and the directives that say so."""

    def get(self, rollout: str) -> Rollout | None: ...  # noqa: D102
    def all(self) -> Sequence[Rollout]:
        """Newest first."""
        ...

    def put(self, rollout: Rollout) -> None: ...  # noqa: D102
    def standings(self, rollout: str) -> Sequence[Standing]:
        """How the devices stood when the rollout ended, by device; empty while it runs."""
        ...

    def put_standings(self, rollout: str, standings: Sequence[Standing]) -> None: ...  # noqa: D102
    def wanted(self, device: str | None = None) -> Sequence[Wanted]: ...  # noqa: D102
    def put_wanted(self, wanted: Wanted) -> None: ...  # noqa: D102
    def remove_wanted(self, device: str, model: str, slot: str) -> None: ...  # noqa: D102
    def directive(self, device: str) -> SignedDirective | None:
        """The newest one."""
        ...

    def newest_directives(self) -> Iterable[SignedDirective]:
        """The newest one of each device that was ever told anything; read as they are asked for."""
        ...

    def put_directive(self, directive: SignedDirective) -> None:
        """Keeps the ``DIRECTIVES_KEPT`` newest ones."""
        ...

    def directives(self, device: str) -> Sequence[SignedDirective]:
        """Those that are kept, newest first."""
        ...


class Stages(Protocol):
    """What became of each rollout's stages, and whom they have released or hold back."""

    def all(self, rollout: str | None = None) -> Sequence[StageRecord]:
        """Of one rollout or of all, by rollout and number."""
        ...

    def put(self, stages: Iterable[StageRecord]) -> None: ...  # noqa: D102
    def members(self, rollout: str | None = None) -> Sequence[Member]:
        """Of one rollout or of all, by rollout and device."""
        ...

    def put_members(self, members: Iterable[Member]) -> None: ...  # noqa: D102
    def remove_members(self, rollout: str) -> None:
        """All of the rollout's."""
        ...


@dataclass(frozen=True, slots=True)
class Changed:
    """Everything that is stored of devices that have changed, as plans need it.

    Attributes:
        ids: theirs; of some nothing may be left.
        revision: to ask from the next time.
    """

    ids: Collection[str]
    revision: int
    devices: Sequence[Device] = ()
    wanted: Sequence[Wanted] = ()
    slots: Sequence[SlotState] = ()
    members: Sequence[Member] = ()


class Changes(Protocol):
    """What plans must look at again."""

    def since(self, revision: int) -> Changed:
        """The devices of which something has changed since then; of 0 these are all.

        That is what a device is and whether it has a link, its slots, what is wanted of it, its
        directives and its memberships. When it was last heard, over a link that stays, is no change.
        The revision is committed with the change: whoever keeps the last one that it has read misses
        nothing, neither in a crash nor if others write. Ask before the transaction changes anything
        itself. More devices than have changed may be named. It takes as long as there are changes, however many devices
        there are.
        """
        ...
