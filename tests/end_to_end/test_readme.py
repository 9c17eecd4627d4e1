"""The walk in the README, command by command, as a new user types it."""

import contextlib
import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Final

from simulations.demo.processes import SCRIPTS, free_ports

README: Final = Path(__file__).parents[2] / "README.md"
SECONDS: Final = 240
# What a person does who waits and looks again.
AGAIN: Final = "for i in $(seq 100); do if {}; then break; fi; sleep 1; done"


def walk() -> list[str]:
    """The commands of the walk."""
    blocks = re.findall(r"<!-- walk -->\n```console\n(.*?)```", README.read_text(), re.DOTALL)
    return [line.removeprefix("$ ") for block in blocks for line in block.splitlines()]


def script(ports: list[int]) -> str:
    """The walk for bash, on ports that are free, and with the patience of a person."""
    api, session, enrolment, rest, rpc = ports
    listening = f"--api-port {api} --session-port {session} --enrolment-port {enrolment}"
    serving = rf"printf '\n[serving]\nrest_port = {rest}\ngrpc_port = {rpc}\n' >> device/agent.toml"
    back = "muster-agent status | grep -q 'digits/1 (champion), proven'"
    after = {
        "muster serve": AGAIN.format("muster device list > /dev/null 2>&1"),
        "mkdir device": serving,
        "muster-agent run": AGAIN.format("muster device list | grep -q online"),
        "muster predict digits --input digits/inverted.npz --rows": AGAIN.format(
            "muster drift show digits | grep -q 'mean of image'"
        ),
        "muster rollout show": AGAIN.format(back),
    }
    lines = ["set -euo pipefail"]
    for command in walk():
        shown = command.replace("muster init controller", f"muster init controller {listening}")
        lines.append(
            shown.replace("muster predict", f"muster predict --url http://127.0.0.1:{rest}")
        )
        lines += [wait for start, wait in after.items() if command.startswith(start)]
    return "\n".join(lines)


def test_the_walk_in_the_readme_works(tmp_path: Path) -> None:
    log = tmp_path / "walk.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            ["/bin/bash", "-x", "-c", script(free_ports(5))],
            cwd=tmp_path,
            env={**os.environ, "PATH": f"{SCRIPTS}:{os.environ['PATH']}"},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        status = process.wait(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        status = -1
    finally:
        # The controller and the agent were left running, as in the walk.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    said = log.read_text()
    logs = "\n".join(path.read_text()[-2000:] for path in tmp_path.glob("*.log"))
    assert status == 0, logs

    for expected in (
        "a controller is in",
        "versions of digits need 2 of 2 approvers",
        "this machine is device cam-1",
        "signed: 2 of 2; digits/1 is published",
        "digits/1 -> site=berlin: 1 of 1 proved that they run it",
        "proven, 2 approvals",
        "answered by digits/1",
        "cam-1: mean of image rose",
        "hold together",
        "ok    serving",
        "digits-2-1 is paused",
        "digits-2-1 goes on",
        "digits/2 -> site=berlin: 1 of 1 proved that they run it",
        "50-percent: passed, 1 released (1 ok, 0 failed, 0 unreachable)",
        "digits-2-1 is rolling back; 1 device goes back",
        "round 3: 1 of 1 devices count",
        "came to digits/3",
        "digits/1, trained on devices: run digits-r1, 3 rounds",
    ):
        assert expected in said, f"no {expected!r} in:\n{said}"


def test_every_command_of_the_walk_is_one_of_the_readme() -> None:
    assert len(walk()) >= 20
