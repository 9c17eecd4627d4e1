"""The Python API for an application on the device: predictions, truths and examples, over REST.

    agent = Client()
    answer = agent.infer("digits", {"x": pixels}, request_id="frame-17")
    ...
    agent.feedback("digits", "frame-17", [3])              # when the truth is known
    agent.add_example("digits", {"x": more}, [7, 1])       # rows that no request brought

It needs numpy and the standard library. In the agent's own process there are ``agent.inference.actions``
and ``agent.federated.collecting.actions``.
"""

import http.client
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote, urlsplit

import numpy as np

from agent.errors import AgentError
from agent.inference.datatypes import Array, datatype_of, from_json, from_raw, to_raw

TIMEOUT_SECONDS: Final = 30.0
_LENGTH: Final = "Inference-Header-Content-Length"


class RequestFailed(AgentError):
    """The agent refused a request or could not be reached.

    Attributes:
        status: of HTTP; 0 if there was no answer.
    """

    code = "request-failed"
    remedy = "See `muster-agent status`: whether an agent runs, on which ports, and what it runs."

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


class Client:
    """One agent. It may be used from any thread: every call is a connection of its own.

    Every call raises ``RequestFailed``; its ``status`` is 404 for a model or a request that is not known,
    409 where no examples are kept, 400 for what does not fit the model.
    """

    def __init__(
        self, address: str = "http://127.0.0.1:8500", timeout: float = TIMEOUT_SECONDS
    ) -> None:
        self._host = urlsplit(address).netloc
        self._timeout = timeout

    def infer(
        self,
        model: str,
        inputs: Mapping[str, Array],
        *,
        request_id: str = "",
        version: int | None = None,
    ) -> dict[str, Array]:
        """The outputs by name. With an id, the truth can be told later."""
        more = {"id": request_id} if request_id else {}
        head, tail = _framed(inputs, {**more, "parameters": {"binary_data_output": True}})
        headers, body = self._post(_path(model, version, "infer"), head, tail)
        length = int(headers.get(_LENGTH, len(body)))
        return _outputs(json.loads(body[:length])["outputs"], memoryview(body)[length:])

    def feedback(
        self,
        model: str,
        request_id: str,
        truth: Sequence[Any] | Array,
        *,
        version: int | None = None,
    ) -> int:
        """Tells the truth of each row of an answered request; returns how many rows are kept."""
        head = {"id": request_id, "truth": _plain(truth)}
        return self._kept(_path(model, version, "feedback"), head, b"")

    def add_example(
        self,
        model: str,
        inputs: Mapping[str, Array],
        truth: Sequence[Any] | Array | None = None,
        *,
        example_id: str = "",
        version: int | None = None,
    ) -> int:
        """Adds rows with their truth; returns how many are kept.

        Without a truth where the model is its own target. With an id, the same told again replaces what
        it told before.
        """
        more: dict[str, Any] = {"id": example_id} if example_id else {}
        if truth is not None:
            more["truth"] = _plain(truth)
        head, tail = _framed(inputs, more)
        return self._kept(_path(model, version, "examples"), head, tail)

    def _kept(self, path: str, head: dict[str, Any], tail: bytes) -> int:
        _, body = self._post(path, head, tail)
        return int(json.loads(body)["kept"])

    def _post(
        self, path: str, head: dict[str, Any], tail: bytes
    ) -> tuple[http.client.HTTPMessage, bytes]:
        text = json.dumps(head).encode()
        connection = http.client.HTTPConnection(self._host, timeout=self._timeout)
        try:
            connection.request("POST", path, text + tail, {_LENGTH: str(len(text))})
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise RequestFailed(0, f"no agent answers at {self._host}: {error}") from error
        finally:
            connection.close()
        if answer.status != http.client.OK:
            raise RequestFailed(answer.status, _why(body))
        return answer.headers, body


def _path(model: str, version: int | None, verb: str) -> str:
    of = "" if version is None else f"/versions/{version}"
    return f"/v2/models/{quote(model, safe='')}{of}/{verb}"


def _framed(inputs: Mapping[str, Array], more: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    tensors, tails = [], []
    for name, array in inputs.items():
        tails.append(to_raw(np.asarray(array)))
        tensors.append(
            {
                "name": name,
                "datatype": datatype_of(np.asarray(array).dtype),
                "shape": list(np.shape(array)),
                "parameters": {"binary_data_size": len(tails[-1])},
            }
        )
    return {"inputs": tensors, **more}, b"".join(tails)


def _outputs(tensors: Sequence[dict[str, Any]], tail: memoryview) -> dict[str, Array]:
    found, at = {}, 0
    for one in tensors:
        name, datatype, shape = one["name"], one["datatype"], one["shape"]
        size = one.get("parameters", {}).get("binary_data_size")
        if size is None:
            found[name] = from_json(name, datatype, shape, json.dumps(one["data"]).encode())
            continue
        found[name] = from_raw(name, datatype, shape, tail[at : at + size])
        at += size
    return found


def _plain(values: Sequence[Any] | Array) -> list[Any]:
    return values.tolist() if isinstance(values, np.ndarray) else list(values)


def _why(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return body[:200].decode("utf-8", "replace")
