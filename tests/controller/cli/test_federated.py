"""`muster federated`: from a run file to what came of it."""

import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from controller.access.operator import Role
from controller.federated.actions import Wish, ended, propose, run_of
from controller.federated.exchange import PhaseRecord
from controller.federated.run import RunState
from controller.federated.task import Phase
from protos.manifest import Role as FileRole
from protos.manifest import read_manifest
from tests.contracts.federated_values import PHASE, TASK
from tests.controller.cli.office import Muster, Office
from tests.controller.rollout.world import FILE

NOW = 1_900_000_000.0


@pytest.fixture(scope="module", autouse=True)
def trainable(office: Office) -> None:
    office.listed(1, 2)
    office.enrolled("cam-1", "cam-2", site="berlin")
    with office.store.begin() as tx:
        version = tx.registry.version("digits", 1)
        assert version is not None
        told = read_manifest(version.manifest)
        files = {**told.files, FileRole.TRAIN_STEP: FILE}
        manifest = msgspec.structs.replace(told, files=files).encode()
        tx.registry.put_version(replace(version, manifest=manifest))


def run_file(office: Office, model: str = "digits/1", more: str = "") -> Path:
    text = f'[run]\nmodel = "{model}"\nselector = "site=berlin"\nrounds = 3\n{more}'
    return office.file("run.toml", text.encode())


def closed(office: Office, run: str, *records: PhaseRecord) -> None:
    with office.store.begin() as tx:
        for one in records:
            tx.runs.add_phase(run, one)
        found = run_of(tx, run)
        tx.runs.put(replace(found, round=max(one.round for one in records)))


def test_a_run_goes_from_its_file_to_a_version(muster: Muster, office: Office) -> None:
    file = run_file(office)
    empty = "no runs: start one with `muster federated start FILE`\n"
    assert muster.ok("federated", "list").out == empty
    assert muster.ok("federated", "list", "-o", "json").json == []

    said = muster.ok("federated", "start", file).out
    assert said == "digits-r1 has begun: `muster federated watch digits-r1`\n"
    waiting = muster.ok("federated", "show", "digits-r1").lines[-1]
    assert waiting.startswith(
        "  waits for devices: none that it selects has said that it runs digits/1"
    )
    assert "one run of a model at a time" in muster.refused("federated", "start", file)
    assert "digits-r1 is still running [timeout]" in muster.refused(
        "federated", "watch", "digits-r1", "--seconds", "1"
    )

    before = replace(PHASE, round=0, phase=Phase.EVALUATE, metrics={"accuracy": 0.5, "sums/x": 1.0})
    closed(office, "digits-r1", before, replace(PHASE, step=2, round=3))
    with office.store.begin() as tx:
        tx.tasks.add([replace(TASK, run="digits-r1", step=3)])
    shown = muster.ok("federated", "show", "digits-r1").lines
    assert shown[0] == "digits-r1: digits/1 by FedAvg, running, 3 of 3 rounds are done"
    assert shown[1].startswith("  evaluated before: 3 of 6 devices of 8 ready count")
    assert "; accuracy 0.5; " in shown[1]
    assert "[1 busy, 1 norm]" in shown[2]
    assert shown[3] == "  under way: 0 of 1 devices have replied"

    with office.store.begin() as tx:
        run = run_of(tx, "digits-r1")
        tx.runs.put(replace(run, state=RunState.FINISHED, candidate=2, arrays_sha256="a" * 64))
    watched = muster.ok("federated", "watch", "digits-r1", "--seconds", "inf")
    assert watched.lines[-1] == "  came to digits/2: `muster model show digits/2`"
    told = muster.ok("federated", "show", "digits-r1", "-o", "json").json
    assert (told["run"]["candidate"], told["registering"]) == (2, False)
    assert [one["metrics"] for one in told["phases"]] == [{"accuracy": 0.5}, {"loss": 0.25}]
    header, row = muster.ok("federated", "list", "--model", "digits").lines
    assert header.split()[0] == "run"
    assert row.split()[:6] == ["digits-r1", "digits/1", "FedAvg", "finished", "3/3", "2"]
    assert muster.ok("federated", "list", "--model", "faces", "-o", "json").json == []


def test_a_run_is_stopped_and_resumed_and_a_watch_ends_with_what_happened(
    muster: Muster, office: Office
) -> None:
    made = muster.ok("federated", "start", run_file(office), "-o", "json").json["run"]["id"]
    assert muster.ok("federated", "stop", made).out == f"{made} is about to stop\n"
    with office.store.begin() as tx:
        ended(tx, made, NOW)
    assert f"{made} is stopped [run-stopped]" in muster.refused("federated", "watch", made)
    assert muster.ok("federated", "resume", made).out == f"{made} goes on\n"
    with office.store.begin() as tx:
        ended(tx, made, NOW, "too few devices")

    refused = muster.refused("federated", "watch", made)
    assert f"{made} has failed: too few devices [run-failed]" in refused
    assert f"`muster federated show {made}`" in refused
    assert "is failed: it can't be stopped" in muster.refused("federated", "stop", made)
    assert "no federated run 'digits-r99'" in muster.refused("federated", "show", "digits-r99")


def test_a_proposal_is_started_or_dismissed(muster: Muster, office: Office) -> None:
    wish = Wish(run_file(office).read_text(), "muster", reasons=("9 of 10 devices have moved",))
    with office.store.begin() as tx:
        first, second = (propose(tx, wish, NOW) for _ in range(2))
    shown = muster.ok("federated", "show", first.id).lines
    assert shown[1] == "  because 9 of 10 devices have moved"
    assert shown[-1].startswith(f"  waits for `muster federated start {first.id}`")

    assert muster.ok("federated", "start", first.id).lines[0].startswith(f"{first.id} has begun")
    assert muster.ok("federated", "dismiss", second.id).out == f"{second.id} is dismissed\n"
    assert "dismissed" in muster.refused("federated", "start", second.id)
    with office.store.begin() as tx:
        tx.runs.put(replace(run_of(tx, first.id), state=RunState.STOPPED))


def test_what_can_not_start_says_why(muster: Muster, office: Office) -> None:
    wrong = muster.refused("federated", "start", run_file(office, more="[rounds]\n"))
    assert wrong.splitlines()[:2] == [
        "error: run.toml: 1 problem [run-file]",
        "run.toml:5: [rounds]: there is no such table; did you mean `round`?",
    ]
    none = muster.refused("federated", "start", run_file(office, "digits/2"))
    assert "digits/2 has no train step [no-train-step]" in none
    assert "--trainable" in none
    missing = office.folder / "nothing.toml"
    assert "No such file" in muster.refused("federated", "start", missing)
    binary = office.file("binary.toml", b"\xff")
    assert "binary.toml:1: not UTF-8" in muster.refused("federated", "start", binary)
    assert "--app goes with a run file" in muster.refused(
        "federated", "start", "digits-r1", "--app", "my:app", status=2
    )


def test_a_file_is_looked_over_without_a_controller(muster: Muster, office: Office) -> None:
    file, nobody = run_file(office), office.folder / "no-profile.toml"

    seen = muster.ok("federated", "check", file, profile=nobody)
    assert seen.out == "run.toml: in order: 3 rounds of FedAvg over digits/1\n"
    told = muster.ok("federated", "check", file, "-o", "json", profile=nobody).json
    assert (told["run"]["rounds"], told["round"]["deadline"]) == (3, 600.0)
    wrong = run_file(office, more="[training]\nepochs = 0\n")
    assert "run.toml:6: [training] epochs: must be at least 1, and is 0" in muster.refused(
        "federated", "check", wrong, profile=nobody
    )


def test_a_controller_without_flower_says_what_to_install(
    muster: Muster, office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "flwr", None)

    said = muster.refused("federated", "start", run_file(office))

    assert "[federated-extra-missing]" in said
    assert "pip install 'muster[federated]'" in said


def test_an_app_of_ones_own_takes_an_admin(muster: Muster, office: Office) -> None:
    words = ("federated", "start", run_file(office), "--app", "my.module:app")
    operators = office.profiles[Role.OPERATOR]

    assert "[not-allowed]" in muster.refused(*words, profile=operators)
    made = muster.ok(*words, "-o", "json").json
    assert made["run"]["method"] == "my.module:app"
    with office.store.read() as tx:
        record = tx.audit.last()
    assert record is not None
    assert record.entry.detail["app"] == "my.module:app"
