import asyncio
import gzip
import json
import zlib
from collections.abc import AsyncIterator
from typing import Any, Protocol

import httpx
import numpy as np
import pytest

from agent.inference.datatypes import from_raw, to_raw
from agent.serving.rest import BODIES, RestApplication
from agent.serving.rest_server import RestServer
from agent.serving.workers import Workers
from tests.agent.hosting import Host


class Served(Protocol):
    host: Host
    url: str
    rest_port: int


X = {"name": "x", "shape": [1, 4], "datatype": "FP32"}
ROW = np.array([[1, 2, 3, 4]], dtype=np.float32)
SCORES = [60.0, 70.0, 80.0]


@pytest.fixture
async def http(served: Served) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=served.url, trust_env=False, timeout=20) as client:
        yield client


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


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/v2/health/live", {"live": True}),
        ("/v2/health/ready", {"live": True, "ready": True}),
        ("/v2/models", {"models": ["constant", "identity", "linear"]}),
        ("/v2/models/linear/ready", {"name": "linear", "ready": True}),
        ("/v2/models/linear/versions/1/ready", {"name": "linear", "ready": True}),
    ],
)
async def test_it_says_what_is_here(http: httpx.AsyncClient, path: str, answer: Any) -> None:
    reply = await http.get(path)

    assert (reply.status_code, reply.json()) == (200, answer)
    assert reply.headers["content-type"] == "application/json"


@pytest.mark.parametrize("path", ["/v2", "/v2/"])
async def test_the_server_names_itself_and_its_extension(
    http: httpx.AsyncClient, path: str
) -> None:
    answer = (await http.get(path)).json()

    assert answer["name"] == "muster-agent"
    assert answer["version"]
    assert answer["extensions"] == ["binary_tensor_data"]


@pytest.mark.parametrize("path", ["/v2/models/linear", "/v2/models/linear/versions/1"])
async def test_a_models_metadata_is_its_signature(http: httpx.AsyncClient, path: str) -> None:
    assert (await http.get(path)).json() == {
        "name": "linear",
        "versions": ["1"],
        "platform": "onnx_onnxv1",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
        "outputs": [
            {"name": "scores", "datatype": "FP32", "shape": [-1, 3]},
            {"name": "label", "datatype": "INT64", "shape": [-1]},
        ],
    }


async def test_the_index_lists_what_answers_and_what_comes(
    served: Served, http: httpx.AsyncClient
) -> None:
    await served.host.prepare(served.host.constant(2))

    index = (await http.post("/v2/repository/index", content=b"{}")).json()

    assert [(one["name"], one["version"], one["state"]) for one in index] == [
        ("constant", "2", "LOADING"),
        ("constant", "1", "READY"),
        ("identity", "1", "READY"),
        ("linear", "1", "READY"),
    ]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/v1/models", 404),
        ("GET", "/v2/models/linear/versions", 404),
        ("GET", "/v2/models/linear/config", 404),
        ("GET", "/v2/models/none", 404),
        ("GET", "/v2/models/none/ready", 404),
        ("GET", "/v2/models/linear/versions/2/ready", 404),
        ("GET", "/v2/models/linear/versions/latest", 404),
        ("GET", "/v2/models/linear/versions/%C2%B2", 404),
        ("POST", "/v2/models/none/infer", 404),
        ("POST", "/v2/models/linear/versions/2/infer", 404),
        ("GET", "/v2/models/linear/infer", 405),
        ("DELETE", "/v2/models/linear", 405),
        ("POST", "/v2", 405),
    ],
)
async def test_what_is_not_here_has_a_status_and_an_error(
    http: httpx.AsyncClient, method: str, path: str, status: int
) -> None:
    reply = await http.request(method, path, json=asked() if method == "POST" else None)

    assert reply.status_code == status
    assert list(reply.json()) == ["error"]


async def test_a_model_on_its_way_is_unavailable(served: Served, http: httpx.AsyncClient) -> None:
    served.host.deployments.remove("constant", "champion")
    await served.host.prepare(served.host.constant(2))

    assert (await http.get("/v2/models/constant/ready")).status_code == 503
    assert (await http.post("/v2/models/constant/infer", json=asked())).status_code == 503
    assert (await http.get("/v2/health/ready")).status_code == 503
    assert (await http.get("/v2/health/live")).status_code == 200


@pytest.mark.parametrize("data", [[1, 2, 3, 4], [[1, 2, 3, 4]], [1.0, 2, 3e0, 4]])
async def test_json_in_and_json_out(http: httpx.AsyncClient, data: Any) -> None:
    reply = await http.post("/v2/models/linear/infer", json=asked(data, id="seven"))

    assert reply.json() == {
        "model_name": "linear",
        "model_version": "1",
        "id": "seven",
        "outputs": [
            {"name": "scores", "datatype": "FP32", "shape": [1, 3], "data": SCORES},
            {"name": "label", "datatype": "INT64", "shape": [1], "data": [2]},
        ],
    }


async def test_no_id_is_made_up(http: httpx.AsyncClient) -> None:
    assert "id" not in (await http.post("/v2/models/linear/infer", json=asked())).json()


async def test_a_version_may_be_named(http: httpx.AsyncClient) -> None:
    reply = await http.post("/v2/models/linear/versions/1/infer", json=asked())

    assert reply.json()["model_version"] == "1"


async def test_only_the_outputs_asked_for_come_back(http: httpx.AsyncClient) -> None:
    reply = await http.post("/v2/models/linear/infer", json=asked(outputs=[{"name": "label"}]))

    assert list(of_linear(reply)) == ["label"]


async def test_binary_in_and_json_out(http: httpx.AsyncClient) -> None:
    body, headers = binary()

    reply = await http.post("/v2/models/linear/infer", content=body, headers=headers)

    assert of_linear(reply)["scores"]["data"] == SCORES


@pytest.mark.parametrize("compress", [gzip.compress, zlib.compress], ids=["gzip", "deflate"])
async def test_a_compressed_body_is_read(
    http: httpx.AsyncClient, compress: Any, request: pytest.FixtureRequest
) -> None:
    body, headers = binary()
    headers["Content-Encoding"] = "gzip" if compress is gzip.compress else "deflate"

    reply = await http.post("/v2/models/linear/infer", content=compress(body), headers=headers)

    assert of_linear(reply)["scores"]["data"] == SCORES


def unframed(reply: httpx.Response) -> tuple[dict[str, Any], bytes]:
    assert reply.status_code == 200, reply.text
    length = int(reply.headers["inference-header-content-length"])
    return json.loads(reply.content[:length]), reply.content[length:]


async def test_binary_in_and_binary_out_when_the_request_says_so(http: httpx.AsyncClient) -> None:
    body, headers = binary(parameters={"binary_data_output": True})

    reply = await http.post("/v2/models/linear/infer", content=body, headers=headers)

    head, tail = unframed(reply)
    assert reply.headers["content-type"] == "application/octet-stream"
    assert [one["parameters"] for one in head["outputs"]] == [
        {"binary_data_size": 12},
        {"binary_data_size": 8},
    ]
    assert from_raw("scores", "FP32", [1, 3], tail[:12]).tolist() == [SCORES]
    assert from_raw("label", "INT64", [1], tail[12:]).tolist() == [2]


async def test_each_output_may_come_in_another_way(http: httpx.AsyncClient) -> None:
    outputs = [
        {"name": "label", "parameters": {"binary_data": True}},
        {"name": "scores", "parameters": {"binary_data": False}},
    ]
    request = asked(outputs=outputs, parameters={"binary_data_output": True})

    head, tail = unframed(await http.post("/v2/models/linear/infer", json=request))

    assert [one["name"] for one in head["outputs"]] == ["label", "scores"]
    assert head["outputs"][1]["data"] == SCORES
    assert from_raw("label", "INT64", [1], tail).tolist() == [2]


async def test_texts_travel_both_ways(http: httpx.AsyncClient) -> None:
    texts = np.array([["año", ""], ["日本", "x" * 300]], dtype=object)
    raw = to_raw(texts)
    head = {
        "inputs": [
            {
                "name": "x",
                "shape": [2, 2],
                "datatype": "BYTES",
                "parameters": {"binary_data_size": len(raw)},
            }
        ]
    }
    body, headers = framed(head, raw)

    reply = await http.post("/v2/models/identity/infer", content=body, headers=headers)

    assert of_linear(reply)["y"]["data"] == texts.ravel().tolist()


async def test_half_floats_are_answered_as_raw_bytes_and_refused_as_json(
    served: Served, http: httpx.AsyncClient
) -> None:
    halves = np.array([[1.5, -2.0]], dtype=np.float16)
    await served.host.run(served.host.identity("FP16", halves, name="halves"))
    one = {"name": "x", "shape": [1, 2], "datatype": "FP16"}
    head = {"inputs": [{**one, "parameters": {"binary_data_size": 4}}]}

    body, headers = framed({**head, "parameters": {"binary_data_output": True}}, halves.tobytes())
    reply = await http.post("/v2/models/halves/infer", content=body, headers=headers)
    assert unframed(reply)[1] == halves.tobytes()

    body, headers = framed(head, halves.tobytes())
    reply = await http.post("/v2/models/halves/infer", content=body, headers=headers)
    assert (reply.status_code, "'y'" in reply.json()["error"]) == (400, True)

    reply = await http.post(
        "/v2/models/halves/infer", json={"inputs": [{**one, "data": [1.5, -2.0]}]}
    )
    assert (reply.status_code, "'x'" in reply.json()["error"]) == (400, True)


async def test_what_is_not_finite_comes_back_as_null(http: httpx.AsyncClient) -> None:
    reply = await http.post("/v2/models/linear/infer", json=asked([None, 2, 3, 4]))

    assert of_linear(reply)["scores"]["data"] == [None] * 3


@pytest.mark.parametrize(
    ("request_json", "said"),
    [
        ({}, "inputs"),
        ({"inputs": []}, "input 'x': missing"),
        ({"inputs": [{**X}]}, "input 'x': no data"),
        ({"inputs": [{**X, "name": "z", "data": [1, 2, 3, 4]}]}, "input 'z': no such input"),
        ({"inputs": [{**X, "datatype": "FP64", "data": [1, 2, 3, 4]}]}, "input 'x': FP64"),
        ({"inputs": [{**X, "datatype": "FLOAT", "data": [1]}]}, "input 'x': datatype 'FLOAT'"),
        ({"inputs": [{**X, "shape": [1, 3], "data": [1, 2, 3]}]}, "input 'x': FP32 [1, 3] given"),
        ({"inputs": [{**X, "shape": [4], "data": [1, 2, 3, 4]}]}, "input 'x': FP32 [4] given"),
        ({"inputs": [{**X, "shape": [0, 4], "data": []}]}, "no rows"),
        ({"inputs": [{**X, "shape": [-1, 4], "data": [1, 2, 3, 4]}]}, "$.inputs[0].shape[0]"),
        ({"inputs": [{**X, "shape": "4", "data": [1, 2, 3, 4]}]}, "$.inputs[0].shape"),
        ({"inputs": [{**X, "data": [1, 2, 3]}]}, "input 'x': 3 elements"),
        ({"inputs": [{**X, "data": [1, 2, 3, "4"]}]}, "input 'x': data: Expected `float"),
        ({"inputs": [{**X, "data": [1, 2, 3, 4]}] * 2}, "input 'x': stands there twice"),
        (asked(outputs=[{"name": "no"}]), "output 'no'"),
        (asked(outputs=[{"name": "label", "parameters": {"binary_data": 1}}]), "output 'label'"),
        (asked(parameters={"binary_data_output": "yes"}), "binary_data_output"),
        (asked(id=7), "$.id"),
        (
            {"inputs": [{**X, "parameters": {"shared_memory_region": "r"}}]},
            "input 'x': shared memory",
        ),
        ([], "request"),
    ],
)
async def test_a_request_that_does_not_fit_is_refused_by_name(
    http: httpx.AsyncClient, request_json: Any, said: str
) -> None:
    reply = await http.post("/v2/models/linear/infer", json=request_json)

    assert reply.status_code == 400
    assert said in reply.json()["error"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b'{"inputs": [{"name": "\xff"}]}',
        b"[" * 50_000,
        b'{"unknown":' + b"[" * 50_000,
        b'{"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data":' + b"[" * 50_000,
    ],
)
async def test_a_body_that_is_no_json_is_refused(http: httpx.AsyncClient, body: bytes) -> None:
    reply = await http.post("/v2/models/linear/infer", content=body)

    assert reply.status_code == 400
    assert reply.json()["error"].startswith("request: ")


@pytest.mark.parametrize(
    ("size", "tail", "said"),
    [
        (16, b"\0" * 15, "input 'x': binary_data_size is 16; 15 bytes are left"),
        (16, b"\0" * 17, "1 bytes of binary data"),
        (12, b"\0" * 12, "input 'x': 12 bytes of data"),
        (-1, b"", "input 'x': binary_data_size is no number of bytes: -1"),
        ("16", b"\0" * 16, "input 'x': binary_data_size is no number of bytes"),
        (True, b"\0", "input 'x': binary_data_size is no number of bytes"),
        (2**70, b"", "input 'x': binary_data_size is"),
    ],
)
async def test_binary_data_that_are_not_what_was_announced_are_refused(
    http: httpx.AsyncClient, size: Any, tail: bytes, said: str
) -> None:
    body, headers = framed({"inputs": [{**X, "parameters": {"binary_data_size": size}}]}, tail)

    reply = await http.post("/v2/models/linear/infer", content=body, headers=headers)

    assert reply.status_code == 400
    assert said in reply.json()["error"]


@pytest.mark.parametrize("length", ["-1", "x", "", "99999", "9" * 30, "1.0"])
async def test_a_header_length_that_is_none_is_refused(
    http: httpx.AsyncClient, length: str
) -> None:
    body, _ = binary()

    reply = await http.post(
        "/v2/models/linear/infer",
        content=body,
        headers={"Inference-Header-Content-Length": length},
    )

    assert reply.status_code == 400
    assert "Inference-Header-Content-Length" in reply.json()["error"]


async def test_data_and_a_binary_size_together_are_refused(http: httpx.AsyncClient) -> None:
    one = {**X, "data": [1, 2, 3, 4], "parameters": {"binary_data_size": 16}}
    body, headers = framed({"inputs": [one]}, ROW.tobytes())

    reply = await http.post("/v2/models/linear/infer", content=body, headers=headers)

    assert (reply.status_code, "both data" in reply.json()["error"]) == (400, True)


async def test_a_body_over_the_limit_is_refused_before_it_is_read(
    http: httpx.AsyncClient,
) -> None:
    reply = await http.post("/v2/models/linear/infer", content=bytes(64 * 1024 + 1))

    assert reply.status_code == 413
    assert "65536 bytes" in reply.json()["error"]


async def test_a_body_of_unknown_length_is_refused_where_it_passes_the_limit(
    http: httpx.AsyncClient,
) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(65):
            yield bytes(1024)

    reply = await http.post("/v2/models/linear/infer", content=chunks())

    assert reply.status_code == 413


@pytest.mark.parametrize("compress", [gzip.compress, zlib.compress], ids=["gzip", "deflate"])
async def test_a_small_body_that_inflates_over_the_limit_is_refused(
    http: httpx.AsyncClient, compress: Any
) -> None:
    bomb = compress(bytes(20 * 1024 * 1024))
    assert len(bomb) < 64 * 1024

    reply = await http.post(
        "/v2/models/linear/infer", content=bomb, headers={"Content-Encoding": "gzip"}
    )

    assert reply.status_code == 413


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not compressed",
        gzip.compress(b"{}", mtime=0)[:-4],
        gzip.compress(b"{}", mtime=0) + b"more",
    ],
)
async def test_a_compressed_body_that_is_damaged_is_refused(
    http: httpx.AsyncClient, body: bytes
) -> None:
    reply = await http.post(
        "/v2/models/linear/infer", content=body, headers={"Content-Encoding": "gzip"}
    )

    assert (reply.status_code, "compressed" in reply.json()["error"]) == (400, True)


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip"])
async def test_a_compression_that_is_not_known_is_refused(
    http: httpx.AsyncClient, encoding: str
) -> None:
    reply = await http.post(
        "/v2/models/linear/infer", content=b"{}", headers={"Content-Encoding": encoding}
    )

    assert reply.status_code == 415


async def test_what_the_runtime_fails_on_is_an_error_of_the_server(
    served: Served, http: httpx.AsyncClient
) -> None:
    served.host.deployments.enter("linear", None).loaded.close()

    reply = await http.post("/v2/models/linear/infer", json=asked())

    assert (reply.status_code, "linear/1" in reply.json()["error"]) == (500, True)


async def test_after_any_refusal_the_same_connection_goes_on(served: Served) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", served.rest_port)
    body = json.dumps(asked()).encode()
    for path, status in [(b"none", b"404"), (b"linear", b"200"), (b"linear", b"200")]:
        writer.write(
            b"POST /v2/models/%b/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
            % (path, len(body))
            + body
        )
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        assert head.split(b" ")[1] == status
    writer.close()


async def test_a_client_that_goes_away_in_the_middle_of_a_body_harms_nobody(
    served: Served, http: httpx.AsyncClient
) -> None:
    for _ in range(5):
        _, writer = await asyncio.open_connection("127.0.0.1", served.rest_port)
        writer.write(
            b"POST /v2/models/linear/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: 500\r\n\r\nhalf"
        )
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    assert (await http.post("/v2/models/linear/infer", json=asked())).status_code == 200


async def test_what_is_no_http_is_refused(served: Served) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", served.rest_port)
    writer.write(b"\x16\x03\x01 hello\r\n\r\n")

    assert b"400" in await reader.readline()
    writer.close()


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        pytest.param({"Host": "evil.example:8500"}, "evil.example", id="DNS rebinding"),
        pytest.param({"Host": "localhost.evil.example"}, "localhost.evil", id="a name like ours"),
        pytest.param({"Host": "[::1].evil.example"}, "evil.example", id="an address like ours"),
        pytest.param({"Origin": "https://evil.example"}, "evil.example", id="another site"),
        pytest.param({"Origin": "null"}, "null", id="a sandboxed page"),
    ],
)
async def test_web_pages_are_refused_and_counted_nowhere(
    served: Served, http: httpx.AsyncClient, headers: dict[str, str], said: str
) -> None:
    reply = await http.post(
        "/v2/models/linear/infer",
        content=json.dumps(asked()),
        headers={"Content-Type": "text/plain", **headers},
    )

    assert reply.status_code == 403
    assert said in reply.json()["error"]
    assert served.host.deployments.traffic("linear", "champion").requests == 0
    assert (await http.get("/v2", headers=headers)).status_code == 403


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8500", "[::1]:8500", "127.0.0.2", "a.localhost"]
)
async def test_applications_of_this_machine_are_answered_by_every_name_it_has(
    http: httpx.AsyncClient, host: str
) -> None:
    assert (await http.get("/v2", headers={"Host": host})).status_code == 200


async def test_where_other_machines_may_ask_they_may_use_its_name(served: Served) -> None:
    workers = Workers(threads=1)
    server = RestServer(served.host.deployments, workers, allow_remote=True)
    port = await server.start("127.0.0.1", 0)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
        named = await client.get("/v2", headers={"Host": "press-7.plant"})
        page = await client.get("/v2", headers={"Host": "press-7.plant", "Origin": "http://evil"})
    await server.stop()
    workers.close()

    assert (named.status_code, page.status_code) == (200, 403)


async def test_bodies_that_are_never_finished_fill_so_much_memory_and_no_more(
    served: Served,
) -> None:
    """As fast as they come: nothing here depends on the network."""
    workers = Workers(threads=1)
    app = RestApplication(served.host.deployments, workers, limit=1000)
    unfinished, gone = asyncio.Event(), asyncio.Event()
    statuses: list[int] = []

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    async def ask(*chunks: bytes) -> None:
        scope = {"path": "/v2/models/linear/infer", "method": "POST", "headers": []}
        waiting = list(chunks)

        async def receive() -> dict[str, Any]:
            if waiting:
                return {"type": "http.request", "body": waiting.pop(0), "more_body": True}
            unfinished.set()
            await gone.wait()
            return {"type": "http.disconnect"}

        await app(scope, receive, send)

    clients = []
    for _ in range(BODIES):
        unfinished.clear()
        clients.append(asyncio.create_task(ask(b"x" * 500, b"x" * 500)))
        await unfinished.wait()
    await asyncio.wait_for(ask(b"x"), 10)
    assert statuses == [503]

    gone.set()
    await asyncio.gather(*clients)
    await asyncio.wait_for(ask(b"x" * 1000), 10)
    assert statuses == [503]
    workers.close()
