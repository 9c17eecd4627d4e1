"""What a device has learnt, as the arrays of its reply; and the parameters that came with its task.

With int8 steps, what rounding takes from one update goes into the next of the same run (error
feedback, https://arxiv.org/abs/1901.09847): so nothing is lost for good, and the sum of what was sent
is off from the sum of what was learnt by the rounding of the last one alone.

    wanted = (after - before) + carry
    step   = quantised(wanted)
    carry' = wanted - step
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Final

import numpy as np
from google.protobuf.message import DecodeError

from agent.federated.errors import NotFinite, ParametersUnfit
from agent.federated.parameters import Parameters
from protos.errors import DocumentError
from protos.flower import arrays, message_pb2
from protos.int8_step import quantised
from protos.train_step import TrainStepSpec

Shield = Callable[[Parameters], Parameters]
"""The seam for privacy: what is done to the difference, of all parameters, before it is encoded.

Here masks or noise come in, and clipping before them: whatever leaves the device has been through it.
It keeps names, shapes and float32. It works on what was learnt in this round, without the carry of
earlier ones, which have been through it already.
"""

MOST_OVERHEAD: Final = 512
"""Bytes of an array beside its values and its name: field headers, and the header of a .npy file."""


def unshielded(difference: Parameters) -> Parameters:
    """Nothing is hidden: the controller sees what each device has learnt."""
    return difference


@dataclass(frozen=True, slots=True)
class Update:
    """The arrays of a reply, and what rounding has left for the run's next one."""

    record: message_pb2.ArrayRecord
    carry: Parameters


def most_bytes(spec: TrainStepSpec) -> int:
    """Of a serialised array record of the step's parameters as float32."""
    return sum(
        4 * prod(one.shape) + 2 * len(one.name.encode()) + MOST_OVERHEAD for one in spec.parameters
    )


def read_parameters(data: bytes, spec: TrainStepSpec) -> Parameters:
    """The float32 parameters in a serialised array record, in the order of ``spec``.

    Raises:
        ParametersUnfit: too large, malformed, or not those of the step; names one that differs.
    """
    most = most_bytes(spec)
    if len(data) > most:
        raise ParametersUnfit(f"parameters: {len(data)} bytes; {most} at most")
    try:
        record = message_pb2.ArrayRecord.FromString(data)
    except DecodeError as error:
        raise ParametersUnfit("parameters: not an array record") from error
    found = {item.key: item.value for item in record.items}
    foreign = sorted(found.keys() ^ {one.name for one in spec.parameters})
    if foreign or len(record.items) != len(spec.parameters):
        raise ParametersUnfit(f"parameter {(foreign or ['?'])[0]!r}: missing, doubled or unknown")
    try:
        return {one.name: arrays.read_npy(found[one.name], one.shape) for one in spec.parameters}
    except DocumentError as error:
        raise ParametersUnfit(f"parameters: {error.detail}") from error


def write_parameters(parameters: Parameters) -> bytes:
    """A serialised array record, each array as it is."""
    return _record(
        {name: arrays.npy(array) for name, array in parameters.items()}
    ).SerializeToString(deterministic=True)


def as_steps(
    before: Parameters, after: Parameters, carry: Parameters, shield: Shield = unshielded
) -> Update:
    """The update as int8 steps from ``before``; ``carry`` is empty in a run's first update.

    Raises:
        NotFinite: a parameter has moved to where no float32 is.
    """
    learnt = shield(_difference(before, after))
    encoded, left = {}, {}
    for name, difference in learnt.items():
        wanted = np.add(difference, carry[name]) if name in carry else difference
        if not np.isfinite(wanted).all():
            raise NotFinite(f"parameter {name!r}: its update is not finite")
        step = quantised(np.asarray(wanted))
        encoded[name] = arrays.int8_step(step)
        left[name] = np.asarray(wanted - step.difference())
    return Update(_record(encoded), left)


def as_floats(before: Parameters, after: Parameters, shield: Shield = unshielded) -> Update:
    """The update as float32 arrays; nothing is left for the next one.

    Raises:
        NotFinite: as ``as_steps``.
    """
    learnt = _difference(before, after)
    shielded = shield(learnt)
    moved = {
        # What nobody has touched arrives to the bit; adding the difference may be off by the last.
        name: after[name]
        if shielded[name] is learnt[name]
        else np.asarray(before[name] + shielded[name])
        for name in learnt
    }
    for name, array in moved.items():
        if not np.isfinite(array).all():
            raise NotFinite(f"parameter {name!r}: its update is not finite")
    return Update(_record({name: arrays.npy(array) for name, array in moved.items()}), {})


def fitting(carry: Parameters, before: Parameters) -> Parameters:
    """The carry, if it is of these parameters; else none: it is of another model's."""
    same = {name: array.shape for name, array in carry.items()} == {
        name: array.shape for name, array in before.items()
    }
    return carry if same else {}


def read_carry(data: bytes, before: Parameters) -> Parameters:
    """What ``write_parameters`` made of a carry; nothing if it can't be read for ``before``."""
    try:
        record = message_pb2.ArrayRecord.FromString(data)
        shapes = {name: array.shape for name, array in before.items()}
        found = {
            item.key: arrays.read_npy(item.value, shapes[item.key])
            for item in record.items
            if item.key in shapes
        }
    except (DecodeError, DocumentError):
        return {}
    return fitting(found, before)


def _difference(before: Parameters, after: Parameters) -> Parameters:
    with np.errstate(over="ignore", invalid="ignore"):  # judged by whoever encodes it
        return {name: np.asarray(after[name] - before[name]) for name in before}


def _record(encoded: Mapping[str, message_pb2.Array]) -> message_pb2.ArrayRecord:
    items = [message_pb2.ArrayRecord.Item(key=name, value=array) for name, array in encoded.items()]
    return message_pb2.ArrayRecord(items=items)
