"""What does not fit, is damaged or is too large is refused by name, and harms no other."""

import gzip
import zlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.agent.serving.rest_requests import ROW, X, asked, binary, framed
from tests.agent.serving.served import Served


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
