"""From uploads to evidence: what gates judge is what devices told since they ran the version."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from agent.identity.keys import generate_key, public_key
from agent.inference.latency import BUCKETS
from agent.inference.traffic import Traffic
from agent.monitor.observer import Observer
from agent.monitor.reference import CELLS, Reference
from agent.monitor.window import OpenWindow
from agent.monitor.wire import window_message
from controller.fleet.device import Device
from controller.monitor.estimator import Estimator, estimator_of
from controller.monitor.registration import build_reference
from controller.registry.version import Model, State, Version
from controller.rollout.gate.actions import read_evidence
from controller.rollout.gate.evidence import Evidence
from controller.rollout.gate.judgement import GateVerdict, judge
from controller.rollout.policy import GATES, Gate, Metric
from controller.store.sql import SqlStore
from controller.store.store import Store
from controller.telemetry.actions import upload
from protos.manifest import Semantic, Tensor
from protos.v1 import telemetry_pb2
from simulations.memory_store import MemoryStore

NOW = 1_800_000_000.0
BEFORE = NOW - 1_000
PEM = public_key(generate_key())
V = telemetry_pb2.Verdict
X = Tensor(name="x", dtype="FP32", shape=(-1, 2), semantic=Semantic.NUMERIC)
P = Tensor(name="p", dtype="FP32", shape=(-1, 3), semantic=Semantic.PROBABILITY)


@dataclass
class Fleet:
    """Devices that tell of a model's versions 1 and 2, over the wire's own bytes."""

    store: Store
    told: dict[str, int] = field(default_factory=dict)

    def tell(self, device: str, message: telemetry_pb2.Window, spool: str = "s") -> None:
        self.told[device] = number = self.told.get(device, 0) + 1
        record = telemetry_pb2.Record(sequence=number, recorded_ms=int(1000 * NOW), window=message)
        request = telemetry_pb2.UploadRequest(spool_id=spool, records=[record])
        upload(self.store, device, request.SerializeToString(), NOW)

    def evidence(self, stage: Mapping[str, float], control: Mapping[str, float]) -> Evidence:
        with self.store.read() as tx:
            return read_evidence(tx, "pump", 2, stage, control)


@pytest.fixture(params=["memory", "sqlite"])
def fleet(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Fleet]:
    store: Store
    if request.param == "memory":
        store = MemoryStore()
    else:
        store = SqlStore.open(f"sqlite:///{tmp_path}/muster.db")
    _, estimator = profile()
    with store.begin() as tx:
        for number in range(4):
            tx.devices.put(Device(f"dev-{number}", NOW - 100, PEM, "ff", NOW + 100))
        tx.registry.put_model(Model("pump", 0.0, 1))
        for number in (1, 2, 3):
            known = Version("pump", number, State.PUBLISHED, b"{}", f"{number:064}", 0.0, "ada")
            tx.registry.put_version(known)
            tx.totals.put_estimator("pump", number, estimator)
    yield Fleet(store)
    store.close()


def probabilities(rows: int, seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).dirichlet([1, 1, 1], rows).astype(np.float32)


@cache
def profile() -> tuple[Reference, Estimator]:
    rng = np.random.default_rng(1)
    inputs = {"x": rng.normal(size=(2_000, 2)).astype(np.float32)}
    outputs = {"p": probabilities(2_000, 2)}
    right = rng.random(2_000) < outputs["p"].max(axis=1)
    reference = build_reference((X,), (P,), inputs, outputs, rng)
    estimator = estimator_of(reference, inputs, outputs, right)
    assert estimator is not None
    return reference, estimator


def window(
    name: str,
    ended: float = BEFORE,
    version: int = 2,
    verdict: int = V.VERDICT_OK,
    seconds: float = 0.01,
    answered: int = 95,
    failed: int = 5,
) -> telemetry_pb2.Window:
    """A window as an agent closes it; its answers are those of ``probabilities(answered, 3)``."""
    reference, _ = profile()
    observer, traffic = Observer(reference), Traffic()
    observer.observe({"x": np.zeros((answered, 2), np.float32)}, {"p": probabilities(answered, 3)})
    for _ in range(answered):
        traffic.answered(seconds)
    for _ in range(failed):
        traffic.failed()
    open_ = OpenWindow(
        name, "pump", version, "a" * 64, int(1000 * ended) - 500, observer.drain(), traffic.totals()
    )
    message = window_message(open_, int(1000 * ended))
    message.verdict = verdict  # type: ignore[assignment]
    return message


def test_a_device_shows_what_its_windows_say(fleet: Fleet) -> None:
    fleet.tell("dev-1", window("a"))
    fleet.tell("dev-1", window("b", verdict=V.VERDICT_DRIFT, failed=0))
    fleet.tell("dev-1", window("c", verdict=V.VERDICT_BAD_DATA, failed=0))
    fleet.tell("dev-1", window("d", verdict=V.VERDICT_INSUFFICIENT_DATA, failed=0))
    fleet.tell("dev-1", window("e", failed=0))

    (sample,) = fleet.evidence({"dev-1": 0.0}, {}).stage

    assert (sample.device, sample.inferences) == ("dev-1", 480)
    assert set(sample.values) == set(Metric)
    assert sample.values[Metric.ERROR_RATE] == 5 / 480
    assert sample.values[Metric.LATENCY_P99] == pytest.approx(0.01, rel=0.7)
    assert sample.values[Metric.DRIFT] == sample.values[Metric.DATA_QUALITY] == 0.25
    sure = probabilities(95, 3).max(axis=1).mean()
    assert sample.values[Metric.CONFIDENCE] == pytest.approx(sure, abs=1e-3)
    assert sample.values[Metric.ESTIMATED_ACCURACY] == pytest.approx(sure, abs=0.05)


def test_only_what_ended_since_counts_and_who_told_nothing_is_left_out(fleet: Fleet) -> None:
    for name, ended in (("a", BEFORE), ("b", BEFORE + 10), ("c", BEFORE + 20)):
        fleet.tell("dev-1", window(name, ended, failed=0 if name == "a" else 5))

    def seen(since: float) -> list[tuple[str, int]]:
        stage = fleet.evidence({"dev-1": since, "dev-2": since}, {}).stage
        return [(one.device, one.inferences) for one in stage]

    assert seen(0.0) == [("dev-1", 295)]
    assert seen(BEFORE) == [("dev-1", 200)]
    assert seen(BEFORE + 15) == [("dev-1", 100)]
    assert seen(BEFORE + 20) == []


def test_the_stage_shows_the_version_and_the_control_group_all_others(fleet: Fleet) -> None:
    for device in ("dev-1", "dev-2"):
        for version in (1, 2, 3):
            fleet.tell(device, window(f"{device}-{version}", version=version, failed=version))
    fleet.tell("dev-3", window("mine", version=9))

    seen = fleet.evidence({"dev-1": 0.0}, {"dev-2": 0.0, "dev-3": 0.0})

    assert [one.inferences for one in seen.stage] == [97]
    assert seen.stage[0].values[Metric.ERROR_RATE] == 2 / 97
    assert [(one.device, one.inferences) for one in seen.control] == [("dev-2", 96 + 98)]
    assert seen.control[0].values[Metric.ERROR_RATE] == 4 / 194
    assert fleet.evidence({}, {}) == Evidence()


def test_a_window_that_comes_again_in_another_spool_counts_once(fleet: Fleet) -> None:
    for spool in ("s", "t"):
        fleet.tell("dev-1", window("a"), spool)

    assert [one.inferences for one in fleet.evidence({"dev-1": 0.0}, {}).stage] == [100]


def test_a_device_whose_clock_was_set_back_is_heard(fleet: Fleet) -> None:
    fleet.tell("dev-1", window("a", BEFORE + 100))
    fleet.tell("dev-1", window("b", BEFORE))

    assert [one.inferences for one in fleet.evidence({"dev-1": BEFORE + 50}, {}).stage] == [200]
    assert [one.inferences for one in fleet.evidence({"dev-1": BEFORE + 100}, {}).stage] == [100]


def test_without_an_estimator_there_is_no_confidence_and_no_accuracy(fleet: Fleet) -> None:
    fleet.tell("dev-1", window("a", version=9))

    with fleet.store.read() as tx:
        (sample,) = read_evidence(tx, "pump", 9, {"dev-1": 0.0}, {}).stage

    assert set(sample.values) == set(Metric) - {Metric.CONFIDENCE, Metric.ESTIMATED_ACCURACY}


def test_a_window_in_which_nothing_was_answered_tells_little(fleet: Fleet) -> None:
    message = window("a")
    message.traffic.Clear()
    del message.counts[:]
    message.counts.extend(([0] * CELLS) * 4)
    del message.sums[:]
    message.sums.extend([0.0, 0.0, math.inf, -math.inf] * 4)
    message.rows = 0
    fleet.tell("dev-1", message)

    (sample,) = fleet.evidence({"dev-1": 0.0}, {}).stage

    assert (sample.inferences, set(sample.values)) == (0, {Metric.DATA_QUALITY, Metric.DRIFT})


NUMBERS = st.sampled_from([0, 1, 5, 2**31, 2**53 - 1, 2**53, 2**64 - 1])
DOUBLES = st.sampled_from([0.0, -1.0, 1e308, 2.0**62, -(2.0**62), math.inf, -math.inf, math.nan])
HOSTILE = st.fixed_dictionaries(
    {
        "requests": NUMBERS,
        "failed": NUMBERS,
        "latency": NUMBERS,
        "sum": DOUBLES,
        "least": DOUBLES,
        "rows": NUMBERS,
        "verdict": st.integers(0, 4),
        "ended": st.floats(-1e6, 2e9),
    }
)


@given(lies=st.lists(HOSTILE, min_size=1, max_size=4), honest=st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_whatever_a_device_tells_gates_can_be_judged(
    lies: list[dict[str, float]], honest: int
) -> None:
    store = MemoryStore()
    _, estimator = profile()
    with store.begin() as tx:
        tx.devices.put(Device("dev-1", NOW - 100, PEM, "ff", NOW + 100))
        tx.registry.put_model(Model("pump", 0.0, 1))
        tx.totals.put_estimator("pump", 2, estimator)
    liar = Fleet(store)
    for number, lie in enumerate(lies):
        if number == honest:
            liar.tell("dev-1", window("honest"))
        liar.tell("dev-1", lying(f"w{number}", lie))

    seen = liar.evidence({"dev-1": 0.0}, {})
    for sample in seen.stage:
        assert sample.inferences >= 0
        assert all(math.isfinite(value) and value >= 0 for value in sample.values.values())
        assert all(
            value <= 1 for metric, value in sample.values.items() if metric != Metric.LATENCY_P99
        )
    limits = tuple(Gate(metric=metric, limit=0.02) for metric in Metric)
    for result in judge((*GATES, *limits), (), Evidence(seen.stage * 20, seen.stage), 1):
        assert result.verdict in GateVerdict


def lying(name: str, lie: Mapping[str, float]) -> telemetry_pb2.Window:
    message = window(name, float(lie["ended"]))
    message.verdict = int(lie["verdict"])  # type: ignore[assignment]
    message.traffic.requests = int(lie["requests"])
    message.traffic.failed = int(lie["failed"])
    message.traffic.latency_counts[BUCKETS - 1] = int(lie["latency"])
    message.sums[8], message.sums[10] = lie["sum"], lie["least"]
    message.rows = int(lie["rows"])
    del message.counts[:]
    message.counts.extend(([message.rows] + [0] * (CELLS - 1)) * 4)
    return message
