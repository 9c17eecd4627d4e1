"""From rows of ``wanted`` to what a directive says."""

from collections.abc import Iterable, Mapping, Sequence

from controller.rollout.conditions import Conditions, signed
from controller.rollout.facts import Release
from controller.rollout.rollout import Rollout, Wanted
from protos.documents import Assignment, Directive
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
                    conditions=signed(_conditions(row, rollouts.get(row.rollout))),
                )
            )
    return tuple(found)


def says(directive: Directive | None, rows: Sequence[Wanted]) -> bool:
    """Whether the directive is known, without building it, to say what ``assignments`` would.

    A version's bytes and a rollout's conditions never change. ``rows`` are in order.
    """
    told = () if directive is None else directive.assignments
    return len(told) == len(rows) and all(
        one.version == row.version
        and one.rollout == row.rollout
        and one.attempt == row.attempt
        and one.model == row.model
        and one.slot == row.slot
        for one, row in zip(told, rows, strict=True)
    )


def _conditions(row: Wanted, rollout: Rollout | None) -> Conditions:
    if rollout is None or rollout.version != row.version:
        return Conditions()
    return rollout.policy.conditions
