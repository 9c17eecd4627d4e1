"""What `status` and `doctor` say of the worst states: no agent, no link, shut out, expired."""

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from agent.doctor import examine
from agent.home import Home
from agent.install.record import Deployed, Slot
from agent.link_note import LinkState
from agent.status import read_status
from agent.store.database import LOCK_NAME
from agent.store.sqlite_store import SqliteStore
from protos.mirror import metadata_path
from simulations.demo.processes import SCRIPTS
from tests.agent.cli.machine import Agent, Gate, configure
from tests.contracts.mirrors import Site, serving

SINCE = datetime(2026, 5, 1, 12, 30, tzinfo=UTC)
REVOKED = LinkState(
    up=False,
    since=SINCE.timestamp(),
    code="device-revoked",
    detail="'cam-1' was revoked",
    remedy="Enrol it anew.",
    refused=True,
)
SILENT = LinkState(up=False, since=SINCE.timestamp(), code="transport", detail="nobody answers")


@contextlib.contextmanager
def running(home: Path) -> Iterator[SqliteStore]:
    """As if an agent ran there: its lock is held, and its ports are noted."""
    store = SqliteStore(home)
    note = {"pid": os.getpid(), "rest": 8500, "grpc": 8501}
    (home / "ports.json").write_text(json.dumps(note))
    yield store
    store.close()


def note(agent: Agent, state: LinkState) -> None:
    (agent.home / "link.json").write_bytes(msgspec.json.encode(state))


def found(agent: Agent, what: str, now: datetime | None = None) -> tuple[str, str, str]:
    """The doctor's mark, detail and remedy for one thing; empty if it says nothing of it."""
    for one in examine(Home(agent.home), now or datetime.now(UTC)):
        if one.what == what:
            return one.mark, one.detail, one.remedy
    return "", "", ""


def test_a_running_agent_is_known_by_its_lock(enrolled: Agent) -> None:
    with running(enrolled.home):
        assert "running: REST on port 8500, gRPC on 8501" in enrolled("status").out
        assert "serving: REST on port 8500" in enrolled("doctor").out
        assert found(enrolled, "agent") == ("", "", "")


def test_a_note_of_ports_that_outlived_its_agent_is_not_believed(enrolled: Agent) -> None:
    ports = {"pid": os.getpid(), "rest": 8500, "grpc": 8501}  # a process of that number does live
    (enrolled.home / "ports.json").write_text(json.dumps(ports))
    (enrolled.home / LOCK_NAME).write_text(str(os.getpid()))

    assert "not running" in enrolled("status").out
    mark, detail, remedy = found(enrolled, "agent")
    assert (mark, detail) == ("warn", "enrolled, and not running")
    assert "run`" in remedy
    SqliteStore(enrolled.home).close()  # and looking has not kept the folder


def test_ports_of_an_agent_before_the_one_that_starts_are_not_believed(enrolled: Agent) -> None:
    with running(enrolled.home):
        ports = {"pid": os.getpid() + 1, "rest": 8500, "grpc": 8501}
        (enrolled.home / "ports.json").write_text(json.dumps(ports))

        assert "not running" in enrolled("status").out


@pytest.mark.parametrize(
    ("state", "line", "mark"),
    [
        (
            LinkState(up=True, since=SINCE.timestamp(), via="mqtt"),
            "up, over mqtt, since 2026-05-01 12:30:00 UTC",
            "ok",
        ),
        (LinkState(up=True, since=SINCE.timestamp()), "up since 2026-05-01 12:30:00 UTC", "ok"),
        (SILENT, "down since 2026-05-01 12:30:00 UTC: transport: nobody answers", "warn"),
        (
            REVOKED,
            "down since 2026-05-01 12:30:00 UTC: device-revoked: 'cam-1' was revoked",
            "FAIL",
        ),
        (
            LinkState(up=False, since=SINCE.timestamp()),
            "not up yet, since 2026-05-01 12:30:00 UTC",
            "warn",
        ),
    ],
)
def test_the_link_of_a_running_agent_is_told(
    enrolled: Agent, state: LinkState, line: str, mark: str
) -> None:
    note(enrolled, state)
    with running(enrolled.home):
        assert f"link        {line}\n" in enrolled("status").out
        told = json.loads(enrolled("status", "-o", "json").out)["link"]
        assert (told["up"], told["via"], told["code"]) == (state.up, state.via, state.code)
        assert found(enrolled, "link")[:2] == (mark, line)
        assert enrolled("doctor").status == (1 if mark == "FAIL" else 0)


def test_that_it_was_shut_out_is_told_until_it_joins_again(enrolled: Agent, gate: Gate) -> None:
    note(enrolled, REVOKED)

    line = "down; when the agent ran last: device-revoked: 'cam-1' was revoked"
    assert f"link        {line}\n" in enrolled("status").out
    assert found(enrolled, "link") == ("FAIL", line, "Enrol it anew.")

    assert enrolled("enrol", gate.token(), "--anew").status == 0
    assert "nothing is known" in enrolled("status").out
    assert found(enrolled, "link")[0] == ""


def test_a_link_that_was_up_is_not_up_while_no_agent_runs(enrolled: Agent) -> None:
    note(enrolled, LinkState(up=True, since=SINCE.timestamp()))

    assert "link        down: no agent runs\n" in enrolled("status").out
    assert found(enrolled, "link")[0] == ""


def test_a_model_answers_only_while_the_agent_runs(enrolled: Agent) -> None:
    active = Deployed("digits", 3, "a" * 64, "b" * 64, 3, 1)
    with contextlib.closing(SqliteStore(enrolled.home)) as store:
        store.installs.save_slot(Slot("digits", "champion", active, active))

    assert "\nat rest     digits/3 (champion), proven, 1 approval, " in enrolled("status").out
    with running(enrolled.home):
        assert "\nruns        digits/3 (champion), proven, 1 approval, " in enrolled("status").out


def test_a_certificate_that_has_expired_is_called_so(enrolled: Agent) -> None:
    later = datetime.now(UTC) + timedelta(days=400)

    lines = read_status(Home(enrolled.home), later).lines()
    mark, detail, remedy = found(enrolled, "identity", later)

    assert "; certificate expired at " in lines[1]
    assert (mark, detail[-9:]) == ("warn", ": expired")
    assert "--anew" in remedy
    assert "; certificate until " in enrolled("status").out


def test_records_that_wait_long_are_warned_of(enrolled: Agent) -> None:
    now = datetime.now(UTC)
    with contextlib.closing(SqliteStore(enrolled.home)) as store:
        store.spool.put("event", b"x", int(now.timestamp() * 1000))

    mark, detail, _ = found(enrolled, "store", now)
    assert (mark, detail.rpartition("; ")[2]) == ("ok", "1 record waits")
    mark, detail, _ = found(enrolled, "store", now + timedelta(hours=3))
    assert (mark, detail.rpartition("; ")[2]) == ("warn", "1 record waits, the oldest for 3 hours")


def test_an_agent_leaves_word_of_its_link(enrolled: Agent) -> None:
    configure(enrolled, "[serving]\nrest_port = 0\ngrpc_port = 0\n")
    command = [str(SCRIPTS / "muster-agent"), "--home", str(enrolled.home), "run"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert any("connection.down" in line for line in process.stderr)  # no session is served
        ends = datetime.now(UTC) + timedelta(seconds=30)
        while not (link := json.loads(enrolled("status", "-o", "json").out)["link"] or {}).get(
            "code"
        ):
            assert datetime.now(UTC) < ends
        assert "link        down since " in enrolled("status").out
        process.send_signal(signal.SIGINT)
        process.stderr.read()

    assert process.returncode == 0
    assert link["up"] is False


def test_a_mirror_that_is_configured_is_asked(enrolled: Agent) -> None:
    with serving(Site({metadata_path("timestamp.json"): b"{}"})) as url:
        configure(enrolled, f"[mirror]\nurl = '{url}'\nallow_plain = true\n")
        assert found(enrolled, "mirror") == ("ok", f"{url} has the fleet's metadata", "")

    mark, _, remedy = found(enrolled, "mirror")
    assert (mark, "muster mirror sync" in remedy) == ("warn", True)


def test_a_mirror_whose_authority_is_none_is_told(enrolled: Agent) -> None:
    configure(enrolled, "[mirror]\nurl = 'https://mirror.example'\nca = 'missing.pem'\n")

    mark, detail, _ = found(enrolled, "mirror")
    assert (mark, "missing.pem" in detail) == ("FAIL", True)
