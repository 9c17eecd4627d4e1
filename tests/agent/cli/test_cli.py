"""The command `muster-agent`: what it prints, with which status, and what it leaves behind."""

import contextlib
import json
import os
import signal
import socket
import sqlite3
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from agent.install.machine import State
from agent.install.record import Install
from agent.store.database import DATABASE_NAME
from agent.store.device_store import Quarantine
from agent.store.lift_requests import LiftRequests
from agent.store.sqlite_store import SqliteStore
from protos.documents import Conditions, Window
from simulations.demo.processes import SCRIPTS
from tests.agent.cli.machine import Agent, Gate, configure

VERBS = ("enrol", "run", "status", "lift", "doctor")


# --- enrol ----------------------------------------------------------------------------------------


def test_a_machine_becomes_a_device_once(agent: Agent, gate: Gate) -> None:
    token = gate.token()
    wrapped = f"{token[:60]}\n  {token[60:]}\n"
    done = agent("enrol", "-", "--name", "cam 7", stdin=wrapped.encode())
    assert (done.status, done.err) == (0, "")
    assert done.out.startswith("this machine is device cam-7")
    assert done.out.endswith(f"next: muster-agent --home {agent.home} run\n")
    assert (agent.home / "device.key").stat().st_mode & 0o777 == 0o600

    assert "enrolled already, as 'cam-7" in agent.refused("enrol", gate.token())
    used = agent.refused("enrol", token, home=agent.home.with_name("other"))
    assert "[token-used]" in used
    anew = agent("enrol", gate.token(), "--anew", "--name", "cam-8")
    assert anew.out.startswith("this machine is device cam-8\nnext: ")


def test_it_says_why_a_device_is_called_otherwise_than_it_wished(agent: Agent, gate: Gate) -> None:
    odd = agent("enrol", gate.token(), "--name", "Cam 9")
    assert "\n  not 'Cam 9': names are lowercase letters, digits and hyphens\n" in odd.out
    taken = agent("enrol", gate.token(), "--name", "cam-9", home=agent.home.with_name("other"))
    assert taken.out.startswith("this machine is device cam-9-")
    assert "\n  not 'cam-9': a device of that name has joined before" in taken.out
    assert "add `--anew`" in agent.refused("enrol", gate.token())


@pytest.mark.parametrize(
    "token",
    [
        "",
        "x",
        "muster-join-",
        "muster-join-AAAA",
        "ü",
        "\udcff",
        "x" * 100_000,
        "muster-join-" * 999,
    ],
)
def test_a_token_that_is_none_is_refused_and_nothing_is_made(agent: Agent, token: str) -> None:
    assert "[bad-token]" in agent.refused("enrol", token)
    given = token.encode("utf-8", "surrogateescape")
    assert "[bad-token]" in agent.refused("enrol", "-", stdin=given)
    assert not agent.home.exists()


def test_a_token_that_is_cut_off_or_too_old_is_refused(agent: Agent, gate: Gate) -> None:
    assert "cut off or altered" in agent.refused("enrol", gate.token()[:200])
    assert "[token-expired]" in agent.refused("enrol", gate.token(0.01))


def test_a_wrong_configuration_is_told_before_the_token_is_used(agent: Agent, gate: Gate) -> None:
    token = gate.token()
    configure(agent, '[device]\ntimezone = "Mars/Base"\n')
    assert "[device] timezone: there is no time zone 'Mars/Base'" in agent.refused("enrol", token)

    configure(agent, '[device]\ntimezone = "Europe/Berlin"\n')
    assert agent("enrol", token).status == 0


def test_without_an_answer_the_machine_stays_as_it_was(agent: Agent, tmp_path: Path) -> None:
    gone = Gate(tmp_path / "gone")
    token = gone.token()
    gone.close()

    assert "[transport]" in agent.refused("enrol", token)
    assert "[not-enrolled]" in agent.refused("status")


# --- status, doctor -------------------------------------------------------------------------------


def test_the_status_of_a_device_is_told_as_lines_and_as_json(enrolled: Agent) -> None:
    done = enrolled("status")
    assert [line.split()[0] for line in done.out.splitlines()] == [
        "device",
        "controller",
        "link",
        "directive",
        "telemetry",
    ]
    assert "not running: `muster-agent run`" in done.out
    told = json.loads(enrolled("status", "--output", "json").out)
    assert (told["running"], told["device"], told["ports"]) == (False, "cam-1", {})
    assert {"generation", "slots", "installs", "waiting", "dropped", "controller"} <= told.keys()


@pytest.mark.parametrize(
    "ports",
    [
        "",
        "[1]",
        "3",
        "\x00",
        '{"pid": 1}',
        '{"pid": 1, "rest": "x", "grpc": 2}',
        '{"pid": -1, "rest": 1, "grpc": 2}',
        '{"pid": 0, "rest": 1, "grpc": 2}',
        '{"pid": 99999999999999999999, "rest": 1, "grpc": 2}',
        '{"pid": null, "rest": 1, "grpc": 2}',
    ],
)
def test_a_damaged_note_of_its_ports_is_as_if_no_agent_ran(enrolled: Agent, ports: str) -> None:
    (enrolled.home / "ports.json").write_text(ports)

    with contextlib.closing(SqliteStore(enrolled.home)):  # an agent that has not bound its ports
        assert json.loads(enrolled("status", "-o", "json").out)["running"] is False


def kept_out(home: Path) -> str:
    """A version that failed on the device; its digest."""
    store = SqliteStore(home)
    failed = Quarantine("a" * 64, "digits", 3, "self-test-mismatch", "output\x1b 3 is off", 1.5)
    store.installs.quarantine(failed)
    store.close()
    return failed.manifest_sha256


def test_what_is_waited_for_and_what_is_kept_out_is_told(enrolled: Agent) -> None:
    kept_out(enrolled.home)
    opens_at = datetime.now(UTC) + timedelta(hours=3, minutes=12)
    install = Install(
        model="digits", slot="champion", version=4, generation=7, target="t", sha256="b" * 64,
        length=9, state=State.WAITING, since=0.0, not_before=opens_at.timestamp(),
        code="outside-window", detail="opens on Saturday 22:00 Europe/Berlin",
        conditions=Conditions(windows=(Window(start_minute=1320, minutes=60),)),
    )  # fmt: skip
    with contextlib.closing(SqliteStore(enrolled.home)) as store:
        store.installs.save_install(install)

    lines = enrolled("status").out.splitlines()
    told = json.loads(enrolled("status", "-o", "json").out)

    assert (
        "install     digits/4 (champion) waiting: outside-window: "
        "opens on Saturday 22:00 Europe/Berlin, in 3 h 12 min"
    ) in lines
    assert (
        "kept out    digits/3 since 1970-01-01 00:00 UTC: self-test-mismatch: output\\x1b 3 is off"
    ) in lines
    assert told["installs"][0]["conditions"]["windows"] == [
        {"start_minute": 1320, "minutes": 60, "days": []}
    ]
    assert [(one["model"], one["attempt"]) for one in told["quarantines"]] == [("digits", 1)]


def test_the_tables_of_an_older_agent_can_be_looked_at(enrolled: Agent) -> None:
    kept_out(enrolled.home)
    with contextlib.closing(sqlite3.connect(enrolled.home / DATABASE_NAME)) as db:
        for column in ("attempt", "rollout", "model", "version"):
            db.execute(f"ALTER TABLE quarantine DROP COLUMN {column}")

    assert "kept out    manifest aaaaaaaaaaaa since" in enrolled("status").out


@pytest.mark.parametrize("runs", [True, False])
def test_a_quarantine_is_lifted_beside_a_running_agent_and_without_one(
    enrolled: Agent, runs: bool
) -> None:
    digest = kept_out(enrolled.home)
    running = SqliteStore(enrolled.home) if runs else None

    done = enrolled("lift", "digits/3")

    if running is not None:
        running.close()
    assert (done.status, done.err) == (0, "")
    assert done.out.splitlines()[0] == (
        "digits/3 was kept out for self-test-mismatch: output\\x1b 3 is off"
    )
    assert LiftRequests(enrolled.home).asked() == [digest]


def test_what_is_not_in_quarantine_is_not_lifted(enrolled: Agent) -> None:
    kept_out(enrolled.home)

    assert "[not-in-quarantine]" in enrolled.refused("lift", "digits/2")
    assert LiftRequests(enrolled.home).asked() == []


@pytest.mark.parametrize("name", ["digits", "/3", "digits/three", "digits/", "digits/9999999999"])
def test_what_names_no_version_is_wrong_usage(enrolled: Agent, name: str) -> None:
    done = enrolled("lift", name)

    assert (done.status, done.out) == (2, "")
    assert "MODEL/VERSION" in done.err


def test_the_doctor_says_what_is_well_and_what_is_not_with_its_remedy(enrolled: Agent) -> None:
    configure(enrolled, "[serving]\nrest_port = 0\ngrpc_port = 0\n")
    well = json.loads(enrolled("doctor", "-o", "json").out)
    assert {one["what"]: one["mark"] for one in well} == {
        "configuration": "ok",
        "store": "ok",
        "identity": "ok",
        "onnxruntime": "ok",
        "disk": "ok",
        "clock": "ok",
        "controller": "ok",
        "serving": "ok",
        "agent": "warn",
    }
    assert enrolled("doctor").status == 0
    configure(enrolled, '[device]\ntimezone = "Asia/Tokyo"\n')
    (clock,) = (line for line in enrolled("doctor").out.splitlines() if "  clock: " in line)
    now = datetime.fromisoformat(clock.split()[2] + "T" + clock.split()[3] + "+00:00")
    here = now.astimezone(ZoneInfo("Asia/Tokyo"))
    assert clock.endswith(f"; maintenance windows go by {here:%A %H:%M} Asia/Tokyo")

    (enrolled.home / "device.key").write_bytes(b"garbage")
    configure(enrolled, "[serving]\nrest_prot = 0\n")
    ill = enrolled("doctor")
    assert ill.status == 1
    marks = {
        line[6:].split(":")[0]: line[:4].strip() for line in ill.out.splitlines() if line[0] != " "
    }
    assert (marks["configuration"], marks["identity"]) == ("FAIL", "FAIL")
    assert "rest_prot" in ill.out
    assert ill.out.count("what to do: ") >= 2


def test_the_doctor_finds_a_port_that_is_taken_and_a_host_that_is_none(enrolled: Agent) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        configure(enrolled, f"[serving]\nrest_port = {port}\n")
        assert f"FAIL  serving: 127.0.0.1:{port}: " in enrolled("doctor").out
    for host in ("nowhere.invalid", "x" * 70, "ü" * 70):
        configure(enrolled, f'[serving]\nhost = "{host}"\n')
        assert f"FAIL  serving: {host}:8500: " in enrolled("doctor").out


# --- Bad folders, bad configuration, wrong usage --------------------------------------------------


def test_where_no_agent_is_nothing_is_made(agent: Agent) -> None:
    assert "there is no agent [not-enrolled]" in agent.refused("status")
    assert "there is no agent [not-enrolled]" in agent.refused("run")
    assert "there is no agent [not-enrolled]" in agent.refused("lift", "digits/3")
    done = agent("doctor")
    assert done.status == 1
    assert "FAIL  identity: " in done.out
    assert not agent.home.exists()


@pytest.mark.parametrize("verb", VERBS)
def test_a_folder_that_can_be_none_is_named(agent: Agent, tmp_path: Path, verb: str) -> None:
    words = (verb, *{"enrol": ["muster-join-x"], "lift": ["digits/3"]}.get(verb, []))
    file = tmp_path / "file"
    file.write_bytes(b"")
    for home, why in (
        (file, "is no folder"),
        (file / "below", "file is no folder"),
        ("x" * 100_000, "File name too long"),
        (f"{tmp_path}/\udcff", "its name is not UTF-8"),
    ):
        said = agent.refused(*words, home=home)
        assert why in said or "[bad-token]" in said
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"\xff", "can't decode"),
        (b"a = [", "agent.toml"),
        (b"unknown = 1", "unknown"),
        (b"[serving]\nrest_port = 70000", "rest_port"),
        (b'log_level = "LOUD"', "`log_level` is 'LOUD'; it must be DEBUG"),
    ],
)
def test_a_configuration_that_is_wrong_is_named(enrolled: Agent, text: bytes, why: str) -> None:
    configure(enrolled, text)

    said = enrolled.refused("run")

    assert why in said
    assert "[config]" in said


def test_a_store_that_is_none_is_named(enrolled: Agent) -> None:
    for name in ("agent.sqlite-wal", "agent.sqlite-shm"):
        (enrolled.home / name).unlink(missing_ok=True)
    (enrolled.home / "agent.sqlite").write_bytes(b"garbage" * 999)

    assert "agent.sqlite: file is not a database" in enrolled.refused("status")
    assert "agent.sqlite: file is not a database" in enrolled.refused("run")
    assert "FAIL  store: " in enrolled("doctor").out


@pytest.mark.parametrize(
    "words",
    [(), ("fly",), ("enrol",), ("status", "-o", "yaml"), ("run", "now"), ("doctor", "--loud")],
)
def test_wrong_usage_is_told_with_status_2(agent: Agent, words: Sequence[str]) -> None:
    done = agent(*words)

    assert (done.status, done.out) == (2, "")
    assert done.err.startswith("usage: muster-agent")


@pytest.mark.parametrize("words", [(), *((verb,) for verb in VERBS)])
def test_help_fits_a_terminal_and_shows_how(agent: Agent, words: Sequence[str]) -> None:
    done = agent(*words, "--help")

    assert done.status == 0
    assert max(map(len, done.out.splitlines())) <= 90
    assert not words or "\n  muster-agent " in done.out


def test_the_version_is_told(agent: Agent) -> None:
    assert agent("--version").out.startswith("muster-agent ")


# --- As a process ---------------------------------------------------------------------------------


def shell(line: str, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """What a shell does with the line, in which `$AGENT` is the command."""
    command = f"{SCRIPTS / 'muster-agent'} --home {home}"
    settings = {"AGENT": command, **environment}
    return subprocess.run(
        ["bash", "-c", line.replace("$AGENT", command)],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_leaves_and_a_full_disk_show_no_traceback(
    enrolled: Agent, unbuffered: str
) -> None:
    lines = {
        "$AGENT status | head -c 0; exit ${PIPESTATUS[0]}": "",
        "$AGENT status > /dev/full": "error: output: No space left on device [output]\n",
        "$AGENT doctor >&-": "",
        "$AGENT nonesuch 2>&-": "",
    }
    for line, said in lines.items():
        done = shell(line, enrolled.home, PYTHONUNBUFFERED=unbuffered)
        assert done.stderr in {said, ""}, done
        assert done.returncode in {0, 1, 2}, done
    assert shell("$AGENT status > /dev/full", enrolled.home).returncode == 1


def test_a_port_that_is_taken_is_told_once_and_in_words(enrolled: Agent) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        configure(enrolled, f"[serving]\nrest_port = 0\ngrpc_port = {port}\n")
        done = shell("$AGENT run", enrolled.home)
        asked = shell("$AGENT run", enrolled.home, GRPC_VERBOSITY="ERROR")

    said = [line for line in done.stderr.splitlines() if " agent.down " not in line]
    assert [line.split(":")[0] for line in said] == ["error", "  what to do"], done.stderr
    assert "add_port.cc" in asked.stderr  # whoever wants to hear it does


def test_ctrl_c_ends_the_agent_in_peace(enrolled: Agent) -> None:
    configure(enrolled, "[serving]\nrest_port = 0\ngrpc_port = 0\n")
    command = [str(SCRIPTS / "muster-agent"), "--home", str(enrolled.home), "run"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert any("agent.up" in line for line in process.stderr)
        assert process.stderr.readline()  # its loops have begun, so it hears signals
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()

    assert process.returncode == 0
    assert "Traceback" not in rest
    assert "agent.down" in rest
