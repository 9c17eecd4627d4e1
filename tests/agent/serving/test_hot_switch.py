"""Versions switch while clients ask through real servers: nobody may notice."""

import asyncio
import http.client
import json
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import grpc
import numpy as np

from protos.open_inference import inference_pb2 as pb
from protos.open_inference.inference_pb2_grpc import GRPCInferenceServiceStub
from tests.agent.serving.served import Served

CLIENTS = 3
SWITCHES = 30
DEADLINE = 30.0
ROWS = 5
Ask = Callable[[], tuple[int, set[float]]]
"""Sends one request; returns the version that answered, and every value that it gave."""


def rest(port: int, cleanup: ExitStack) -> Ask:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
    cleanup.callback(connection.close)
    x = np.ones((ROWS, 4), np.float32)
    one = {"name": "x", "shape": x.shape, "datatype": "FP32", "data": x.ravel().tolist()}
    body = json.dumps({"inputs": [one]})

    def ask() -> tuple[int, set[float]]:
        connection.request("POST", "/v2/models/constant/infer", body)
        reply = connection.getresponse()
        answer = json.loads(reply.read())
        assert reply.status == 200, answer
        return int(answer["model_version"]), set(answer["outputs"][0]["data"])

    return ask


def over_grpc(port: int, cleanup: ExitStack) -> Ask:
    channel = grpc.insecure_channel(
        f"127.0.0.1:{port}",
        options=[("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1)],
    )
    cleanup.callback(channel.close)
    stub = GRPCInferenceServiceStub(channel)
    tensor = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[ROWS, 4])
    request = pb.ModelInferRequest(
        model_name="constant",
        inputs=[tensor],
        raw_input_contents=[np.ones((ROWS, 4), np.float32).tobytes()],
    )

    def ask() -> tuple[int, set[float]]:
        reply = stub.ModelInfer(request, timeout=DEADLINE)
        values = np.frombuffer(reply.raw_output_contents[0], np.float32)
        return int(reply.model_version), set(values.tolist())

    return ask


async def test_no_request_fails_or_is_mixed_while_versions_switch_back_and_forth(
    served: Served,
) -> None:
    host, loop = served.host, asyncio.get_running_loop()
    manifests = [host.constant(1), host.constant(2)]
    stop, answered, seen = threading.Event(), asyncio.Queue[int](), Counter[int]()

    def client(ask: Ask) -> int:
        asked = 0
        while not stop.is_set():
            version, values = ask()
            assert values == {float(version)}
            asked += 1
            loop.call_soon_threadsafe(answered.put_nowait, version)
        return asked

    cleanup = ExitStack()
    asks = [rest(served.rest_port, cleanup) for _ in range(CLIENTS)]
    asks += [over_grpc(served.grpc_port, cleanup) for _ in range(CLIENTS)]
    threads = cleanup.enter_context(ThreadPoolExecutor(len(asks)))
    clients = [loop.run_in_executor(threads, client, ask) for ask in asks]
    try:
        for turn in range(SWITCHES):
            await host.run(manifests[(turn + 1) % 2])
            if turn % 3 == 0:
                host.deployments.revert("constant", "champion")
            else:
                host.deployments.release_previous("constant", "champion")
            async with asyncio.timeout(DEADLINE):
                for _ in range(2 * len(asks)):
                    seen[await answered.get()] += 1
    finally:
        stop.set()
        asked = await asyncio.gather(*clients)
        cleanup.close()

    assert min(asked) > 0
    assert set(seen) == {1, 2}
