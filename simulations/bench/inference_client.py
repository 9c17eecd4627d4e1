"""Asks a server for predictions from a process of its own, as an application would.

``python -m simulations.bench.inference_client KIND PORT FEATURES REQUESTS``; with 0 requests it asks
until its stdin is closed. Prints the times of every request as JSON: begun and ended, in seconds of
the monotonic clock, which all processes of a machine share.
"""

import http.client
import json
import select
import sys
import time
from collections.abc import Callable

import grpc
import numpy as np

from protos.open_inference import inference_pb2 as pb
from protos.open_inference.inference_pb2_grpc import GRPCInferenceServiceStub

Ask = Callable[[], None]
TIMEOUT = 30.0


def rest_json(port: int, x: np.ndarray[tuple[int, int], np.dtype[np.float32]]) -> Ask:
    """JSON both ways over one connection."""
    body = json.dumps({"inputs": [{**_tensor(x), "data": x.ravel().tolist()}]}).encode()
    return _rest(port, body, {})


def rest_binary(port: int, x: np.ndarray[tuple[int, int], np.dtype[np.float32]]) -> Ask:
    """Raw tensors both ways over one connection."""
    raw = x.tobytes()
    head = json.dumps(
        {
            "inputs": [{**_tensor(x), "parameters": {"binary_data_size": len(raw)}}],
            "parameters": {"binary_data_output": True},
        }
    ).encode()
    return _rest(port, head + raw, {"Inference-Header-Content-Length": str(len(head))})


def over_grpc(port: int, x: np.ndarray[tuple[int, int], np.dtype[np.float32]]) -> Ask:
    """Raw tensors both ways over one channel."""
    channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.enable_http_proxy", 0)])
    stub = GRPCInferenceServiceStub(channel)
    tensor = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=x.shape)
    request = pb.ModelInferRequest(
        model_name="bench", inputs=[tensor], raw_input_contents=[x.tobytes()]
    )

    def ask() -> None:
        stub.ModelInfer(request, timeout=TIMEOUT)

    return ask


def _tensor(x: np.ndarray[tuple[int, int], np.dtype[np.float32]]) -> dict[str, object]:
    return {"name": "x", "shape": x.shape, "datatype": "FP32"}


def _rest(port: int, body: bytes, headers: dict[str, str]) -> Ask:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)

    def ask() -> None:
        connection.request("POST", "/v2/models/bench/infer", body, headers)
        reply = connection.getresponse()
        answer = reply.read()
        if reply.status != 200:
            raise SystemExit(f"HTTP {reply.status}: {answer[:200]!r}")

    return ask


KINDS = {"rest-json": rest_json, "rest-binary": rest_binary, "grpc": over_grpc}


def main() -> None:
    """Asks, and prints when."""
    kind, port, features, requests = sys.argv[1], *map(int, sys.argv[2:5])
    ask = KINDS[kind](port, np.ones((1, features), np.float32))
    for _ in range(100):
        ask()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    times: list[tuple[float, float]] = []
    while len(times) < requests or (not requests and not select.select([sys.stdin], [], [], 0)[0]):
        began = time.monotonic()
        ask()
        times.append((began, time.monotonic()))
    sys.stdout.write(json.dumps(times) + "\n")


if __name__ == "__main__":
    main()
