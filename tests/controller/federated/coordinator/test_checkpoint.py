"""What is written comes back to the bit, and nothing else is taken."""

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.federated.coordinator.checkpoint import keeps, read, written
from controller.federated.coordinator.errors import CheckpointUnreadable

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**80), 2**80)
    | st.floats(allow_nan=False)
    | st.text(max_size=5)
)
states = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=4), states, max_size=4))
def test_plain_values_come_back(state: dict[str, Any]) -> None:
    assert keeps(state)
    assert read(written(state)) == state


def test_arrays_come_back_to_the_bit() -> None:
    arrays: dict[str, Any] = {
        "m_t": {"w": np.linspace(0, 1, 12).reshape(3, 4), "b": np.array([1e-38, -0.0], np.float32)},
        "momentum": [np.arange(5, dtype=">i8"), np.zeros((0, 3), np.float32)],
        "step": np.float64(0.1),
        "nan": float("inf"),
        "transposed": np.arange(6, dtype=np.float32).reshape(2, 3).T,
    }

    found = read(written(arrays))

    assert found["m_t"]["w"].tobytes() == arrays["m_t"]["w"].tobytes()
    assert found["m_t"]["b"].dtype == np.float32
    assert np.signbit(found["m_t"]["b"][1])
    assert found["momentum"][0].tolist() == [0, 1, 2, 3, 4]
    assert found["momentum"][1].shape == (0, 3)
    assert isinstance(found["step"], np.float64)
    assert found["nan"] == float("inf")
    assert found["transposed"].tolist() == [[0, 3], [1, 4], [2, 5]]
    found["m_t"]["w"][0, 0] = 9  # it can be worked with


def test_what_can_not_be_kept_is_known() -> None:
    assert not keeps(object())
    assert not keeps({"a": [len]})
    assert not keeps({1: "a"})
    assert not keeps(np.array([object()]))
    assert not keeps(np.array(["a"]))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"muster run 1\n",
        pickle.dumps({"a": 1}),
        b"muster run 1\n\x02\x00\x00\x00{}",
        b"muster run 1\n\xff\xff\xff\xff{}",
        written({"a": np.ones(3)})[:-1],
        written({"a": np.ones(3)}) + b"x",
        written({"a": np.ones(3)}).replace(b"<f8", b"|O8"),
        written({"a": 1.5}).replace(b"float", b"flood"),
    ],
)
def test_anything_else_is_refused_in_words(data: bytes) -> None:
    with pytest.raises(CheckpointUnreadable, match="the checkpoint is"):
        read(data)
