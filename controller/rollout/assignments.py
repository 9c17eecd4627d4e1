"""From rows of ``wanted`` to what a directive says."""

from collections.abc import Iterable, Mapping, Sequence

from controller.rollout import policy as policies
from controller.rollout.conditions import signed
from controller.rollout.facts import Release
from controller.rollout.policy import Policy
from controller.rollout.rollout import Rollout, Wanted
from protos.documents import UNCONDITIONAL, Assignment, Directive, Watching
from protos.manifest import target_path


def assignments(
    rows: Iterable[Wanted],
    releases: Mapping[tuple[str, int], Release],
    rollouts: Mapping[str, Rollout],
) -> tuple[Assignment, ...]:
    """The assignments of one device, by model and slot: the same rows give the same tuple.

    What goes back to an earlier version waits for nothing.
    A row whose version is not in ``releases`` is left out: nothing can be said of its bytes.
    """
    found = []
    for row in sorted(rows, key=lambda row: (row.model, row.slot)):
        release = releases.get((row.model, row.version))
        if release is not None:
            policy = _policy(row, rollouts.get(row.rollout))
            found.append(
                Assignment(
                    model=row.model,
                    version=row.version,
                    target=target_path(row.model, row.version),
                    sha256=release.sha256,
                    length=release.length,
                    slot=row.slot,
                    rollout=row.rollout,
                    attempt=row.attempt,
                    conditions=signed(policy.conditions) if policy else UNCONDITIONAL,
                    watching=_signed(policy.watching) if policy else Watching(),
                    soak_seconds=row.soak_seconds,
                )
            )
    return tuple(found)


def says(directive: Directive | None, rows: Sequence[Wanted]) -> bool:
    """Whether the directive is known, without building it, to say what ``assignments`` would.

    A version's bytes and a rollout's policy never change. ``rows`` are in order.
    """
    told = () if directive is None else directive.assignments
    return len(told) == len(rows) and all(
        one.version == row.version
        and one.rollout == row.rollout
        and one.attempt == row.attempt
        and one.soak_seconds == row.soak_seconds
        and one.model == row.model
        and one.slot == row.slot
        for one, row in zip(told, rows, strict=True)
    )


def _policy(row: Wanted, rollout: Rollout | None) -> Policy | None:
    if rollout is None or rollout.version != row.version:
        return None
    return rollout.policy


def _signed(watching: policies.Watching) -> Watching:
    return Watching(rows=watching.window_rows, seconds=watching.window_seconds)
