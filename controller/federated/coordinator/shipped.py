"""What devices evaluate in the end: the parameters as the version will have them, to the bit."""

from controller.candidate.grid import rounded
from controller.federated.coordinator.request import arrays_of, written_arrays
from controller.federated.plan import Plan
from controller.federated.schedule import Place


def to_evaluate(plan: Plan, place: Place, parent: bytes, trained: bytes) -> bytes:
    """The array record that is evaluated at ``place``, of those of the parent and of what was trained.

    After the last round it is what becomes a version: rounded to the grid of its int8 step.

    Raises:
        NoCandidate: the parameters are not finite, or not the parent's.
    """
    if place.round < max(plan.run.rounds, 1):
        return trained
    return shipped(plan, parent, trained)


def shipped(plan: Plan, parent: bytes, trained: bytes) -> bytes:
    """The array record of what becomes of what was trained.

    Raises:
        NoCandidate: as ``to_evaluate``.
    """
    if not plan.candidate.registered:
        return trained
    return written_arrays(rounded(arrays_of(parent), arrays_of(trained)))
