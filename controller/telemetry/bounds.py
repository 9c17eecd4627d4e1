"""What one record may say: sizes and shapes, so that nobody's device can fill or break the store."""

import re
from typing import Final

from controller.errors import InvalidInput
from protos.limits import KIB, MODEL_NAME

NUMBER: Final = 2**53
"""Counts and counters are below this: exact in every database and in JSON."""
VERSION: Final = 2**31
WINDOW_BYTES: Final = 256 * KIB
READING_BYTES: Final = KIB
FINDINGS: Final = 512
SLOTS: Final = 64  # of one report
NAME: Final = 128
TEXT: Final = 2_000
FIELDS: Final = 32  # of one event
DAY_MS: Final = 86_400_000
AHEAD_MS: Final = 300_000  # a clock may be five minutes fast before it is called wrong
FIRST_MS: Final = 1_577_836_800_000  # 2020-01-01: before Muster was, no clock was set
RESERVED: Final = "telemetry.rejected"
"""The event that the controller writes in the place of a record that it can't take."""

_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_MODEL: Final = re.compile(MODEL_NAME)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


class Unacceptable(Exception):
    """A record that can't be taken; the message names the field.

    Attributes:
        code: stable and machine-readable.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


def number(field: str, value: int, below: int = NUMBER) -> int:
    """The value, if it is from 0 to ``below``, without it."""
    if not 0 <= value < below:
        raise Unacceptable("out-of-range", f"{field}: {value} is not from 0 to {below - 1}")
    return value


def model_name(field: str, value: str) -> str:
    """The value, if a model may have this name."""
    if not _MODEL.fullmatch(value):
        raise Unacceptable("malformed", f"{field}: {value[:NAME]!r} is no model's name")
    return value


def digest(field: str, value: str) -> str:
    """The value, if it is a SHA-256 in lowercase hex."""
    if not _SHA256.fullmatch(value):
        raise Unacceptable("malformed", f"{field}: {value[:NAME]!r} is no SHA-256")
    return value


def name(field: str, value: str) -> str:
    """The value, if it is something to know a thing by: not empty, short, on one line."""
    if not 0 < len(value) <= NAME or _CONTROL.search(value):
        raise Unacceptable("malformed", f"{field}: {value[:NAME]!r} can't be a name")
    return value


def text(value: str, longest: int = TEXT) -> str:
    """The beginning of what is only for people to read, without NUL, which not every store takes."""
    return value[:longest].replace("\x00", "\N{REPLACEMENT CHARACTER}")


def spool_id(value: str) -> str:
    """The value, if it can name a spool.

    Raises:
        InvalidInput: it can't.
    """
    if not 0 < len(value) <= NAME or _CONTROL.search(value):
        raise InvalidInput(f"spool_id: {value[:NAME]!r} can't name a spool")
    return value


def plausible_ms(told_ms: int, now_ms: int) -> int:
    """When something was, by the device's clock if that can be, else now.

    A time in the future would outlive every retention, and one from before there was Muster
    (a device without a battery begins in 1970) would end before it was looked at.
    """
    unset = told_ms < min(FIRST_MS, now_ms - DAY_MS)
    return now_ms if unset or told_ms > now_ms + AHEAD_MS else told_ms
