"""What went wrong, in one shape for every refusal: ``{"error": {code, detail, remedy}}``."""

import logging
import secrets
from collections.abc import Sequence
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from controller.errors import ControllerError

log = logging.getLogger(__name__)


PROBLEM: Final[dict[str, Any]] = {
    "type": "object",
    "description": "The body of every answer that is no success.",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "detail", "remedy"],
            "properties": {
                "code": {"type": "string", "description": "stable: what programs go by"},
                "detail": {"type": "string", "description": "what is wrong, naming the field"},
                "remedy": {"type": "string", "description": "what a person can do"},
            },
        }
    },
}
"""The shape, for the API's description."""

_BY_STATUS: Final = {
    400: ("malformed", "Send what the API's description asks for: /api/v1/openapi.json."),
    404: ("not-found", "See /api/v1/openapi.json for what there is."),
    405: ("method-not-allowed", "See /api/v1/openapi.json for what there is."),
}
_IN_BODY: Final = "Correct what the message names and try again."
_DOCUMENTED: Final = {
    401: "No valid token.",
    403: "The token's role is too low, or a signature is by nobody who may.",
    404: "No such thing.",
    409: "It can't be done in the state that things are in.",
    413: "More bytes than allowed.",
    422: "Something in the request can't be right; the detail names the field.",
}

RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    status: {
        "description": text,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    for status, text in _DOCUMENTED.items()
}
"""The refusals that every route may answer with, for the API's description."""


def answer(status: int, code: str, detail: str, remedy: str) -> JSONResponse:
    """A refusal."""
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    # What a caller sent may stand in the detail, and need not be text that can be written.
    shown = detail.encode("utf-8", "backslashreplace").decode()
    body = {"error": {"code": code, "detail": shown, "remedy": remedy}}
    return JSONResponse(body, status_code=status, headers=headers)


def install(app: FastAPI) -> None:
    """Makes every failure of ``app`` come out in this shape."""
    app.exception_handler(ControllerError)(_refused)
    app.exception_handler(RequestValidationError)(_invalid)
    app.exception_handler(HTTPException)(_http)
    app.exception_handler(UnicodeEncodeError)(_unwritable)
    app.exception_handler(Exception)(_incident)


def refused(error: ControllerError) -> JSONResponse:
    """The answer to a typed error."""
    return answer(error.status, error.code, error.detail, error.remedy)


def _refused(request: Request, error: ControllerError) -> JSONResponse:
    if error.status >= 500:
        log.error("api.failed path=%s code=%s detail=%s", request.url.path, error.code, error)
    return refused(error)


def _invalid(_: Request, error: RequestValidationError) -> JSONResponse:
    wrong = [f"{_field(one['loc'])}: {one['msg']}" for one in error.errors()[:10]]
    return answer(422, "invalid-input", "; ".join(wrong), _IN_BODY)


def _http(_: Request, error: HTTPException) -> JSONResponse:
    code, remedy = _BY_STATUS.get(
        error.status_code, ("http", "See /api/v1/openapi.json for what there is.")
    )
    return answer(error.status_code, code, str(error.detail), remedy)


def _unwritable(_: Request, __: Exception) -> JSONResponse:
    """JSON can name half a character, which no file and no database takes."""
    return answer(422, "invalid-input", "body: text with a lone surrogate, no character", _IN_BODY)


def _incident(request: Request, error: Exception) -> JSONResponse:
    incident = secrets.token_hex(6)
    log.error("api.incident id=%s path=%s", incident, request.url.path, exc_info=error)
    return answer(
        500,
        "incident",
        f"something went wrong that nobody foresaw: incident {incident}",
        f"Look for {incident} in the controller's log.",
    )


def _field(place: Sequence[int | str]) -> str:
    """``("body", "labels", 0)`` as ``body.labels.0``."""
    return ".".join(str(part) for part in place)
