"""Transpositions in the form that the runtime is fastest with."""

from collections.abc import Mapping, Sequence

from onnx import NodeProto

from controller.train_step.emitter import node
from controller.train_step.forms.forward import Forward
from controller.train_step.graph import Attributes, is_standard
from controller.train_step.transposition import transposed


def keep_parts_in_place(forward: Forward) -> None:
    """Where a Transpose brings an axis to the front only to be split there, lets it stay.

    The parts lose the axis anyhow; queries, keys and values are then moved together, in one piece.
    """
    users = forward.users()
    for moved in list(forward.nodes):
        if not is_standard(moved, "Transpose") or not forward.trains(moved):
            continue
        output = moved.output[0]
        behind = users.get(output, [])
        if len(behind) == 1 and output != forward.output and is_standard(behind[0], "Split"):
            _keep(forward, users, moved, behind[0])


def _keep(
    forward: Forward, users: Mapping[str, Sequence[NodeProto]], moved: NodeProto, split: NodeProto
) -> None:
    order = Attributes(moved).integers("perm", [])
    place = Attributes(split).integer("axis", 0)
    axis = order[place]
    squeezes = [user for part in split.output for user in users.get(part, [])]
    lone = all(is_standard(one, "Squeeze") and len(one.input) == 2 for one in squeezes)
    lone = lone and all(
        forward.integers(one.input[1]) in ([place], [place - len(order)]) for one in squeezes
    )
    if not lone or any(forward.length(part, place) != 1 for part in split.output):
        return
    if axis + 1 == len(order):
        return
    order.remove(axis)
    new_place = order.index(axis + 1)
    order.insert(new_place, axis)
    source = forward.shapes[moved.input[0]]
    forward.shapes[moved.output[0]] = tuple(source[one] for one in order)
    for part in split.output:
        shape = list(forward.shapes[part])
        del shape[place]
        forward.shapes[part] = (*shape[:new_place], (1, 1), *shape[new_place:])
    before, e = moved.output[0], forward.emitter
    forward.replace([moved], [node("Transpose", [moved.input[0]], [before], perm=order)], at=moved)
    parted = node("Split", list(split.input), list(split.output), axis=new_place)
    forward.replace([split], [parted], at=split)
    at = e.integers([new_place])
    for one in squeezes:
        forward.replace([one], [node("Squeeze", [one.input[0], at], list(one.output))], at=one)


def move_inwards(forward: Forward) -> None:
    """Rewrites each Transpose as ``transposed`` does; for the end, as it hides what they are."""
    for moved in list(forward.nodes):
        if is_standard(moved, "Transpose") and forward.trains(moved):
            source = moved.input[0]
            order = Attributes(moved).integers("perm", range(len(forward.shapes[source]))[::-1])
            nodes = transposed(
                forward.emitter, source, order, forward.shapes[source], moved.output[0]
            )
            forward.replace([moved], nodes, at=moved)
