"""What a device tells of itself: status, what is kept out, and the doctor's findings."""

import contextlib
import json
import socket
import sqlite3
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec
import pytest

from agent.federated.readiness.message import Told
from agent.install.machine import State
from agent.install.record import Install
from agent.store.database import DATABASE_NAME
from agent.store.device_store import Quarantine
from agent.store.lift_requests import LiftRequests
from agent.store.sqlite_store import SqliteStore
from agent.training_note import note_training
from protos.documents import Conditions, Window
from tests.agent.cli.machine import Agent, configure
from tests.contracts.device_stores import JOURNAL


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


def test_the_status_names_the_broker_that_the_device_knows(enrolled: Agent) -> None:
    assert "broker" not in enrolled("status").out
    with contextlib.closing(SqliteStore(enrolled.home)) as store:
        identity = store.identity.load()
        assert identity is not None
        store.identity.save(replace(identity, broker_address="hub:8883"))

    assert f"controller  {identity.session_address}, broker hub:8883; " in enrolled("status").out
    assert json.loads(enrolled("status", "-o", "json").out)["broker"] == "hub:8883"


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


def test_the_status_says_whether_the_device_would_train_and_what_it_was_asked_last(
    enrolled: Agent,
) -> None:
    ready = Told(
        model="digits", version=3, manifest_sha256="a" * 64, code="", words="", examples=120,
        held_out=30,
    )  # fmt: skip
    waits = msgspec.structs.replace(
        ready, model="weather", code="on-battery", words="it is not on mains"
    )
    note_training(enrolled.home / "training.json", (ready, waits))
    with contextlib.closing(SqliteStore(enrolled.home)) as store:
        store.journal.save(JOURNAL)

    lines = enrolled("status").out.splitlines()

    assert [line for line in lines if line.startswith(("training", "task"))] == [
        "training    digits/3, 120 examples, 30 held out; ready",
        "training    weather/3, 120 examples, 30 held out; not now: on-battery: it is not on mains",
        (
            "task        digits-r1 round 3, train digits/3 on 40 examples, sending since "
            "2023-11-14 22:13:20 UTC: not-finite: 连接"
        ),
    ]
    told = json.loads(enrolled("status", "-o", "json").out)
    assert [one["code"] for one in told["training"]] == ["", "on-battery"]
    assert (told["task"]["state"], told["task"]["run"]) == ("sending", "digits-r1")


@pytest.mark.parametrize("noted", [b"", b"[1]", b"{}", b"\xff"])
def test_a_note_of_training_that_can_not_be_read_is_none(enrolled: Agent, noted: bytes) -> None:
    (enrolled.home / "training.json").write_bytes(noted)

    assert "training" not in enrolled("status").out
