"""What others are told when an install or a slot has changed."""

from typing import Final

import msgspec

from agent.install.gates import OutsideWindow
from agent.install.machine import State
from agent.install.record import Install

_MOVED: Final = {state: f"install.{state}" for state in State}


class Change(msgspec.Struct, frozen=True):
    """One durable change, named as an event is: "install.committed", "slot.retired".

    Attributes:
        version: 0 where no single one is meant.
        code: an error's code, where there is one; ``detail`` then says what is wrong.
        fields: what a person would ask next, by name.
    """

    name: str
    model: str
    slot: str
    version: int = 0
    code: str = ""
    detail: str = ""
    fields: tuple[tuple[str, str], ...] = ()


def change_of(before: Install | None, after: Install) -> Change | None:
    """What to tell about a new record of an install; None if nobody would ask."""
    moved = before is None or (before.sha256, before.state) != (after.sha256, after.state)
    if after.not_before and after.state is not State.REVERTING:
        known = before is not None and waits_alike(before, after)
        name = "" if known else "install.deferred"
    else:
        name = _MOVED[after.state] if moved else ""
    if not name:
        return None
    return Change(
        name, after.model, after.slot, after.version, after.code, after.detail, fields_of(after)
    )


def fields_of(after: Install) -> tuple[tuple[str, str], ...]:
    """What it took to get the files, as soon as that is known."""
    if after.state is not State.CHECKING or after.not_before:
        return ()
    return ("fetched_bytes", str(after.fetched_bytes)), ("model_bytes", str(after.model_bytes))


def waits_alike(before: Install, after: Install) -> bool:
    """Whether people know already that it waits, and what for; another window is another thing."""
    other_window = after.code == OutsideWindow.code and before.detail != after.detail
    return (before.state, before.code) == (after.state, after.code) and not other_window
