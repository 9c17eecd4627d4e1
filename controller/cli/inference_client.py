"""A client of the Open Inference Protocol, as small as `muster predict` needs it."""

import json
from pathlib import Path
from typing import Any, Final

import httpx
import numpy as np
from numpy.typing import NDArray

from controller.cli.output import CommandFailed

NUMPY_TYPES: Final = {
    "BOOL": "bool", "UINT8": "uint8", "UINT16": "uint16", "UINT32": "uint32", "UINT64": "uint64",
    "INT8": "int8", "INT16": "int16", "INT32": "int32", "INT64": "int64",
    "FP16": "float16", "FP32": "float32", "FP64": "float64",
}  # fmt: skip
Array = NDArray[Any]
Answer = dict[str, Any]


def infer(url: str, model: str, inputs: Path, rows: int) -> Answer:
    """The answer of the agent at ``url`` to at most ``rows`` rows of a file.

    Raises:
        CommandFailed: the file is not what the model takes, or the agent does not answer.
    """
    name, _, version = model.partition("/")
    path = f"/v2/models/{name}" + (f"/versions/{version}" if version else "")
    with httpx.Client(base_url=url, timeout=60, trust_env=False) as http:
        signature = _ask(http, "GET", path)
        return _ask(http, "POST", f"{path}/infer", _request(inputs, signature, rows))


def as_rows(answer: Answer) -> list[dict[str, object]]:
    """One row an example: its number, and every output's value in short."""
    outputs = {
        one["name"]: np.asarray(one["data"]).reshape(one["shape"]) for one in answer["outputs"]
    }
    count = max((len(values) for values in outputs.values() if values.ndim), default=0)
    return [
        {"row": i, **{name: _short(values[i]) for name, values in outputs.items()}}
        for i in range(count)
    ]


def _request(path: Path, signature: dict[str, Any], rows: int) -> dict[str, Any]:
    if path.suffix == ".json":
        try:
            body = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CommandFailed("bad-input", f"{path}: {error}") from error
        if not isinstance(body, dict):
            raise CommandFailed("bad-input", f"{path}: not a JSON object")
        return body
    arrays = _arrays(path)
    wanted = signature["inputs"]
    if len(wanted) == 1 and wanted[0]["name"] not in arrays and len(arrays) == 1:
        arrays = {wanted[0]["name"]: next(iter(arrays.values()))}
    return {"inputs": [_tensor(path, spec, arrays, rows) for spec in wanted]}


def _arrays(path: Path) -> dict[str, Array]:
    try:
        with np.load(path, allow_pickle=False) as file:
            if isinstance(file, np.ndarray):
                return {"": file}
            return {name: file[name] for name in file.files}
    except (OSError, ValueError) as error:
        raise CommandFailed("bad-input", f"{path}: {error}") from error


def _tensor(
    path: Path, spec: dict[str, Any], arrays: dict[str, Array], rows: int
) -> dict[str, Any]:
    name, datatype = spec["name"], spec["datatype"]
    if name not in arrays:
        raise CommandFailed(
            "bad-input", f"{path}: no array {name!r}; it has {', '.join(sorted(arrays)) or 'none'}"
        )
    if datatype not in NUMPY_TYPES:
        raise CommandFailed("bad-input", f"{path}: input {name!r} is {datatype}: send JSON instead")
    array = arrays[name][:rows].astype(NUMPY_TYPES[datatype])
    return {
        "name": name,
        "datatype": datatype,
        "shape": list(array.shape),
        "data": array.reshape(-1).tolist(),
    }


def _short(value: Array) -> str:
    if value.ndim == 0:
        return f"{value:.4g}" if value.dtype.kind == "f" else str(value)
    flat = value.reshape(-1)
    shown = " ".join(f"{one:.3g}" for one in flat[:10])
    return shown + (" …" if flat.size > 10 else "")


def _ask(
    http: httpx.Client, method: str, path: str, body: dict[str, Any] | None = None
) -> dict[str, Any]:
    try:
        response = http.request(method, path, json=body)
    except httpx.HTTPError as error:
        raise CommandFailed(
            "unreachable",
            f"{http.base_url}: {error}",
            "Check that `muster-agent run` runs there: `muster-agent status` says on which port.",
        ) from error
    if response.is_success:
        answer: dict[str, Any] = response.json()
        return answer
    try:
        detail = str(response.json()["error"])
    except (ValueError, KeyError, TypeError):
        detail = response.reason_phrase
    raise CommandFailed(f"http-{response.status_code}", detail)
