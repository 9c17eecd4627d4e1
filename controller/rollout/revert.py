"""What a device ran before: where an aborted rollout can put it back to."""

from collections.abc import Iterable, Mapping

from controller.rollout.facts import Release
from controller.rollout.rollout import Wanted
from protos.documents import Report, SlotReport


def previous_committed(
    row: Wanted, reports: Iterable[Report], releases: Mapping[tuple[str, int], Release]
) -> Release | None:
    """The version that the place of ``row`` ran, committed, before the one it wants now.

    Args:
        row: the place, and the version to leave.
        reports: what the device has signed, newest first.
        releases: versions that are known; only published ones are gone back to.
    """
    for report in reports:
        for slot in report.running:
            release = releases.get((slot.model, slot.version))
            if release is not None and _ran(row, slot, release):
                return release
    return None


def _ran(row: Wanted, slot: SlotReport, release: Release) -> bool:
    return (
        (slot.model, slot.slot) == (row.model, row.slot)
        and slot.version != row.version
        and slot.state == "committed"
        and slot.manifest_sha256 == release.sha256
        and release.published
    )
