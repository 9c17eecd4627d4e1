"""A value that is taken apart by several nodes, by one: the gradients of the parts are then joined.

Otherwise each part's is filled up with zeros, and all are summed: 150 against 20 microseconds for
queries, keys and values of 48 k elements.
"""

from itertools import pairwise
from typing import NamedTuple

from onnx import NodeProto

from controller.train_step.emitter import node
from controller.train_step.forms.forward import Forward
from controller.train_step.graph import Attributes, is_standard


class Part(NamedTuple):
    """What a node takes of a value: one run along an axis; ``lone`` if that axis is gone then."""

    axis: int
    start: int
    end: int
    lone: bool
    node: NodeProto


def split_parts(forward: Forward) -> None:
    """Makes one Split of the Slices, and of the Gathers of one index, that share a value out."""
    for name, users in forward.users().items():
        if name not in forward.active or len(users) < 2:
            continue
        parts = [_part(forward, name, user) for user in users]
        known = sorted((part for part in parts if part is not None), key=lambda part: part[:3])
        if len(known) == len(users) and _whole(forward, name, known):
            _split(forward, name, known)


def _part(forward: Forward, name: str, user: NodeProto) -> Part | None:
    if user.input[0] != name or not forward.trains(user):
        return None
    if is_standard(user, "Gather"):
        return _index(forward, name, user)
    return _run(forward, name, user) if is_standard(user, "Slice") else None


def _index(forward: Forward, name: str, user: NodeProto) -> Part | None:
    index, shape = forward.integers(user.input[1]), forward.shapes[user.input[1]]
    axis = Attributes(user).integer("axis", 0) % len(forward.shapes[name])
    length = forward.length(name, axis)
    if index is None or shape or length < 0:
        return None
    start = index[0] % length
    return Part(axis, start, start + 1, lone=True, node=user)


def _run(forward: Forward, name: str, user: NodeProto) -> Part | None:
    starts, ends, axes, steps = (
        forward.integers(one) if one else [1] for one in [*user.input, "", ""][1:5]
    )
    if starts is None or ends is None or axes is None or steps != [1]:
        return None
    axis = axes[0] % len(forward.shapes[name])
    length = forward.length(name, axis)
    told = len(user.input) > 3 and all(user.input[1:4])
    if not told or not len(axes) == len(starts) == 1 or length < 0:
        return None
    start, end, _ = slice(starts[0], ends[0]).indices(length)
    return Part(axis, start, end, lone=False, node=user)


def _whole(forward: Forward, name: str, parts: list[Part]) -> bool:
    """Whether each element is in one of the parts, and in one only; they are sorted."""
    axis = parts[0].axis
    if any(part.axis != axis or part.end <= part.start for part in parts):
        return False
    joined = all(one.end == other.start for one, other in pairwise(parts))
    return joined and parts[0].start == 0 and parts[-1].end == forward.length(name, axis)


def _split(forward: Forward, name: str, parts: list[Part]) -> None:
    e, axis = forward.emitter, parts[0].axis
    outputs, squeezes = list[str](), list[NodeProto]()
    for part in parts:
        output = part.node.output[0]
        if part.lone:
            shape = list(forward.shapes[output])
            wide = forward.made("part", [*shape[:axis], (1, 1), *shape[axis:]])
            squeezes.append(node("Squeeze", [wide, e.integers([axis])], [output]))
            output = wide
        outputs.append(output)
    lengths = e.integers([part.end - part.start for part in parts])
    split = node("Split", [name, lengths], outputs, axis=axis)
    old = [part.node for part in parts]
    first = next(one for one in forward.nodes if any(one is part for part in old))
    forward.replace(old, [split, *squeezes], at=first)
