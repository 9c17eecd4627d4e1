"""An inference request as REST carries it: JSON, with raw tensors behind it where they are announced.

The binary tensor extension: the body is ``Inference-Header-Content-Length`` bytes of JSON, then the
data of those inputs that have a ``binary_data_size``, in their order.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec

from agent.errors import InvalidRequest
from agent.inference.datatypes import MAX_RANK, Array, from_json, from_raw

Axis = Annotated[int, msgspec.Meta(ge=0)]


class _Input(msgspec.Struct):
    name: str
    shape: Annotated[list[Axis], msgspec.Meta(max_length=MAX_RANK)]
    datatype: str
    parameters: dict[str, Any] | None = None
    data: msgspec.Raw = msgspec.Raw()


class _Output(msgspec.Struct):
    name: str
    parameters: dict[str, Any] | None = None


class _Request(msgspec.Struct):
    inputs: list[_Input]
    id: str | None = None
    parameters: dict[str, Any] | None = None
    outputs: list[_Output] | None = None


_decoder = msgspec.json.Decoder(_Request)


@dataclass(frozen=True, slots=True)
class RestRequest:
    """What is asked.

    Attributes:
        id: to be echoed; None if there was none.
        outputs: those asked for; empty means all.
        binary: outputs that are wanted as raw bytes; other outputs as ``binary_default`` says.
    """

    id: str | None
    inputs: Mapping[str, Array]
    outputs: tuple[str, ...]
    binary: Mapping[str, bool]
    binary_default: bool

    def wants_binary(self, output: str) -> bool:
        """Whether ``output`` is to be answered as raw bytes."""
        return self.binary.get(output, self.binary_default)


def parse(body: bytes, header_length: int | None) -> RestRequest:
    """The request in ``body``, whose first ``header_length`` bytes are JSON; None: all of it.

    Raises:
        InvalidRequest: it is none; names the field or the input.
    """
    view = memoryview(body)
    if header_length is not None and not 0 <= header_length <= len(view):
        raise InvalidRequest(
            f"Inference-Header-Content-Length: {header_length}, of a body of {len(view)} bytes"
        )
    try:
        request = _decoder.decode(view[:header_length])
    except (ValueError, RecursionError) as error:  # msgspec's own, and text that is no UTF-8
        raise InvalidRequest(f"request: {error}") from error
    tail = view[len(view) if header_length is None else header_length :]
    outputs = request.outputs or []
    return RestRequest(
        id=request.id,
        inputs=_inputs(request.inputs, tail),
        outputs=tuple(one.name for one in outputs),
        binary={
            one.name: _flag(f"output {one.name!r}", one.parameters, "binary_data")
            for one in outputs
            if "binary_data" in (one.parameters or {})
        },
        binary_default=_flag("request", request.parameters, "binary_data_output"),
    )


def _inputs(tensors: list[_Input], tail: memoryview) -> Mapping[str, Array]:
    found: dict[str, Array] = {}
    at = 0
    for one in tensors:
        if one.name in found:
            raise InvalidRequest(f"input {one.name!r}: stands there twice")
        size = _size(one)
        if size is None:
            if not memoryview(one.data):
                raise InvalidRequest(f"input {one.name!r}: no data, and no binary_data_size")
            found[one.name] = from_json(one.name, one.datatype, one.shape, memoryview(one.data))
            continue
        if memoryview(one.data):
            raise InvalidRequest(f"input {one.name!r}: both data and a binary_data_size")
        if at + size > len(tail):
            raise InvalidRequest(
                f"input {one.name!r}: binary_data_size is {size}; {len(tail) - at} bytes are left"
            )
        found[one.name] = from_raw(one.name, one.datatype, one.shape, tail[at : at + size])
        at += size
    if at != len(tail):
        raise InvalidRequest(
            f"request: {len(tail) - at} bytes of binary data that no input has a binary_data_size for"
        )
    return found


def _size(one: _Input) -> int | None:
    parameters = one.parameters or {}
    if "shared_memory_region" in parameters:
        raise InvalidRequest(f"input {one.name!r}: shared memory is not served here")
    size = parameters.get("binary_data_size")
    if size is not None and (type(size) is not int or size < 0):
        raise InvalidRequest(
            f"input {one.name!r}: binary_data_size is no number of bytes: {size!r}"
        )
    return size


def _flag(what: str, parameters: dict[str, Any] | None, name: str) -> bool:
    value = (parameters or {}).get(name, False)
    if not isinstance(value, bool):
        raise InvalidRequest(f"{what}: {name} is neither true nor false: {value!r}")
    return value
