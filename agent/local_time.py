"""The device's time zone: the one that agent.toml names, or else the system's."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from agent.errors import ConfigError

ETC: Final = Path("/etc")
_UNUSABLE: Final = (ZoneInfoNotFoundError, ValueError, OSError)
"""What ``ZoneInfo`` raises for a name that is none: a folder's, or one that leads out of its own."""


def named_zone(name: str) -> ZoneInfo:
    """The zone of that IANA name.

    Raises:
        ConfigError: there is none.
    """
    try:
        return ZoneInfo(name)
    except _UNUSABLE:
        raise ConfigError(
            f"there is no time zone {name!r}; it must be a name such as Europe/Berlin"
        ) from None


def local_zone(name: str = "", etc: Path = ETC) -> ZoneInfo:
    """The zone of that name; the system's if it is empty. UTC if nothing says what that is.

    A zone that the system has under no name has none here either: its ``key`` is None.

    Raises:
        ConfigError: there is no zone of that name.
    """
    if name:
        return named_zone(name)
    for candidate in _system_names(etc):
        try:
            return ZoneInfo(candidate)
        except _UNUSABLE:
            continue
    try:
        with (etc / "localtime").open("rb") as rules:
            return ZoneInfo.from_file(rules)
    except (ValueError, OSError):
        return ZoneInfo("UTC")


def zone_name(name: str = "", etc: Path = ETC) -> str:
    """The IANA name of the device's zone; empty if it has none.

    Raises:
        ConfigError: there is no zone of the name that was given.
    """
    return local_zone(name, etc).key or ""


def _system_names(etc: Path) -> Iterator[str]:
    variable = os.environ.get("TZ")
    if variable is not None:
        yield variable.removeprefix(":") or "UTC"
    try:
        target = (etc / "localtime").readlink().as_posix()
    except OSError:
        pass  # a copy, or nothing
    else:
        _, _, name = target.partition("zoneinfo/")
        yield name.removeprefix("posix/")
    try:
        yield (etc / "timezone").read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return
