"""Whether the link to the controller is up, and if not why: left where a command beside finds it."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final, NoReturn

import msgspec

from agent.clock import Clock
from agent.errors import AgentError, TransportError

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 1.0


class LinkState(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the link stands.

    Attributes:
        since: Unix seconds; since when it is so.
        via: the route by which it goes, as ``[connecting] transports`` names it; empty while it is down.
        code: of the error that keeps it down; empty while it is up, and before the first attempt.
        refused: whether the controller, or the device, said no: a person must act first.
    """

    up: bool
    since: Annotated[float, msgspec.Meta(ge=0, le=1e11)]
    via: str = ""
    code: str = ""
    detail: str = ""
    remedy: str = ""
    refused: bool = False


class LinkNote:
    """Keeps the note true while the agent runs. It stays afterwards: how the link stood last."""

    def __init__(
        self,
        path: Path,
        via: Callable[[], str],
        last_error: Callable[[], AgentError | None],
        clock: Clock,
    ) -> None:
        """``via`` is the route of the live link, empty if there is none."""
        self._path = path
        self._via = via
        self._last_error = last_error
        self._clock = clock
        self._noted: LinkState | None = None

    async def run(self) -> NoReturn:
        """Never returns; ends when it is cancelled."""
        while True:
            state = self._state()
            if state != self._noted:
                await asyncio.to_thread(_write, self._path, state)
                self._noted = state
            await self._clock.sleep(LOOK_SECONDS)

    def _state(self) -> LinkState:
        """As it is now; ``since`` stays while it is up by one route, or down for the same code."""
        via, error = self._via(), self._last_error()
        down = None if via else error
        state = LinkState(
            up=bool(via),
            since=self._clock.now().timestamp(),
            via=via,
            code=down.code if down else "",
            detail=down.detail if down else "",
            remedy=down.remedy if down else "",
            refused=down is not None and not isinstance(down, TransportError),
        )
        before = self._noted
        if before is not None and (before.via, before.code) == (state.via, state.code):
            return msgspec.structs.replace(state, since=before.since)
        return state


def read_link(path: Path) -> LinkState | None:
    """What was noted last; None if nothing was, or it can't be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=LinkState)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None


def _write(path: Path, state: LinkState) -> None:
    """Whole or not at all; a full disk costs the note and nothing else."""
    fresh = path.with_name(f".{path.name}.new")
    try:
        fresh.write_bytes(msgspec.json.encode(state))
        fresh.replace(path)
    except OSError as error:
        log.warning("link.not-noted detail=%s: %s", path, error.strerror)
