"""Truths and examples as REST carries them.

``POST /v2/models/MODEL[/versions/VERSION]/feedback``: ``{"id": ID, "truth": [...]}`` for the request of
that id, or ``{"feedback": [{"id": …, "truth": […]}, …]}`` for many, each of which is answered by itself.

``POST /v2/models/MODEL[/versions/VERSION]/examples``: an inference request (binary tensors too) with
``"truth": [...]`` beside its inputs; with an ``id``, told again it replaces what it told before.
"""

from typing import Annotated, Any, Final

import msgspec

from agent.errors import AgentError, InvalidRequest
from agent.serving.collecting import Collecting
from agent.serving.rest_request import parse
from agent.serving.rest_response import Response, as_json

MOST_AT_ONCE: Final = 10_000


class _Feedback(msgspec.Struct):
    id: Annotated[str, msgspec.Meta(min_length=1)]
    truth: list[Any]


class _Many(msgspec.Struct):
    feedback: Annotated[list[_Feedback], msgspec.Meta(max_length=MOST_AT_ONCE)]


class _Which(msgspec.Struct):
    feedback: msgspec.Raw = msgspec.Raw()


class _Truth(msgspec.Struct):
    truth: list[Any] | None = None


_which = msgspec.json.Decoder(_Which)
_one = msgspec.json.Decoder(_Feedback)
_many = msgspec.json.Decoder(_Many)
_truth = msgspec.json.Decoder(_Truth)


def of_feedback(collecting: Collecting, model: str, version: int | None, body: bytes) -> Response:
    """How many rows were kept; of many, for each.

    Raises:
        InvalidRequest: the body is no feedback.
        AgentError: what ``Collecting.feedback`` raises, if it is one.
    """
    try:
        if not memoryview(_which.decode(body).feedback):
            one = _one.decode(body)
            kept = collecting.feedback(model, version, one.id, one.truth)
            return as_json(200, {"id": one.id, "kept": kept})
        many = _many.decode(body).feedback
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"request: {error}") from error
    return as_json(200, {"feedback": [_told(collecting, model, version, one) for one in many]})


def _told(
    collecting: Collecting, model: str, version: int | None, one: _Feedback
) -> dict[str, Any]:
    try:
        return {"id": one.id, "kept": collecting.feedback(model, version, one.id, one.truth)}
    except AgentError as error:
        return {"id": one.id, "error": error.detail, "code": error.code}


def of_examples(
    collecting: Collecting,
    model: str,
    version: int | None,
    body: bytes,
    header_length: int | None,
) -> Response:
    """How many rows were kept.

    Raises:
        InvalidRequest: the body is no inference request.
        AgentError: what ``Collecting.add`` raises.
    """
    request = parse(body, header_length)
    try:
        truth = _truth.decode(memoryview(body)[:header_length]).truth
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"request: {error}") from error
    kept = collecting.add(model, version, request.inputs, truth, request.id or "")
    return as_json(200, {"kept": kept})
