"""The command as a process: in a terminal, through a pipe, on a full disk, and its help."""

import os
import pty
import re
import signal
import socket
import subprocess
import termios
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import uvicorn

from simulations.demo.processes import SCRIPTS
from tests.controller.cli.office import Muster, Office
from tests.controller.web.api import application

MUSTER = str(SCRIPTS / "muster")
DATA = re.compile(r"[\w./=-]*\d[\w./=-]*")
"""Names, versions, digests and times, but no titles: a column in which nothing stands is left out."""
STYLE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


@pytest.fixture(scope="module", autouse=True)
def devices(office: Office) -> None:
    office.listed(1)
    long = {f"label-{number}": "a-rather-long-value" for number in range(4)}
    office.enrolled("cam-1", "camera-with-a-rather-long-name", site="berlin", **long)
    office.reported("cam-1", 1, "failed", "self-test-failed")
    office.told("cam-1", "a long detail " * 20 + "\x1b[31mred\x1b[0m")


@pytest.fixture
def environment(office: Office, muster: Muster) -> dict[str, str]:
    kept = {
        name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "COLUMNS"}
    }
    keys = {"MUSTER_PROFILE": str(muster.profile), "MUSTER_KEYS": str(office.keys)}
    return {**kept, **keys, "TERM": "xterm-256color", "PYTHONWARNINGS": ""}


def in_terminal(words: Sequence[str], environment: dict[str, str], columns: int = 80) -> str:
    """What the command sends to a terminal so broad."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, columns))
    with subprocess.Popen(
        [MUSTER, *words], stdin=theirs, stdout=theirs, stderr=theirs, env=environment
    ) as process:
        os.close(theirs)
        sent = b"".join(read_all(ours))
    os.close(ours)
    assert process.returncode == 0, sent
    return sent.decode()


def read_all(descriptor: int) -> Iterator[bytes]:
    while True:
        try:
            data = os.read(descriptor, 4096)
        except OSError:  # how Linux says that nobody holds the other end any more
            return
        if not data:
            return
        yield data


def shell(line: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """What a shell does with the line."""
    return subprocess.run(
        ["bash", "-c", line.replace("$MUSTER", MUSTER)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    "words",
    [("device", "list"), ("device", "show", "cam-1"), ("device", "events"), ("model", "list"),
     ("model", "show", "digits/1"), ("audit", "list", "--limit", "5")],
)  # fmt: skip
def test_a_table_in_a_terminal_keeps_its_words_whole_and_within_its_columns(
    words: Sequence[str], environment: dict[str, str], muster: Muster
) -> None:
    sent = in_terminal(words, environment)

    assert "\x1b[1m" in sent  # the header stands out
    shown = STYLE.sub("", sent).replace("\r\n", "\n")
    assert "\x1b" not in shown
    for line in shown.splitlines():
        assert len(line) <= 80 or " " not in line.strip(), line
    piped = muster.ok(*words).out
    assert set(DATA.findall(piped)) <= set(DATA.findall(shown))


def test_through_a_pipe_every_row_is_a_line_without_style(environment: dict[str, str]) -> None:
    done = shell("$MUSTER device list | cat", environment)

    assert len(done.stdout.splitlines()) == 3
    assert "\x1b" not in done.stdout


def test_a_controller_that_was_just_started_is_waited_for(
    environment: dict[str, str], office: Office
) -> None:
    key = office.home.certificates / "server.pem"
    config = uvicorn.Config(
        application(office.services), log_config=None, ws="none", ssl_certfile=key
    )
    ours, theirs = pty.openpty()
    with socket.socket() as held:  # whose port nobody listens on until the server does
        held.bind(("127.0.0.1", 0))
        url = f"https://127.0.0.1:{held.getsockname()[1]}"
        settings = {**environment, "MUSTER_PROFILE": str(office.profile("early", url=url))}
        with subprocess.Popen(
            [MUSTER, "device", "list"], stdin=theirs, stdout=theirs, stderr=theirs, env=settings
        ) as process:
            os.close(theirs)
            sent = read_all(ours)
            assert any(b"waiting for the controller" in data for data in sent)
            server = uvicorn.Server(config)
            thread = threading.Thread(target=server.run, kwargs={"sockets": [held]})
            thread.start()
            shown = b"".join(sent).decode()
        server.should_exit = True
        thread.join()
    os.close(ours)

    assert process.returncode == 0, shown
    assert "cam-1" in shown


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_leaves_and_a_full_disk_show_no_traceback(
    environment: dict[str, str], unbuffered: str
) -> None:
    full = "error: standard output: No space left on device [output]"
    for line, status, said in (
        ("$MUSTER device list | head -c 0; exit ${PIPESTATUS[0]}", {0, 1}, ""),
        ("$MUSTER --help | head -c 0; exit ${PIPESTATUS[0]}", {0, 1}, ""),
        ("$MUSTER device list -o json > /dev/full", {1}, full),
        ("$MUSTER device list >&-", {0, 1}, ""),
        ("$MUSTER device show none 2>&-", {1}, ""),
        ("$MUSTER login https://h --ca x --root y <&-", {1}, "error: y: No such file"),
    ):
        done = shell(line, {**environment, "PYTHONUNBUFFERED": unbuffered})
        assert done.returncode in status, done
        assert done.stderr.startswith(said), done
        assert said or not done.stderr, done


def test_what_an_encoding_lacks_is_written_as_its_number(environment: dict[str, str]) -> None:
    done = shell("$MUSTER model --help", {**environment, "PYTHONIOENCODING": "ascii"})

    assert done.returncode == 0, done
    assert done.stdout.isascii()


def test_ctrl_c_ends_a_watch_without_a_traceback(
    environment: dict[str, str], muster: Muster
) -> None:
    made = muster.ok("rollout", "start", "digits/1", "--to", "all", "-o", "json").json
    with subprocess.Popen(
        [MUSTER, "rollout", "watch", made["id"]],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert "digits/1 -> all" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()

    assert process.returncode in {1, 130}
    assert "Traceback" not in said


def test_the_version_and_the_completion_of_a_shell_are_told(
    environment: dict[str, str], tmp_path: Path
) -> None:
    home = {**environment, "HOME": str(tmp_path), "SHELL": "/bin/bash"}
    assert re.fullmatch(r"muster \S+\n", shell("$MUSTER --version", home).stdout)
    settings = {**home, "_MUSTER_COMPLETE": "complete_bash"}
    typed = {"COMP_WORDS": "muster dev", "COMP_CWORD": "1"}
    assert shell("$MUSTER", {**settings, **typed}).stdout.split() == ["device"]
    for line in ("$MUSTER --show-completion bash", "$MUSTER --install-completion bash"):
        done = shell(f"{line} || exit 1; exit 0", home)  # a shell that stays, and can be found
        assert done.returncode == 0, done
    script = tmp_path / ".bash_completions" / "muster.sh"
    assert "complete -o default -F" in script.read_text()
    assert str(script) in (tmp_path / ".bashrc").read_text()


COMMANDS = [
    "", "init", "serve", "login", "predict", "model", "model create", "model register", "model list",
    "model show", "model approve", "model recall", "model withdraw", "model alias", "model card",
    "rollout", "rollout start", "rollout list", "rollout show", "rollout watch", "rollout abort",
    "device", "device list", "device show", "device label", "device revoke", "device events",
    "token", "token create", "token list", "key", "key create", "key list", "drift", "drift show",
    "operator", "operator create", "operator list", "operator revoke", "audit", "audit list",
    "audit verify", "example", "demo", "simulate",
]  # fmt: skip
WITHOUT_EXAMPLE = {
    *("", "model", "rollout", "device", "token", "key", "drift", "operator", "audit"),  # groups
    *("model list", "rollout list", "token list", "key list", "operator list", "audit verify"),
    "demo",
}


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_80_columns_and_its_examples_keep_their_lines(
    muster: Muster, command: str
) -> None:
    words = command.split()

    done = muster.ok(*words, "--help", env={"COLUMNS": "80", "TERMINAL_WIDTH": "80"})

    assert max(map(len, done.lines)) <= 80
    examples = [line.rstrip() for line in done.lines if line.startswith(f"  muster {command} ")]
    assert bool(examples) == (command not in WITHOUT_EXAMPLE)
    assert "```" not in done.out
    lines = [line.rstrip() for line in done.lines]
    for at, line in enumerate(lines):
        if line in examples:  # it goes on only where it says so
            following = lines[at + 1]
            assert line.endswith("\\") == following.startswith("      --"), following
