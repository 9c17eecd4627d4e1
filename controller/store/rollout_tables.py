"""What the store keeps of rollouts: the tables that plans are made from, and recorded in."""

from collections.abc import Collection, Iterable, Sequence
from typing import Final, Protocol

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

    def members_of(self, device: str) -> Sequence[Member]:
        """The device's, of all rollouts, by rollout."""
        ...

    def put_members(self, members: Iterable[Member]) -> None: ...  # noqa: D102
    def remove_members(self, rollout: str) -> None:
        """All of the rollout's."""
        ...


class Changes(Protocol):
    """Which devices plans must look at again."""

    def since(self, revision: int) -> tuple[Collection[str], int]:
        """Whose facts have changed since then, each once; and the revision now. Of 0 these are all.

        Facts of a device are what it is, whether it has a link, its slots, what is wanted of it, its
        directives and its memberships; when it was last heard over a link that stays is none. The
        revision is committed with the change, as that of ``Devices.changed_since``. More devices
        than have changed may be named.
        """
        ...
