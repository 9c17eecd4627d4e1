"""A client of the Open Inference Protocol, as small as `muster predict` needs it."""

import json
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import httpx
import numpy as np

from agent.inference.datatypes import DATATYPES, Array, datatype_of, to_raw
from controller.cli.arguments import Named, require_plain
from controller.cli.client import Remedies, place, unreachable
from controller.cli.output import CommandFailed
from controller.errors import ControllerError
from controller.registry.npz_file import read_arrays
from protos.limits import INFER_BYTES

Answer = dict[str, Any]

HEADER_LENGTH: Final = "Inference-Header-Content-Length"
_REMEDIES: Final = {
    400: "Compare the file with the model's signature: `muster model show MODEL/VERSION`.",
    404: "`muster-agent status` on the device says what runs there.",
    409: "A device learns if its agent.toml has `[training] collect = true`, from a version with a train step.",
    413: "Send fewer rows: --rows.",
    503: "`muster-agent status` on the device says what it waits for.",
}
_PORT: Final = "`muster-agent status` says on which port the agent serves REST."
_UNREACHABLE: Final = Remedies(
    "Check that `muster-agent run` runs there: `muster-agent status` says on which port.",
    "An agent serves http://, unless something in front of it speaks TLS.",
    "Something else answers there, or its certificate is of nobody whom this machine trusts.",
)


KEPT: Final = "kept"
"""In an answer, beside what the protocol has: how many rows the device keeps with their truth."""


def infer(url: str, model: Named, inputs: Path, rows: int, truth: str = "") -> Answer:
    """The answer of the agent at ``url`` to at most ``rows`` rows of a file.

    With ``truth``, an array of the file, the agent is told then what was true.

    Raises:
        CommandFailed: the file is not what the model takes, or the agent does not answer.
    """
    path = "/v2" + place("models", model.model)
    path += place("versions", model.version) if model.version else ""
    with httpx.Client(base_url=url, timeout=60, trust_env=False) as http:
        if inputs.suffix == ".json":
            body = _protocol_request(inputs)
            _inputs_of(http, path)
            return _ask(http, "POST", f"{path}/infer", content=body)
        arrays = dict(_arrays(inputs))
        told = _truth(inputs, arrays, truth, rows) if truth else None
        name = f"muster-predict-{uuid.uuid4().hex}" if truth else ""
        content, length = _request(inputs, _inputs_of(http, path), arrays, rows, name)
        headers = {HEADER_LENGTH: str(length)}
        answer = _ask(http, "POST", f"{path}/infer", content=content, headers=headers)
        if told is None:
            return answer
        kept = _ask(http, "POST", f"{path}/feedback", json={"id": name, "truth": told})
        return {**answer, KEPT: kept.get("kept", 0)}


def _inputs_of(http: httpx.Client, path: str) -> list[Any]:
    inputs = _ask(http, "GET", path).get("inputs")
    if not isinstance(inputs, list):
        raise _no_agent(str(http.base_url).rstrip("/"))
    return inputs


def _truth(path: Path, arrays: dict[str, Array], name: str, rows: int) -> list[Any]:
    """What was true of each row; it is no input, so it is taken out of ``arrays``."""
    if name not in arrays:
        there = ", ".join(sorted(arrays)) or "none"
        raise _bad(f"{path}: no array {name!r}; there are: {there}")
    found = arrays.pop(name)
    if found.ndim == 0 or found.dtype.kind not in "biuf":
        raise _bad(f"{path}: array {name!r} of {found.dtype}: a number for each row is wanted")
    told: list[Any] = found[:rows].tolist()
    return told


def as_rows(answer: Answer, url: str) -> list[dict[str, object]]:
    """One row an example: its number, and every output's value in short.

    Raises:
        CommandFailed: it is no answer of the protocol.
    """
    try:
        outputs = {
            one["name"]: np.asarray(one["data"]).reshape(one["shape"]) for one in answer["outputs"]
        }
    except (KeyError, TypeError, ValueError) as error:
        raise _no_agent(url) from error
    count = max((len(values) for values in outputs.values() if values.ndim), default=0)
    return [
        {
            "row": i,
            **{
                name: _short(values[i])
                for name, values in outputs.items()
                if values.ndim and i < len(values)
            },
        }
        for i in range(count)
    ]


def _protocol_request(path: Path) -> bytes:
    data = _read(path)
    try:
        body = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise _bad(f"{path}: not JSON: {error}") from error
    if not isinstance(body, dict):
        raise _bad(f"{path}: not a JSON object")
    return data


def _arrays(path: Path) -> Mapping[str, Array]:
    data = _read(path)
    try:
        return read_arrays(data, str(path))
    except ControllerError as error:
        raise _bad(error.detail) from error


def _read(path: Path) -> bytes:
    try:
        require_plain(path)
        if path.stat().st_size > 8 * INFER_BYTES:
            raise _bad(f"{path}: larger than {8 * INFER_BYTES:,} bytes")
        return path.read_bytes()
    except OSError as error:
        raise _bad(f"{path}: {error.strerror}") from error


def _request(
    path: Path, wanted: list[Any], arrays: Mapping[str, Array], rows: int, name: str
) -> tuple[bytes, int]:
    """A request in the binary tensor extension, which also takes NaN, and its JSON part's length."""
    if len(wanted) == 1 and len(arrays) == 1:
        arrays = {wanted[0]["name"]: next(iter(arrays.values()))}
    tensors, tails = [], []
    for spec in wanted:
        array = _fitting(path, spec["name"], spec["datatype"], arrays)[:rows]
        tails.append(to_raw(array))
        tensors.append(
            {
                "name": spec["name"],
                "datatype": spec["datatype"],
                "shape": list(array.shape),
                "parameters": {"binary_data_size": len(tails[-1])},
            }
        )
    header = json.dumps({"inputs": tensors, **({"id": name} if name else {})}).encode()
    return b"".join((header, *tails)), len(header)


def _fitting(path: Path, name: str, datatype: str, arrays: Mapping[str, Array]) -> Array:
    if name not in arrays:
        there = ", ".join(sorted(arrays)) or "none"
        raise _bad(f"{path}: no array {name!r}; there are: {there}")
    array, kind = arrays[name], DATATYPES.get(datatype)
    if kind is None:
        raise _bad(f"input {name!r} is {datatype}, which this command can't send")
    if array.ndim == 0:
        raise _bad(f"{path}: array {name!r} is a single value; its first axis must be rows")
    text = datatype_of(array.dtype) == "BYTES"
    if text != (datatype == "BYTES") or not (
        text or np.can_cast(array.dtype, kind.numpy, "same_kind")
    ):
        raise _bad(f"{path}: array {name!r} is of {array.dtype}; the model takes {datatype}")
    return array if text else array.astype(kind.numpy)


def _bad(detail: str) -> CommandFailed:
    return CommandFailed("bad-input", detail, "Correct the file; `muster predict --help` says how.")


def _no_agent(where: str) -> CommandFailed:
    return CommandFailed("unreachable", f"{where} does not answer as an agent does", _PORT)


def _short(value: Array) -> str:
    flat = value.reshape(-1)
    if flat.size == 1:
        return _number(flat[0], 6)
    shown = " ".join(_number(one, 3) for one in flat[:10])
    return shown + (" …" if flat.size > 10 else "")


def _number(value: object, digits: int) -> str:
    if value is None:  # the protocol's JSON has no NaN, so null stands for it
        return "nan"
    return f"{value:.{digits}g}" if isinstance(value, float | np.floating) else str(value)


def _ask(http: httpx.Client, method: str, path: str, **request: Any) -> Answer:
    where = str(http.base_url).rstrip("/")
    try:
        response = http.request(method, path, **request)
        answer = response.json()
    except httpx.HTTPError as error:
        raise unreachable(where, error, _UNREACHABLE) from error
    except ValueError:
        answer = None
    if response.is_success and isinstance(answer, dict):
        return answer
    if not isinstance(answer, dict) or "error" not in answer:
        raise _no_agent(where)
    remedy = _REMEDIES.get(response.status_code, "See the agent's log.")
    raise CommandFailed(f"http-{response.status_code}", str(answer["error"]), remedy)
