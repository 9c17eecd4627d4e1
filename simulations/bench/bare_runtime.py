"""The least that can answer: a process with onnxruntime and numpy that has loaded one model.

``python -m simulations.bench.bare_runtime MODEL [MODULE …]`` imports these too. Prints "ready" after its first inference, and
ends when its stdin is closed.
"""

import importlib
import sys
from pathlib import Path

import numpy as np
import onnxruntime  # type: ignore[import-untyped]


def main() -> None:
    """Loads with the agent's number of threads, infers once, and waits."""
    for name in sys.argv[2:]:
        importlib.import_module(name)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        Path(sys.argv[1]).read_bytes(), options, providers=["CPUExecutionProvider"]
    )
    session.run(None, {"image": np.zeros((1, 8, 8), np.float32)})
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main()
