"""The Open Inference Protocol over REST: what is here, and inputs and outputs in JSON and binary."""

import gzip
import zlib
from typing import Any

import httpx
import numpy as np
import pytest

from agent.inference.datatypes import from_raw, to_raw
from tests.agent.serving.rest_requests import SCORES, asked, binary, framed, of_linear, unframed
from tests.agent.serving.served import Served


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
