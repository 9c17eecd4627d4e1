"""What requests bring and applications tell becomes examples: only what may, and no more than may."""

import asyncio
import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import InvalidRequest, NotReady, StoreError
from agent.federated.collecting.actions import Collector
from agent.federated.collecting.loop import keep_fresh
from agent.federated.collecting.remembered import Limits, Remembered, Request
from agent.federated.collecting.samples import AT_ONCE
from agent.federated.errors import NotCollecting, TruthUnfit, UnknownRequest
from agent.federated.examples import Part
from agent.federated.layout import TRUTH, Field, Layout, records
from agent.federated.retention import Retention
from protos.manifest import Manifest
from protos.train_step import Loss
from simulations.memory_examples import MemoryExamples
from tests.agent.federated.learners import Learner, classifier, clouds, linear
from tests.agent.onnx_models import linear_manifest, linear_model

ALL = Retention(hold_out=0.0)
ROOM = Limits()
DICE = random.Random(1)  # noqa: S311 - no secrets
LAYOUT = Layout(inputs=(Field("x", "FP32", (4,)),), truth=Field(TRUTH, "INT64", ()))
ROW = np.array([[1, 2, 3, 4]], np.float32)


class Hand:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.at = 1000.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.at, UTC)

    def monotonic(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        self.at += seconds


class Device:
    """One version that answers, and what is kept of its requests."""

    def __init__(
        self,
        learner: Learner,
        limits: Limits = ROOM,
        retention: Retention = ALL,
        clock: Hand | None = None,
    ) -> None:
        self.learner, self.clock = learner, clock or Hand()
        self.examples = MemoryExamples(retention)
        self.reads = 0
        self.collector = Collector(
            self.manifest,
            self.read,
            self.examples,
            retention,
            limits,
            self.clock,
            DICE,
        )

    def manifest(self, model: str, version: int | None) -> Manifest:
        if version not in {None, 1}:
            raise NotReady(f"{model}/{version}")
        return self.learner.manifest

    def read(self, digest: str) -> bytes:
        self.reads += 1
        return self.learner.blobs[digest]

    def rows(self, part: Part = Part.TRAINING) -> list[tuple[list[float], float]]:
        layout = self.learner.layout
        data = b"".join(self.examples.rows("learner", layout, part))
        names = layout.dtype.names or ()
        return [
            (row["x"].tolist(), float(row[TRUTH]) if TRUTH in names else -1.0)
            for row in records(layout, data)
        ]


@pytest.fixture(scope="module")
def learner() -> Learner:
    return classifier()


@pytest.fixture
def device(learner: Learner) -> Device:
    return Device(learner)


def test_a_truth_that_is_told_makes_an_example_of_its_request(device: Device) -> None:
    x, _ = clouds(3)
    device.collector.answered("learner", 1, "r1", {"x": x, "other": ROW})

    assert device.collector.feedback("learner", None, "r1", [2, 0, 1]) == 3

    assert device.rows() == [(row.tolist(), truth) for row, truth in zip(x, [2, 0, 1], strict=True)]
    assert device.reads == 1, "the training step is read once"


def test_a_truth_that_is_told_again_is_corrected(device: Device) -> None:
    device.collector.answered("learner", 1, "r1", {"x": ROW})
    device.collector.feedback("learner", None, "r1", [2])
    device.clock.at += 5

    device.collector.feedback("learner", 1, "r1", [1])

    assert device.rows() == [(ROW[0].tolist(), 1.0)]


def test_an_id_that_is_used_again_stands_for_the_later_request(device: Device) -> None:
    for at, scale in enumerate([1, 2]):
        device.clock.at += at
        device.collector.answered("learner", 1, "r1", {"x": ROW * scale})
        device.collector.feedback("learner", None, "r1", [0])

    assert [row for row, _ in device.rows()] == [ROW[0].tolist(), (ROW[0] * 2).tolist()]


def test_a_request_without_an_id_is_not_remembered(device: Device) -> None:
    device.collector.answered("learner", 1, "", {"x": ROW})

    with pytest.raises(UnknownRequest):
        device.collector.feedback("learner", None, "", [0])


def test_a_request_is_known_to_the_version_that_answered_it(device: Device) -> None:
    device.collector.answered("learner", 1, "r1", {"x": ROW})

    with pytest.raises(NotReady):
        device.collector.feedback("learner", 2, "r1", [0])
    with pytest.raises(UnknownRequest, match="'r2'"):
        device.collector.feedback("learner", 1, "r2", [0])


def test_what_was_asked_too_long_ago_is_forgotten(learner: Learner) -> None:
    device = Device(learner, Limits(seconds=60.0))
    device.collector.answered("learner", 1, "r1", {"x": ROW})

    device.clock.at += 61

    with pytest.raises(UnknownRequest):
        device.collector.feedback("learner", None, "r1", [0])


@pytest.mark.parametrize(
    ("truth", "said"),
    [
        ([], "0 values"),
        ([0, 1], "2 values"),
        ([3], "from 0 to 2"),
        ([-1], "from 0 to 2"),
        ([0.5], "no class"),
        ([float("nan")], "not finite"),
        (["cat"], "numbers are wanted"),
        ([True], "numbers are wanted"),
        ([None], "numbers are wanted"),
        ([[0]], "of shape"),
        ([[0], [1, 2]], "different lengths"),
        ([2**70], "numbers are wanted"),
    ],
)
def test_a_truth_that_is_no_class_of_the_model_is_refused(
    device: Device, truth: list[object], said: str
) -> None:
    device.collector.answered("learner", 1, "r1", {"x": ROW})

    with pytest.raises(TruthUnfit, match=said):
        device.collector.feedback("learner", None, "r1", truth)
    assert device.rows() == []


def test_the_truth_is_told_in_the_models_own_labels() -> None:
    device = Device(classifier(classes=("ant", 7, "cat")))
    device.collector.answered("learner", 1, "r1", {"x": np.repeat(ROW, 3, axis=0)})

    assert device.collector.feedback("learner", None, "r1", ["cat", 7.0, "ant"]) == 3
    assert [truth for _, truth in device.rows()] == [2.0, 1.0, 0.0]
    unknown: tuple[Any, ...] = ("dog", 1, True, ["cat"], None)
    for wrong in unknown:
        with pytest.raises(TruthUnfit, match="'ant', 7, 'cat'"):
            device.collector.feedback("learner", None, "r1", [wrong, 7, 7])


def test_numbers_are_a_truth_of_the_shape_of_the_output() -> None:
    device = Device(linear(2))
    device.collector.answered("learner", 1, "r1", {"x": np.repeat(ROW, 2, axis=0)})

    assert device.collector.feedback("learner", None, "r1", [[0.5, 1], [2, -3]]) == 2
    assert device.collector.feedback("learner", None, "r1", [1, 2, 3, 4.5]) == 2
    cases: list[tuple[list[Any], str]] = [
        ([[1, 2]], "2 values"),
        ([1e40, 0, 0, 0], "beyond what a float32"),
    ]
    for wrong, said in cases:
        with pytest.raises(TruthUnfit, match=said):
            device.collector.feedback("learner", None, "r1", wrong)


def test_rows_that_no_request_brought_are_added(device: Device) -> None:
    add = device.collector.add

    assert add("learner", None, {"x": ROW}, np.array([2])) == 1
    assert add("learner", 1, {"x": ROW * 2}, [1], "a") == 1
    assert add("learner", 1, {"x": ROW * 2}, [0], "a") == 1
    assert device.rows() == [(ROW[0].tolist(), 2.0), ((ROW[0] * 2).tolist(), 0.0)]
    for inputs, said in [
        ({}, "'x': missing"),
        ({"x": ROW.astype(np.float64)}, "float64"),
        ({"x": ROW[0]}, r"\[4\] given"),
        ({"x": ROW, "odd": ROW}, "'odd'"),
    ]:
        with pytest.raises(InvalidRequest, match=said):
            add("learner", None, inputs, [0])
    with pytest.raises(TruthUnfit):
        add("learner", None, {"x": ROW}, None)


def test_a_row_that_is_not_finite_is_not_learnt_from(device: Device) -> None:
    rows = np.concatenate([ROW, ROW * np.nan, ROW * np.inf, ROW * 2])
    device.collector.answered("learner", 1, "r1", {"x": rows})

    assert device.collector.feedback("learner", None, "r1", [0, 1, 2, 1]) == 2
    assert [truth for _, truth in device.rows()] == [0.0, 1.0]


def test_a_version_without_a_training_step_keeps_nothing(learner: Learner) -> None:
    device = Device(learner)
    plain = linear_manifest(linear_model())
    device.manifest = lambda *_: plain  # type: ignore[method-assign]
    collector = Collector(
        device.manifest, device.read, device.examples, ALL, ROOM, device.clock, DICE
    )

    collector.answered("linear", 1, "r1", {"x": ROW})

    with pytest.raises(NotCollecting, match="linear/1 has no training step"):
        collector.feedback("linear", None, "r1", [0])
    with pytest.raises(NotCollecting):
        collector.add("linear", None, {"x": ROW}, [0])


def test_a_disk_that_fails_fails_no_request(learner: Learner) -> None:
    device = Device(linear(4, loss=Loss.RECONSTRUCTION))
    device.examples.close()

    for _ in range(AT_ONCE):
        device.collector.answered("learner", 1, "", {"x": ROW})

    with pytest.raises(StoreError):
        device.collector.add("learner", None, {"x": ROW}, None)


def test_a_mistake_in_collecting_fails_no_request(
    device: Device, caplog: pytest.LogCaptureFixture
) -> None:
    broken = Collector(
        device.manifest,
        lambda _: None,  # type: ignore[arg-type, return-value]
        device.examples,
        ALL,
        ROOM,
        device.clock,
        DICE,
    )

    for name in ("r1", "r2"):
        broken.answered("learner", 1, name, {"x": ROW})

    assert [one.msg.split()[0] for one in caplog.records] == ["examples.not-kept"]


def test_a_model_that_is_its_own_target_learns_from_its_requests() -> None:
    device = Device(linear(4, loss=Loss.RECONSTRUCTION))
    x, _ = clouds(AT_ONCE + 9)
    for row in x:
        device.collector.answered("learner", 1, "", {"x": row[None]})

    assert AT_ONCE <= len(device.rows()) < len(x), "no request waits for the disk alone"
    device.collector.close()
    device.collector.close()

    assert sorted(row for row, _ in device.rows()) == sorted(x.tolist())
    with pytest.raises(UnknownRequest):
        device.collector.feedback("learner", None, "r1", [0])
    with pytest.raises(NotCollecting, match="its own target"):
        device.collector.add("learner", None, {"x": ROW}, [1])


def test_a_sample_is_fair_to_early_and_late_rows() -> None:
    device = Device(
        linear(4, loss=Loss.RECONSTRUCTION), retention=Retention(examples=200, hold_out=0)
    )
    for at in range(4000):
        device.collector.answered("learner", 1, "", {"x": np.full((1, 4), at, np.float32)})
    device.collector.close()

    kept = [row[0] for row, _ in device.rows()]

    assert len(kept) == 200
    assert 70 < sum(at < 2000 for at in kept) < 130
    assert 1600 < float(np.mean(kept)) < 2400


def test_examples_that_are_too_old_go_and_make_room_for_samples() -> None:
    retention = Retention(examples=AT_ONCE, hold_out=0, seconds=86400.0)
    device = Device(linear(4, loss=Loss.RECONSTRUCTION), retention=retention)
    for at in range(20 * AT_ONCE):
        device.collector.answered("learner", 1, "", {"x": np.full((1, 4), at, np.float32)})
    device.clock.at += 2 * 86400
    device.collector.expire()
    assert device.rows() == []

    for at in range(AT_ONCE):
        device.collector.answered("learner", 1, "", {"x": np.full((1, 4), -at, np.float32)})

    assert len(device.rows()) == AT_ONCE


class Hours(Hand):
    """Notes what there is every time that somebody sleeps, and has enough after some hours."""

    def __init__(self, hours: int, count: Callable[[], int] = int) -> None:
        super().__init__()
        self.counted: list[int] = []
        self._hours, self._count = hours, count

    async def sleep(self, seconds: float) -> None:
        assert seconds == 3600.0
        self.at += seconds
        self.counted.append(self._count())
        if len(self.counted) == self._hours:
            raise asyncio.CancelledError


async def test_what_is_too_old_is_let_go_every_hour(learner: Learner) -> None:
    hours = Hours(4, lambda: len(aged.rows()))
    aged = Device(learner, ROOM, Retention(hold_out=0.0, seconds=7200.0), hours)
    aged.collector.add("learner", None, {"x": ROW}, [0])

    with pytest.raises(asyncio.CancelledError):
        await keep_fresh(aged.collector, hours)

    assert hours.counted == [1, 1, 1, 0]


async def test_a_disk_that_fails_is_tried_again_in_an_hour(
    device: Device, caplog: pytest.LogCaptureFixture
) -> None:
    device.examples.close()
    hours = Hours(2)

    with pytest.raises(asyncio.CancelledError):
        await keep_fresh(device.collector, hours)

    assert [one.msg.split()[0] for one in caplog.records] == ["examples.not-expired"] * 2


# --- What is remembered ---------------------------------------------------------------------------


@given(puts=st.lists(st.tuples(st.integers(0, 9), st.integers(1, 4), st.floats(0, 5)), max_size=60))
def test_what_is_remembered_keeps_to_its_limits(puts: list[tuple[int, int, float]]) -> None:
    layout = LAYOUT
    limits = Limits(requests=5, size=9 * layout.row_bytes, seconds=8.0)
    remembered, now = Remembered(limits), 0.0
    latest: dict[str, Request] = {}
    for number, rows, passed in puts:
        now += passed
        request = Request(1, layout, np.zeros(rows, layout.dtype), now)
        remembered.put("m", f"{number}", request)
        latest[f"{number}"] = request

        kept = {key: found for key in latest if (found := remembered.get("m", key)) is not None}
        assert len(kept) == len(remembered) <= limits.requests
        assert sum(one.rows.nbytes for one in kept.values()) <= limits.size
        assert all(one.at >= now - limits.seconds for one in kept.values())
        assert all(latest[key] is one for key, one in kept.items())
        assert f"{number}" in kept
        ages = [one.at for one in kept.values()]
        gone = [one.at for key, one in latest.items() if key not in kept]
        assert not gone or not ages or max(gone) <= min(ages)


def test_a_request_that_is_larger_than_all_room_pushes_nothing_out() -> None:
    layout = LAYOUT
    remembered = Remembered(Limits(size=2 * layout.row_bytes))
    remembered.put("m", "a", Request(1, layout, np.zeros(1, layout.dtype), 1.0))

    remembered.put("m", "b", Request(1, layout, np.zeros(3, layout.dtype), 1.0))

    assert remembered.get("m", "b") is None
    assert remembered.get("m", "a") is not None
