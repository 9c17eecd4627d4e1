"""What a running agent notes of its link."""

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.errors import AgentError, Refused, TransportError
from agent.link_note import LinkNote, LinkState, read_link

REVOKED = Refused("device-revoked", "'cam-1' was revoked", "Enrol it anew.")


@dataclass
class Link:
    """How the link stands at each look, and a clock that goes on by ten seconds between them."""

    moments: list[tuple[str, AgentError | None]]
    path: Path
    seconds: float = 0.0
    seen: list[LinkState | None] = field(default_factory=list)

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.seconds, UTC)

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, _: float) -> None:
        self.seen.append(read_link(self.path))
        self.seconds += 10.0
        self.moments.pop(0)
        if not self.moments:
            raise asyncio.CancelledError


async def noted(link: Link) -> list[LinkState | None]:
    note = LinkNote(link.path, lambda: link.moments[0][0], lambda: link.moments[0][1], link)
    with pytest.raises(asyncio.CancelledError):
        await note.run()
    return link.seen


async def test_it_says_since_when_the_link_is_up_and_why_it_is_not(tmp_path: Path) -> None:
    moments: list[tuple[str, AgentError | None]] = [
        ("", None),
        ("mqtt", None),
        ("mqtt", None),
        ("grpc", None),
        ("", TransportError("nobody answers")),
        ("", REVOKED),
        ("", REVOKED),
    ]

    seen = await noted(Link(moments, tmp_path / "link.json"))

    assert [(one.up, one.via, one.since, one.code, one.refused) for one in seen if one] == [
        (False, "", 0.0, "", False),
        (True, "mqtt", 10.0, "", False),
        (True, "mqtt", 10.0, "", False),
        (True, "grpc", 30.0, "", False),
        (False, "", 40.0, "transport", False),
        (False, "", 50.0, "device-revoked", True),
        (False, "", 50.0, "device-revoked", True),
    ]
    assert seen[-1] is not None
    assert (seen[-1].detail, seen[-1].remedy) == ("'cam-1' was revoked", "Enrol it anew.")


async def test_a_note_that_cannot_be_written_ends_nothing(tmp_path: Path) -> None:
    seen = await noted(Link([("grpc", None), ("", None)], tmp_path / "gone" / "link.json"))

    assert seen == [None, None]


@pytest.mark.parametrize("text", ["", "[]", '{"up": true}', '{"up": true, "since": 1e300}', "\0"])
def test_a_damaged_note_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "link.json").write_text(text)

    assert read_link(tmp_path / "link.json") is None
