from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from agent.errors import InvalidRequest
from agent.inference.signature import check_inputs, outputs_of, signature_of
from tests.agent.onnx_models import manifest_of, tensor

SIGNATURE = signature_of(
    manifest_of(
        b"",
        [tensor("image", "FP32", -1, 8, 8), tensor("site", "BYTES", -1, 1), tensor("t", "FP64", 1)],
        [tensor("label", "INT64", -1), tensor("score", "FP32", -1)],
    )
)
SITE = np.array([["berlin"], ["rome"]], dtype=object)
T = np.zeros(1)


def image(*shape: int, dtype: Any = np.float32) -> NDArray[Any]:
    return np.zeros(shape, dtype=dtype)


def good() -> dict[str, NDArray[Any]]:
    return {"image": image(2, 8, 8), "site": SITE, "t": T}


def test_tensors_of_the_signature_pass_in_any_order() -> None:
    check_inputs(SIGNATURE, good())
    check_inputs(SIGNATURE, dict(reversed(good().items())))


def test_texts_of_fixed_width_are_texts() -> None:
    check_inputs(SIGNATURE, good() | {"site": SITE.astype("U6")})


def test_what_is_not_a_number_passes_and_is_for_the_monitor_to_count() -> None:
    check_inputs(SIGNATURE, good() | {"image": np.full((2, 8, 8), np.nan, np.float32)})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"image": image(2, 8, 7)},
            r"input 'image': FP32 \[2, 8, 7\] given; it is FP32 \[-1, 8, 8\]",
        ),
        ({"image": image(8, 8)}, r"input 'image': FP32 \[8, 8\] given"),
        ({"image": image(2, 8, 8, dtype=np.float64)}, r"input 'image': FP64"),
        ({"image": image(2, 8, 8, dtype=np.int64)}, r"input 'image': INT64"),
        ({"image": image(2, 8, 8, dtype=">f4")}, r"input 'image': >f4"),
        ({"image": image(2, 8, 8, dtype=np.complex64)}, r"input 'image': complex64"),
        ({"image": image(0, 8, 8)}, r"input 'image': FP32 \[0, 8, 8\] \(no rows\)"),
        ({"image": image(3, 8, 8)}, r"differ in their number of rows: image 3, site 2"),
        ({"t": np.zeros(2)}, r"input 't': FP64 \[2\] given; it is FP64 \[1\]"),
        ({"mask": T}, r"input 'mask': no such input; the model takes image \(FP32"),
    ],
)
def test_what_does_not_fit_is_refused_by_its_name(
    change: dict[str, NDArray[Any]], said: str
) -> None:
    with pytest.raises(InvalidRequest, match=said):
        check_inputs(SIGNATURE, good() | change)


def test_a_missing_input_is_named() -> None:
    with pytest.raises(InvalidRequest, match="input 'site': missing; it is BYTES"):
        check_inputs(SIGNATURE, {"image": image(2, 8, 8), "t": T})


def test_everything_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(InvalidRequest) as refusal:
        check_inputs(SIGNATURE, {"image": image(2, 2), "mask": T})

    for name in ("'image'", "'site'", "'t'", "'mask'"):
        assert name in str(refusal.value)


def test_without_a_wish_all_outputs_are_computed() -> None:
    assert outputs_of(SIGNATURE, ()) == ("label", "score")


def test_outputs_come_in_the_order_of_the_wish() -> None:
    assert outputs_of(SIGNATURE, ["score", "label"]) == ["score", "label"]


@pytest.mark.parametrize("names", [["proba"], ["label", "label"]])
def test_an_output_that_is_unknown_or_wished_twice_is_named(names: list[str]) -> None:
    with pytest.raises(InvalidRequest, match=f"output '{names[-1]}'"):
        outputs_of(SIGNATURE, names)
