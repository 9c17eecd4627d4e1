"""Responses of the REST face, as status, headers and body."""

from dataclasses import dataclass
from typing import Any, Final

import msgspec

from agent.errors import (
    AgentError,
    InvalidRequest,
    NotReady,
    Overloaded,
    RequestTooLarge,
    UnknownModel,
)
from agent.federated.errors import NotCollecting, UnknownRequest
from agent.inference.actions import Answer
from agent.inference.datatypes import DATATYPES, datatype_of, to_json, to_raw
from agent.serving.exposition import CONTENT_TYPE
from agent.serving.rest_request import RestRequest

Headers = tuple[tuple[bytes, bytes], ...]

_JSON: Final = (b"content-type", b"application/json")
_BINARY: Final = (b"content-type", b"application/octet-stream")
_encode: Final = msgspec.json.Encoder().encode

# The first class that fits decides.
_STATUS: Final[tuple[tuple[type[AgentError], int], ...]] = (
    (RequestTooLarge, 413),
    (InvalidRequest, 400),
    (UnknownModel, 404),
    (UnknownRequest, 404),
    (NotCollecting, 409),
    (NotReady, 503),
    (Overloaded, 503),
)


@dataclass(frozen=True, slots=True)
class Response:
    """What goes back."""

    status: int
    body: bytes
    headers: Headers


def as_json(status: int, value: Any, *more: tuple[bytes, bytes]) -> Response:
    """``value`` as JSON."""
    return Response(status, _encode(value), (_JSON, *more))


def as_text(body: bytes) -> Response:
    """A page of metrics."""
    return Response(200, body, ((b"content-type", CONTENT_TYPE),))


def as_error(status: int, text: str, *more: tuple[bytes, bytes]) -> Response:
    """``{"error": text}``."""
    return as_json(status, {"error": text}, *more)


def of_error(error: AgentError) -> Response:
    """The status that the error's class has, and its text."""
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
    # What is left of a body that was too large is not read.
    close = ((b"connection", b"close"),) if status == 413 else ()
    return as_error(status, error.detail, *close)


def of_answer(model: str, request: RestRequest, answer: Answer) -> Response:
    """The outputs: as JSON, or as raw bytes behind it where that was asked for.

    Raises:
        InvalidRequest: JSON was asked for where there is none; names the output.
    """
    head: dict[str, Any] = {"model_name": model, "model_version": str(answer.version)}
    if request.id is not None:
        head["id"] = request.id
    tails: list[bytes] = []
    outputs: list[dict[str, Any]] = []
    for name, array in answer.outputs.items():
        datatype = datatype_of(array.dtype)
        tensor: dict[str, Any] = {"name": name, "datatype": datatype, "shape": array.shape}
        if request.wants_binary(name):
            tails.append(to_raw(array))
            tensor["parameters"] = {"binary_data_size": len(tails[-1])}
        elif DATATYPES[datatype].element is None:
            raise InvalidRequest(
                f"output {name!r}: {datatype} has no JSON form; ask for binary data"
            )
        else:
            tensor["data"] = to_json(array)
        outputs.append(tensor)
    head["outputs"] = outputs
    body = _encode(head)
    if not tails:
        return Response(200, body, (_JSON,))
    length = (b"inference-header-content-length", str(len(body)).encode())
    return Response(200, b"".join((body, *tails)), (_BINARY, length))
