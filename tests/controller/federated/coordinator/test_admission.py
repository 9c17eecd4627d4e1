"""Whatever bytes a device sends, there is a judgement, and no exception."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.federated.evaluation import Evaluation
from agent.federated.reply import evaluate_reply
from agent.federated.update import as_floats, as_steps
from controller.federated.coordinator.admission import (
    Admitted,
    Code,
    Declined,
    Refused,
    Terms,
    Unfit,
    judged_evaluation,
    judged_metrics,
    judged_update,
    odd_ones,
    outliers,
    update_of,
)
from controller.federated.coordinator.request import arrays_of
from controller.federated.task import Task
from protos.flower import message_pb2
from tests.contracts.federated_values import TASK
from tests.controller.federated.coordinator.pretend import initial, reply

BASE = arrays_of(initial())
TERMS = Terms()
AFTER = {name: array + np.float32(0.25) for name, array in BASE.items()}


def asked() -> message_pb2.Message:
    message = message_pb2.Message()
    message.metadata.message_id = TASK.id
    message.metadata.message_type = "train"
    return message


FLOATS = reply(asked(), as_floats(BASE, AFTER).record, {"num-examples": 40, "loss": 0.5})
STEPS = reply(asked(), as_steps(BASE, AFTER, {}).record, {"num-examples": 40, "loss": 0.5})
COUNTS = evaluate_reply(asked(), Evaluation(examples=4, loss_sum=2.0, judged=4))
WHOLE: Task = TASK


@pytest.mark.parametrize("data", [FLOATS, STEPS])
def test_an_update_is_admitted_with_its_weight_norm_and_metrics(data: bytes) -> None:
    found = judged_update(data, WHOLE, TERMS, BASE)

    assert isinstance(found, Admitted)
    assert (found.weight, found.metrics["loss"]) == (40, 0.5)
    assert found.norm == pytest.approx(0.25 * np.sqrt(21), rel=1e-6)
    for name, array in update_of(data, TERMS, BASE).items():
        np.testing.assert_allclose(array, AFTER[name], rtol=1e-6)


def test_counts_are_admitted_as_an_evaluation() -> None:
    found = judged_evaluation(COUNTS, WHOLE)

    assert isinstance(found, Admitted)
    assert found.evaluation == Evaluation(examples=4, loss_sum=2.0, judged=4)


def test_metrics_alone_are_admitted_where_only_they_are_asked_for() -> None:
    assert isinstance(judged_metrics(COUNTS, WHOLE), Admitted)
    assert isinstance(judged_metrics(FLOATS, WHOLE), Refused)


@given(st.binary(max_size=300))
def test_any_bytes_are_judged(data: bytes) -> None:
    assert isinstance(judged_update(data, WHOLE, TERMS, BASE), Refused | Declined)
    assert isinstance(judged_evaluation(data, WHOLE), Refused | Declined)
    assert isinstance(judged_metrics(data, WHOLE), Refused | Declined)


@given(
    st.sampled_from([FLOATS, STEPS, COUNTS]),
    st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), min_size=1, max_size=8),
    st.integers(0, 2000),
)
def test_any_damage_to_a_good_reply_is_judged(
    data: bytes, changes: list[tuple[int, int]], cut: int
) -> None:
    damaged = bytearray(data)
    for place, value in changes:
        damaged[place % len(damaged)] = value
    for sent in (bytes(damaged), bytes(damaged[: cut % len(damaged)])):
        found = judged_update(sent, WHOLE, TERMS, BASE)
        assert isinstance(found, Admitted | Refused | Declined)
        if isinstance(found, Admitted):
            assert np.isfinite(found.norm)
            assert all(np.isfinite(one).all() for one in update_of(sent, TERMS, BASE).values())
        assert isinstance(judged_evaluation(sent, WHOLE), Admitted | Refused | Declined)


def test_what_was_not_admitted_is_not_decoded() -> None:
    with pytest.raises(Unfit, match="not a message"):
        update_of(b"\xff" * 50, TERMS, BASE)


def test_a_crowd_of_items_is_counted_and_not_read() -> None:
    def within(number: int, data: bytes) -> bytes:
        return bytes([number << 3 | 2]) + _varint(len(data)) + data

    records = b"".join(within(2, bytes([10, 0]) * 600) for _ in range(200))
    message = within(2, within(1, records))
    found = judged_update(message, replace(WHOLE, reply_bytes=len(message)), TERMS, BASE)

    assert isinstance(found, Refused)
    assert (found.code, found.reason) == (Code.MALFORMED, "more than 100000 items")


def _varint(value: int) -> bytes:
    low = bytes([value & 127 | (128 if value > 127 else 0)])
    return low if value < 128 else low + _varint(value >> 7)


def updates(*norms: float) -> dict[int, Admitted]:
    return {node: Admitted(1.0, norm) for node, norm in enumerate(norms)}


def test_an_update_is_compared_with_the_median_of_its_cohort() -> None:
    assert set(outliers(updates(1, 1.1, 0.9, 9), 3.0)) == {3}
    assert outliers(updates(1, 1.1, 0.9, 9), 0.0) == {}
    assert outliers(updates(1, 9), 3.0) == {}
    assert outliers(updates(0, 0, 0), 3.0) == {}
    assert outliers(updates(1, 1.1, 0.9, 9), 3.0)[3].code == Code.NORM_OF_COHORT


def test_metrics_of_another_kind_are_out_of_the_way() -> None:
    told = {
        1: Admitted(1, 0, {"n": 1.0, "loss": 1.0}),
        2: Admitted(1, 0, {"n": 1.0}),
        3: Admitted(1, 0, {"n": 1.0, "loss": 2.0}),
    }

    assert set(odd_ones(told)) == {2}
    assert odd_ones({1: told[1], 3: told[3]}) == {}
    listed = Admitted(1, 0, {"n": 1.0, "loss": [1.0]})
    assert set(odd_ones({1: told[1], 3: told[3], 4: listed})) == {4}


@pytest.mark.parametrize("weight", [-1, 2**31, -(2**60)])
def test_an_evaluation_weighs_what_a_device_may_hold(weight: int) -> None:
    message = message_pb2.Message.FromString(COUNTS)
    (record,) = (item.metric_record for item in message.content.items)
    next(item for item in record.items if item.key == "num-examples").value.sint64 = weight

    found = judged_evaluation(message.SerializeToString(), WHOLE)

    assert isinstance(found, Refused)
    assert found.code == Code.WEIGHT


def test_updates_that_move_nothing_hide_no_long_one() -> None:
    still = {node: Admitted(10.0, 0.0) for node in range(4)}
    moved = {node: Admitted(10.0, 1.0) for node in (7, 8, 9)}

    assert set(outliers(still | moved | {10: Admitted(10.0, 100.0)}, 5.0)) == {10}
    assert outliers(still | moved, 5.0) == {}


@pytest.mark.parametrize("length", [3.1, 100.0, 1e30])
def test_as_many_liars_as_honest_do_not_make_the_measure(length: float) -> None:
    assert set(outliers(updates(1, 1, length, length), 3.0)) == {2, 3}
    assert set(outliers(updates(0, 0, 1, 1, length, length), 3.0)) == {4, 5}
