"""Arguments with a grammar of their own: versions, and KEY=VALUE; a wrong one is wrong usage."""

import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

import typer

from controller.cli.output import CommandFailed
from protos.limits import MODEL_NAME

_NAMED: Final = re.compile(rf"({MODEL_NAME})(?:/([1-9][0-9]{{0,8}})|@({MODEL_NAME}))?")


class Named(NamedTuple):
    """What MODEL, MODEL/VERSION or MODEL@ALIAS names; ``version`` is 0 and ``alias`` "" if left out."""

    model: str
    version: int
    alias: str


def model_name(text: str) -> str:
    """A model's name.

    Raises:
        typer.BadParameter: it can't be one.
    """
    if not re.fullmatch(MODEL_NAME, text):
        raise typer.BadParameter(
            f"{text!r} is no model's name: lowercase letters, digits and hyphens, such as digits"
        )
    return text


def number(value: float | None) -> float | None:
    """The value of an option: a range alone lets NaN pass, which is neither less nor more.

    Raises:
        typer.BadParameter: it is NaN.
    """
    if value is not None and math.isnan(value):
        raise typer.BadParameter("nan is no number")
    return value


def named(text: str) -> Named:
    """Reads MODEL, MODEL/VERSION or MODEL@ALIAS.

    Raises:
        typer.BadParameter: it is none of them.
    """
    found = _NAMED.fullmatch(text)
    if found is None:
        raise typer.BadParameter(
            f"{text!r} is not MODEL, MODEL/VERSION or MODEL@ALIAS, such as digits/3"
        )
    return Named(found[1], int(found[2] or 0), found[3] or "")


def version_of(text: str) -> tuple[str, int]:
    """Reads MODEL/VERSION.

    Raises:
        typer.BadParameter: it is something else.
    """
    found = _NAMED.fullmatch(text)
    if found is None or not found[2]:
        raise typer.BadParameter(f"{text!r} is not MODEL/VERSION, such as digits/3")
    return found[1], int(found[2])


def require_plain(path: Path) -> None:
    """Returns if the path is no device and no pipe, which may have no end.

    Raises:
        CommandFailed: it is one.
        OSError: it can't be looked at.
    """
    if path.exists() and not path.is_dir() and not path.is_file():
        raise CommandFailed(
            "bad-input", f"{path}: a device or a pipe, no file", "Name a file on a disk."
        )


def pairs(texts: Iterable[str]) -> dict[str, str]:
    """Reads KEY=VALUE, each key once.

    Raises:
        typer.BadParameter: one is something else, or a key comes twice.
    """
    found: dict[str, str] = {}
    for text in texts:
        key, _, value = text.partition("=")
        if not (key and value):
            raise typer.BadParameter(f"{text!r} is not KEY=VALUE")
        if key in found:
            raise typer.BadParameter(f"{key!r} is set twice: to {found[key]!r} and {value!r}")
        found[key] = value
    return found
