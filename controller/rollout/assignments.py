"""From rows of ``wanted`` to what a directive says."""

from collections.abc import Iterable, Mapping

from controller.rollout.facts import Release
from controller.rollout.rollout import Wanted
from protos.documents import Assignment
from protos.manifest import target_path


def assignments(
    rows: Iterable[Wanted], releases: Mapping[tuple[str, int], Release]
) -> tuple[Assignment, ...]:
    """The assignments of one device, by model and slot: the same rows give the same tuple.

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
                )
            )
    return tuple(found)
