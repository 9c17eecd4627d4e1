"""Truths and examples over REST, and what gRPC's requests leave to be told the truth of."""

import asyncio
import random
from collections.abc import AsyncIterator

import grpc.aio
import httpx
import numpy as np
import pytest

from agent.clock import SystemClock
from agent.federated.collecting.actions import Collector
from agent.federated.collecting.remembered import Limits
from agent.federated.examples import Part
from agent.federated.layout import TRUTH, Array, records
from agent.federated.retention import Retention
from agent.serving.client import Client, RequestFailed
from agent.serving.grpc_server import GrpcServer
from agent.serving.rest_server import RestServer
from agent.serving.workers import Workers
from protos.open_inference import inference_pb2 as pb
from protos.open_inference.inference_pb2_grpc import GRPCInferenceServiceStub
from simulations.memory_examples import MemoryExamples
from tests.agent.federated.learners import Learner, classifier
from tests.agent.hosting import Host
from tests.agent.serving.served import Served

ALL = Retention(hold_out=0.0)
ROW = np.array([[1, 2, 3, 4]], np.float32)
X = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}


class Learning:
    """A server that collects, and what it has."""

    def __init__(self, learner: Learner) -> None:
        self.learner, self.host, self.workers = learner, Host(), Workers(2)
        self.examples = MemoryExamples(ALL)
        self.collector = Collector(
            self.host.deployments.get,
            self.host.blobs.__getitem__,
            self.examples,
            ALL,
            Limits(),
            SystemClock(),
            random.Random(1),  # noqa: S311 - no secrets
        )
        of = self.host.deployments, self.workers
        self.rest = RestServer(*of, limit=64 * 1024, collecting=self.collector)
        self.grpc = GrpcServer(*of, collecting=self.collector)

    async def start(self) -> None:
        self.host.keep(*self.learner.blobs.values())
        await self.host.run(self.learner.manifest)
        await self.host.run(self.host.linear())
        self.rest_port = await self.rest.start("127.0.0.1", 0)
        self.grpc_port = await self.grpc.start("127.0.0.1", 0)

    async def stop(self) -> None:
        await self.rest.stop()
        await self.grpc.stop()
        self.workers.close()

    def rows(self) -> list[tuple[list[float], int]]:
        data = b"".join(self.examples.rows("learner", self.learner.layout, Part.TRAINING))
        found = records(self.learner.layout, data)
        return [(row["x"].tolist(), int(row[TRUTH])) for row in found]


@pytest.fixture(scope="module")
def learner() -> Learner:
    return classifier()


@pytest.fixture
async def learning(learner: Learner) -> AsyncIterator[Learning]:
    made = Learning(learner)
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def asked(learning: Learning) -> AsyncIterator[httpx.AsyncClient]:
    url = f"http://127.0.0.1:{learning.rest_port}/v2/models/"
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=20) as client:
        yield client


async def test_a_truth_makes_an_example_of_the_request_of_that_id(
    learning: Learning, asked: httpx.AsyncClient
) -> None:
    await asked.post("learner/infer", json={"id": "r1", "inputs": [X]})

    told = await asked.post("learner/feedback", json={"id": "r1", "truth": [2]})

    assert (told.status_code, told.json()) == (200, {"id": "r1", "kept": 1})
    assert learning.rows() == [(ROW[0].tolist(), 2)]


async def test_many_truths_are_told_at_once_and_each_is_answered_by_itself(
    learning: Learning, asked: httpx.AsyncClient
) -> None:
    for name in ("a", "b"):
        await asked.post("learner/infer", json={"id": name, "inputs": [X]})
    many = [
        {"id": "a", "truth": [0]},
        {"id": "none", "truth": [0]},
        {"id": "b", "truth": [9]},
    ]

    told = await asked.post("learner/versions/1/feedback", json={"feedback": many})

    assert told.status_code == 200
    first, second, third = told.json()["feedback"]
    assert first == {"id": "a", "kept": 1}
    assert (second["id"], second["code"]) == ("none", "unknown-request")
    assert (third["id"], third["code"]) == ("b", "truth-unfit")
    assert len(learning.rows()) == 1


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("learner/feedback", b'{"id": "r9", "truth": [0]}', 404, "'r9'"),
        ("learner/feedback", b'{"id": "", "truth": [0]}', 400, "length"),
        ("learner/feedback", b'{"id": "r1"}', 400, "truth"),
        ("learner/feedback", b'{"id": "r1", "truth": 3}', 400, "array"),
        ("learner/feedback", b"no json", 400, "malformed"),
        ("learner/feedback", b'{"feedback": [{"id": 1}]}', 400, "str"),
        ("learner/feedback", b'{"id": "r1", "truth": ' + b"[" * 5000, 400, "request"),
        ("learner/feedback", b'{"id": "r1", "truth": [7]}', 400, "no class"),
        ("learner/versions/2/feedback", b'{"id": "r1", "truth": [0]}', 404, "version 2"),
        ("unknown/feedback", b'{"id": "r1", "truth": [0]}', 404, "unknown model"),
        ("linear/feedback", b'{"id": "r1", "truth": [0]}', 409, "no training step"),
        ("learner/examples", b'{"inputs": []}', 400, "'x': missing"),
        ("learner/examples", b'{"inputs": [], "truth": {}}', 400, "array"),
    ],
)
async def test_what_can_not_be_kept_says_why(
    learning: Learning,
    asked: httpx.AsyncClient,
    path: str,
    body: bytes,
    status: int,
    said: str,
) -> None:
    await asked.post("learner/infer", json={"id": "r1", "inputs": [X]})

    refused = await asked.post(path, content=body)

    assert refused.status_code == status, refused.text
    assert said in refused.json()["error"]
    assert learning.rows() == []


async def test_a_body_that_is_too_large_is_not_read(asked: httpx.AsyncClient) -> None:
    refused = await asked.post("learner/feedback", content=b" " * 70_000)

    assert refused.status_code == 413


async def test_a_device_that_does_not_collect_says_so(
    served: Served, http: httpx.AsyncClient
) -> None:
    await http.post("/v2/models/linear/infer", json={"id": "r1", "inputs": [X]})

    for verb, body in [
        ("feedback", {"id": "r1", "truth": [0]}),
        ("examples", {"inputs": [X], "truth": [0]}),
    ]:
        refused = await http.post(f"/v2/models/linear/{verb}", json=body)
        assert refused.status_code == 409
        assert "training.collect" in refused.json()["error"]


async def test_requests_over_grpc_are_remembered_too(
    learning: Learning, asked: httpx.AsyncClient
) -> None:
    tensor = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[1, 4])
    request = pb.ModelInferRequest(
        model_name="learner", id="g1", inputs=[tensor], raw_input_contents=[ROW.tobytes()]
    )
    async with grpc.aio.insecure_channel(
        f"127.0.0.1:{learning.grpc_port}", options=[("grpc.enable_http_proxy", 0)]
    ) as channel:
        await GRPCInferenceServiceStub(channel).ModelInfer(request)

    await asked.post("learner/feedback", json={"id": "g1", "truth": [1]})

    assert learning.rows() == [(ROW[0].tolist(), 1)]


async def test_a_program_on_the_device_asks_and_tells_in_python(learning: Learning) -> None:
    agent = Client(f"http://127.0.0.1:{learning.rest_port}")

    def work() -> tuple[dict[str, Array], int, int, int]:
        answer = agent.infer("learner", {"x": ROW}, request_id="r1")
        told = agent.feedback("learner", "r1", np.array([2]))
        added = agent.add_example(
            "learner", {"x": np.repeat(ROW, 2, axis=0) * 2}, [0, 1], version=1
        )
        again = agent.add_example("learner", {"x": ROW * 3}, [0], example_id="e1")
        agent.add_example("learner", {"x": ROW * 3}, [1], example_id="e1")
        return answer, told, added, again

    answer, told, added, again = await asyncio.to_thread(work)

    assert answer["logits"].shape == (1, 3)
    assert (told, added, again) == (1, 2, 1)
    assert [truth for _, truth in learning.rows()] == [2, 0, 1, 1]


async def test_a_program_is_told_what_is_wrong(learning: Learning) -> None:
    agent = Client(f"http://127.0.0.1:{learning.rest_port}")

    for status, said, call in [
        (404, "'r9'", lambda: agent.feedback("learner", "r9", [0])),
        (404, "unknown model", lambda: agent.infer("nobody", {"x": ROW})),
        (409, "no training step", lambda: agent.add_example("linear", {"x": ROW}, [0])),
        (0, "no agent answers", lambda: Client("http://127.0.0.1:1").infer("m", {"x": ROW})),
    ]:
        with pytest.raises(RequestFailed, match=said) as refused:
            await asyncio.to_thread(call)
        assert refused.value.status == status
