"""`muster demo`, as a person runs it, through a broker; the other tests here go over gRPC."""

import subprocess
from pathlib import Path

import msgspec
import pytest

from simulations.demo.evidence import Evidence
from simulations.demo.processes import SCRIPTS
from simulations.demo.traffic import BATCH

DEVICES = 5
DEADLINE = 560.0
ATTACKS = {
    "one approval too few": "too-few-approvals",
    "a tampered bundle": "hash-mismatch",
    "a replayed directive": "stale-directive",
}


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory, quick_starts: None) -> Evidence:
    folder = tmp_path_factory.mktemp("demo")
    file, kept = folder / "evidence.json", folder / "kept"
    words = ("--transport", "mqtt", "--devices", str(DEVICES), "--json", file, "--keep", kept)
    done = subprocess.run(
        [SCRIPTS / "muster", "demo", *words],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr + logs(kept)
    return msgspec.json.decode(file.read_bytes(), type=Evidence)


def logs(folder: Path) -> str:
    found = sorted(folder.rglob("*.log"))
    return "".join(f"\n--- {one.name}\n{one.read_text()[-6000:]}" for one in found)


def test_the_demo_observes_all_that_it_tells(evidence: Evidence) -> None:
    assert evidence.passed
    assert len(evidence.timeline) >= 20
    assert all(moment["held"] for moment in evidence.timeline)
    assert 0 < evidence.seconds < DEADLINE


def test_every_device_proves_what_it_runs_and_drops_no_request(evidence: Evidence) -> None:
    assert evidence.stopped is not None
    assert [one.device for one in evidence.devices] == [f"cam-{n + 1}" for n in range(DEVICES)]
    for one in evidence.devices:
        assert (one.model, one.approvals_verified) == ("digits", 2)
        assert len(one.model_sha256) == 64
        assert one.generation >= 2
        if one.device != evidence.stopped.canary:
            assert one.requests_failed == 0
        assert one.requests_served >= 150
        assert one.images == BATCH * one.requests_served
        assert sum(one.answered_by_version.values()) == one.requests_served
        assert {"1", "2"} <= set(one.answered_by_version)
        assert one.accuracy_before_drift >= 0.9
        assert 0 < one.slowest_seconds < 30
        assert "3" not in one.answered_by_version
    assert {one.version for one in evidence.devices} == {5}
    assert len({one.model_sha256 for one in evidence.devices}) == 1


def test_a_world_that_changes_for_all_is_learnt_by_the_fleet(evidence: Evidence) -> None:
    learnt = evidence.relearnt

    assert learnt is not None
    assert learnt.candidate == 5
    assert learnt.accuracy_drifted < 0.3
    assert learnt.accuracy_after >= 0.85
    assert learnt.accuracy_after_on_plain >= learnt.accuracy_before - 0.05
    assert learnt.update_bytes <= 0.13 * learnt.model_bytes
    assert [one.round for one in learnt.rounds if one.admitted >= 3] == [1, 2, 3, 4, 5]
    assert sum(one.refused for one in learnt.rounds) > 0
    assert any(one.silent or one.declined for one in learnt.rounds)
    assert learnt.story[0].startswith("digits/2: ")
    assert "recovered" in learnt.story[-1]


def test_a_bad_version_stops_at_one_device_and_goes_back_by_itself(evidence: Evidence) -> None:
    stopped = evidence.stopped

    assert stopped is not None
    assert (stopped.version, stopped.state) == (3, "rolled-back")
    assert stopped.reason.startswith("canary: 1 of 1 failed")
    assert (stopped.code, stopped.failed_elsewhere) == ("probation-failed", 0)
    failed = {one.device: one.requests_failed for one in evidence.devices}
    assert failed[stopped.canary] == stopped.failed_at_canary > 0
    assert sorted([*stopped.untouched, stopped.canary]) == sorted(failed)


def test_just_the_devices_whose_cameras_broke_are_found_with_the_numbers(
    evidence: Evidence,
) -> None:
    assert sum(one.inverted for one in evidence.devices) == 2
    for one in evidence.devices:
        assert one.unlike_the_rest is one.inverted
        assert one.verdict == ("drift" if one.inverted else "ok")
        if not one.inverted:
            continue
        assert one.findings
        for finding in one.findings:
            assert finding.series
            assert finding.detail
        compared = [f for f in one.findings if f.value is not None and f.threshold is not None]
        assert compared
        assert all(f.value > f.threshold for f in compared if f.value and f.threshold)


def test_every_attack_is_refused_by_the_device_for_its_own_reason(evidence: Evidence) -> None:
    assert {one.name: one.code for one in evidence.attacks} == ATTACKS
    assert all(one.refused and one.detail for one in evidence.attacks)
    honest = {one.device for one in evidence.devices if not one.inverted}
    assert {one.device for one in evidence.attacks} <= honest


def test_the_controller_has_stored_what_happened(evidence: Evidence) -> None:
    assert evidence.windows_stored >= DEVICES
    assert evidence.audit_records >= 20
