"""Updates as arrays of a reply: what the controller reads is, bit for bit, what the device meant."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as some_arrays
from numpy.typing import NDArray

from agent.federated.errors import NotFinite, ParametersUnfit
from agent.federated.parameters import Parameters
from agent.federated.update import (
    Update,
    as_floats,
    as_steps,
    most_bytes,
    read_carry,
    read_parameters,
    write_parameters,
)
from protos.flower import message_pb2
from protos.flower.arrays import read_array
from protos.train_step import Loss, Optimizer, Parameter, TrainStepSpec

SHAPES = {"w": (3, 4), "b": (5,), "slope": (), "none": (0, 2)}
SPEC = TrainStepSpec(
    model_sha256="a" * 64,
    loss=Loss.MSE,
    optimizer=Optimizer.SGD,
    parameters=tuple(Parameter(name, shape) for name, shape in SHAPES.items()),
    inputs=("x",),
    target_shape=(-1, 1),
    sample_weight=False,
    proximal=False,
)

Floats = NDArray[np.float32]


@st.composite
def parameters(draw: st.DrawFn, largest: float = 1e3) -> Parameters:
    values = st.floats(-largest, largest, width=32)
    return {
        name: draw(some_arrays(np.float32, shape, elements=values))
        for name, shape in SHAPES.items()
    }


def decoded(update: Update, before: Parameters) -> Parameters:
    """As the controller reads it, over the wire."""
    data = update.record.SerializeToString()
    record = message_pb2.ArrayRecord.FromString(data)
    return {item.key: read_array(item.value, before[item.key]) for item in record.items}


def moved(before: Parameters, by: Parameters) -> Parameters:
    return {name: np.asarray(before[name] + by[name]) for name in before}


@settings(max_examples=25)
@given(parameters())
def test_parameters_come_back_to_the_bit(given_ones: Parameters) -> None:
    data = write_parameters(given_ones)
    again = read_parameters(data, SPEC)

    assert len(data) <= most_bytes(SPEC)
    assert list(again) == list(SHAPES)
    for name, array in given_ones.items():
        assert again[name].shape == array.shape
        assert again[name].tobytes() == array.tobytes()


@settings(max_examples=25)
@given(parameters(), parameters())
def test_floats_arrive_to_the_bit(before: Parameters, after: Parameters) -> None:
    update = as_floats(before, after)

    for name, array in decoded(update, before).items():
        assert array.tobytes() == after[name].tobytes()
    assert update.carry == {}


@settings(max_examples=25)
@given(parameters(), parameters(largest=1.0))
def test_steps_arrive_as_the_device_has_them(before: Parameters, by: Parameters) -> None:
    """What the controller adds, and what the device carries on, are all that was learnt."""
    after = moved(before, by)
    update = as_steps(before, after, {})

    for name, array in decoded(update, before).items():
        learnt = np.asarray(after[name] - before[name])
        sent = np.asarray(learnt - update.carry[name])  # exact: both are multiples of near numbers
        np.testing.assert_allclose(array, before[name] + sent, rtol=1e-6, atol=1e-6)
        assert array.dtype == np.float32
        assert array.shape == before[name].shape


@settings(max_examples=40)
@given(st.lists(parameters(largest=1.0), min_size=1, max_size=6))
def test_the_sum_of_what_was_sent_is_off_by_the_rounding_of_the_last(
    learnt: list[Parameters],
) -> None:
    before: Parameters = {name: np.zeros(shape, np.float32) for name, shape in SHAPES.items()}
    carry: Parameters = {}
    sent = {name: np.zeros(shape) for name, shape in SHAPES.items()}
    unit = dict.fromkeys(SHAPES, 0.0)
    for one in learnt:
        largest = {
            name: np.abs(one[name] + carry.get(name, np.float32(0))).max(initial=0)
            for name in SHAPES
        }
        update = as_steps(before, one, carry)
        carry = read_carry(write_parameters(update.carry), before)
        for name, array in decoded(update, before).items():
            sent[name] = sent[name] + array.astype(np.float64)
            unit[name] = float(largest[name]) / 127

    for name, shape in SHAPES.items():
        total = sum((one[name].astype(np.float64) for one in learnt), np.zeros(shape))
        assert np.abs(sent[name] - total).max(initial=0) <= unit[name] / 2 + 1e-5


def test_what_was_rounded_away_is_sent_in_the_end() -> None:
    """A small parameter beside a large one would never move without error feedback."""
    zeros = {"w": np.zeros(2, np.float32)}
    after = {"w": np.array([1.0, 0.001], np.float32)}
    carry: Parameters = {}
    sent = np.zeros(2)
    for _ in range(100):
        update = as_steps(zeros, after, carry)
        carry = update.carry
        sent += decoded(update, zeros)["w"]

    without = decoded(as_steps(zeros, after, {}), zeros)["w"]

    assert without[1] == 0.0
    np.testing.assert_allclose(sent, [100.0, 0.1], atol=0.01)


def test_a_shield_sees_the_differences_and_decides_what_is_sent() -> None:
    before = {"w": np.array([1.0, 2.0], np.float32)}
    after = {"w": np.array([1.5, 2.0], np.float32)}
    seen: list[Parameters] = []

    def halved(difference: Parameters) -> Parameters:
        seen.append(difference)
        return {name: np.asarray(array * np.float32(0.5)) for name, array in difference.items()}

    stepped = decoded(as_steps(before, after, {}, halved), before)["w"]
    plain = decoded(as_floats(before, after, halved), before)["w"]

    assert [one["w"].tolist() for one in seen] == [[0.5, 0.0]] * 2
    np.testing.assert_allclose(stepped, [1.25, 2.0], rtol=1e-6)
    assert plain.tolist() == [1.25, 2.0]


@pytest.mark.parametrize("wrong", [np.nan, np.inf, 3e38])
def test_an_update_that_is_not_finite_is_not_sent(wrong: float) -> None:
    before = {"w": np.array([-3e38], np.float32)}
    after = {"w": np.array([wrong], np.float32)}

    with pytest.raises(NotFinite, match="'w'"):
        as_steps(before, after, {})
    if not np.isfinite(wrong):
        with pytest.raises(NotFinite, match="'w'"):
            as_floats(before, after)


def zeros(**shapes: tuple[int, ...]) -> Parameters:
    return {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"\xff", "not an array record"),
        (bytes(10_000), "10000 bytes"),
        (write_parameters(zeros(w=(3, 4), b=(5,), slope=())), "'none': missing"),
        (write_parameters(zeros(**SHAPES, extra=())), "'extra': missing, doubled or unknown"),
        (write_parameters(zeros(**{**SHAPES, "b": (6,)})), r"\(6,\), not float32 \(5,\)"),
    ],
)
def test_parameters_that_are_not_the_steps_are_refused(data: bytes, says: str) -> None:
    with pytest.raises(ParametersUnfit, match=says):
        read_parameters(data, SPEC)


@given(st.binary(max_size=200))
def test_any_bytes_are_parameters_or_refused(data: bytes) -> None:
    with pytest.raises(ParametersUnfit):
        read_parameters(data, SPEC)


@pytest.mark.parametrize(
    "data", [b"\xff", b"", write_parameters(zeros(w=(2,))), write_parameters(zeros(v=(3,)))]
)
def test_a_carry_of_another_model_is_none(data: bytes) -> None:
    assert read_carry(data, zeros(w=(3,))) == {}
