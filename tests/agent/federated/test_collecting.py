"""What requests bring and applications tell becomes examples: only what may, and no more than may."""

from typing import Any

import numpy as np
import pytest

from agent.errors import InvalidRequest, NotReady, StoreError
from agent.federated.collecting.actions import Collector
from agent.federated.collecting.remembered import Limits
from agent.federated.collecting.samples import AT_ONCE
from agent.federated.errors import NotCollecting, TruthUnfit, UnknownRequest
from protos.train_step import Loss
from tests.agent.federated.collectors import ALL, DICE, ROOM, ROW, Device
from tests.agent.federated.learners import Learner, classifier, clouds, linear
from tests.agent.onnx_models import linear_manifest, linear_model


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
