"""Values of a file as TOML."""

import json
import re
from collections.abc import Mapping
from typing import Any, Final, get_args

from pydantic.fields import FieldInfo

from controller.toml_file.duration import seconds_of, written

MOST_SHOWN: Final = 60
BARE: Final = re.compile(r"[A-Za-z0-9_-]+")
"""A key that stands without quotes."""


def as_toml(value: Any, field: FieldInfo) -> str:
    """A value of the key as a file bears it."""
    if is_duration(field) and not isinstance(value, str):
        return json.dumps(written(value))
    if isinstance(value, Mapping):
        inner = ", ".join(f"{_key(name)} = {as_toml(one, field)}" for name, one in value.items())
        return f"{{ {inner} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(as_toml(one, field) for one in value)}]"
    if isinstance(value, str) and "T" in value and value[:2] == "20":
        return value  # a date and time has no quotes
    return f"{value:g}" if isinstance(value, float) else json.dumps(value)


def _key(name: str) -> str:
    return name if BARE.fullmatch(name) else json.dumps(name)


def is_duration(field: FieldInfo) -> bool:
    """Whether the key takes ``30m``."""
    inner = [one for kind in get_args(field.annotation) for one in get_args(kind)]
    return any(getattr(one, "func", None) is seconds_of for one in (*field.metadata, *inner))


def in_short(text: str) -> str:
    """The text, or its beginning."""
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}…"
