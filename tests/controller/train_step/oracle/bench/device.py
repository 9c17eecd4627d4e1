"""A process that trains as a device does, with onnxruntime and numpy alone.

``python -m tests.controller.train_step.oracle.bench.device FOLDER NAME THREADS``: FOLDER has
``step.onnx`` and ``feed.npz``.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime  # type: ignore[import-untyped]

from protos.train_step import METADATA_KEY, next_of
from tests.controller.train_step.oracle.bench.answering import answer


def main() -> None:
    """One step a call: what the last one gave goes into the next, as ``agent.federated`` does."""
    folder, _, threads = sys.argv[1:]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(threads)
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(
        (Path(folder) / "step.onnx").read_bytes(), options, providers=["CPUExecutionProvider"]
    )
    spec = json.loads(session.get_modelmeta().custom_metadata_map[METADATA_KEY])
    with np.load(Path(folder) / "feed.npz") as arrays:
        feed = {name: arrays[name] for name in arrays.files}
    names = [one["name"] for one in spec["parameters"]]
    wanted = [next_of(name) for name in names]

    def step() -> None:
        feed.update(zip(names, session.run(wanted, feed), strict=True))

    answer(step)


if __name__ == "__main__":
    main()
