"""The command `muster-agent`, used wrongly, and as a process."""

import os
import signal
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from simulations.demo.processes import SCRIPTS
from tests.agent.cli.machine import Agent, configure

VERBS = ("enrol", "run", "status", "lift", "doctor")


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
    assert "Traceback" not in rest, rest
    assert "agent.down" in rest
