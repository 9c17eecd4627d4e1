"""What is trained: arrays by name. The idle agent needs no more of training than this."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from agent.federated.errors import ParametersUnfit
from protos.train_step import TrainStepSpec

Float32s = NDArray[np.float32]
Parameters = Mapping[str, Float32s]


def check_parameters(spec: TrainStepSpec, parameters: Parameters) -> None:
    """Passes if ``parameters`` are those of the step: names, shapes, float32, finite.

    Raises:
        ParametersUnfit: they are not; names one that differs.
    """
    wanted = {one.name: one.shape for one in spec.parameters}
    for name in (*wanted, *parameters):
        if name not in wanted:
            raise ParametersUnfit(f"parameter {name!r}: the training step has no such parameter")
        array = parameters.get(name)
        if array is None:
            raise ParametersUnfit(f"parameter {name!r}: missing")
        if array.dtype != np.float32 or array.shape != wanted[name]:
            raise ParametersUnfit(
                f"parameter {name!r}: {array.dtype} {list(array.shape)}; it is float32 "
                f"{list(wanted[name])}"
            )
        if not np.isfinite(array).all():
            raise ParametersUnfit(f"parameter {name!r}: it is not finite")
