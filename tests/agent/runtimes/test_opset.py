"""The runtime's highest opset is found by trying."""

import numpy as np
import onnx
import pytest

from agent.runtimes.onnx import OnnxRuntime
from agent.runtimes.opset import highest_opset, smallest_model


@pytest.mark.parametrize("opset", [7, 21, 300])
def test_the_smallest_model_is_one_by_the_specification(opset: int) -> None:
    model = onnx.load_from_string(smallest_model(opset))

    assert [(one.domain, one.version) for one in model.opset_import] == [("", opset)]
    assert [one.op_type for one in model.graph.node] == ["Identity"]
    if opset < 300:
        onnx.checker.check_model(model, full_check=True)


def test_onnxruntime_takes_its_highest_opset_and_none_above() -> None:
    import onnxruntime  # type: ignore[import-untyped]  # noqa: PLC0415

    found = OnnxRuntime().highest_opset()

    session = onnxruntime.InferenceSession(smallest_model(found))
    assert session.run(None, {"x": np.ones(1, np.float32)})[0] == 1.0
    with pytest.raises(Exception, match="opset"):
        onnxruntime.InferenceSession(smallest_model(found + 1))


@pytest.mark.parametrize("newest", [6, 7, 8, 21, 126, 127])
def test_the_highest_is_found_wherever_it_is(newest: int) -> None:
    taken = {smallest_model(opset) for opset in range(1, newest + 1)}

    assert highest_opset(taken.__contains__) == (newest if newest >= 7 else 0)
