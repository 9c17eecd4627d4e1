"""What tests ask of the REST server, in JSON and in binary, and what it has answered."""

import json
from typing import Any

import httpx
import numpy as np

X = {"name": "x", "shape": [1, 4], "datatype": "FP32"}
ROW = np.array([[1, 2, 3, 4]], dtype=np.float32)
SCORES = [60.0, 70.0, 80.0]


def asked(data: Any = (1, 2, 3, 4), **more: Any) -> dict[str, Any]:
    return {"inputs": [{**X, "data": data}], **more}


def framed(head: dict[str, Any], *tails: bytes) -> tuple[bytes, dict[str, str]]:
    text = json.dumps(head).encode()
    return text + b"".join(tails), {"Inference-Header-Content-Length": str(len(text))}


def binary(**more: Any) -> tuple[bytes, dict[str, str]]:
    head = {"inputs": [{**X, "parameters": {"binary_data_size": 16}}], **more}
    return framed(head, ROW.tobytes())


def of_linear(reply: httpx.Response) -> dict[str, Any]:
    assert reply.status_code == 200, reply.text
    outputs: dict[str, Any] = {one["name"]: one for one in reply.json()["outputs"]}
    return outputs


def unframed(reply: httpx.Response) -> tuple[dict[str, Any], bytes]:
    assert reply.status_code == 200, reply.text
    length = int(reply.headers["inference-header-content-length"])
    return json.loads(reply.content[:length]), reply.content[length:]
