"""Runs in the environment of ``tritonclient``: ``python tritonclient_cases.py REST_PORT GRPC_PORT``.

Prints ``{"case": ""}`` for what the client found as the protocol says, else ``{"case": "why not"}``.
The servers host ``linear/1`` and ``texts/1`` as ``test_tritonclient.py`` makes them.
"""

import json
import sys
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Any

import numpy as np
import tritonclient.grpc  # type: ignore[import-not-found]
import tritonclient.http  # type: ignore[import-not-found]
from tritonclient.utils import InferenceServerException  # type: ignore[import-not-found]

X = np.array([[1, 2, 3, 4], [4, 3, 2, 1]], dtype=np.float32)
SCORES = [[60.0, 70.0, 80.0], [30.0, 40.0, 50.0]]
TEXTS = np.array([["año".encode(), b""], ["日本".encode(), b"x" * 300]], dtype=np.object_)

Client = Any
Case = Callable[[ModuleType, Client], None]


def tensor(kind: ModuleType, array: Any, datatype: str, **how: Any) -> Any:
    one = kind.InferInput("x", list(array.shape), datatype)
    one.set_data_from_numpy(array, **how)
    return one


def scores_are_right(result: Any) -> None:
    assert result.as_numpy("scores").tolist() == SCORES
    assert result.as_numpy("scores").dtype == np.float32
    assert result.as_numpy("label").tolist() == [2, 2]


def refused(ask: Callable[[], Any], said: str) -> None:
    text = ""
    try:
        ask()
    except InferenceServerException as error:
        text = str(error)
    assert text, "it was not refused"
    assert said in text, text


# --- Over both --------------------------------------------------------------------------------------


def live_and_ready(_: ModuleType, client: Client) -> None:
    assert client.is_server_live() is True
    assert client.is_server_ready() is True


def model_ready(_: ModuleType, client: Client) -> None:
    assert client.is_model_ready("linear") is True
    assert client.is_model_ready("linear", "1") is True
    assert client.is_model_ready("linear", "2") is False
    assert client.is_model_ready("unknown") is False


def server_metadata(_: ModuleType, client: Client) -> None:
    metadata = client.get_server_metadata()
    if not isinstance(metadata, dict):
        metadata = {"name": metadata.name, "extensions": list(metadata.extensions)}
    assert metadata["name"] == "muster-agent"
    assert "binary_tensor_data" in metadata["extensions"]


def model_metadata(kind: ModuleType, client: Client) -> None:
    as_json = {"as_json": True} if kind is tritonclient.grpc else {}
    metadata = client.get_model_metadata("linear", **as_json)
    assert metadata["platform"] == "onnx_onnxv1"
    assert metadata["versions"] == ["1"]
    (only,) = metadata["inputs"]
    assert (only["name"], only["datatype"]) == ("x", "FP32")
    assert [int(axis) for axis in only["shape"]] == [-1, 4]
    assert [one["name"] for one in metadata["outputs"]] == ["scores", "label"]


def metadata_of_an_unknown_model(_: ModuleType, client: Client) -> None:
    refused(lambda: client.get_model_metadata("unknown"), "unknown model 'unknown'")


def infer_with_defaults(kind: ModuleType, client: Client) -> None:
    result = client.infer("linear", [tensor(kind, X, "FP32")], request_id="seven")
    scores_are_right(result)
    response = result.get_response()
    given = response["id"] if isinstance(response, dict) else response.id
    assert given == "seven"


def infer_a_version(kind: ModuleType, client: Client) -> None:
    scores_are_right(client.infer("linear", [tensor(kind, X, "FP32")], model_version="1"))
    refused(
        lambda: client.infer("linear", [tensor(kind, X, "FP32")], model_version="2"),
        "unknown version 2",
    )


def infer_one_output(kind: ModuleType, client: Client) -> None:
    wanted = [kind.InferRequestedOutput("label")]
    result = client.infer("linear", [tensor(kind, X, "FP32")], outputs=wanted)
    assert result.as_numpy("label").tolist() == [2, 2]
    assert result.as_numpy("scores") is None


def infer_texts(kind: ModuleType, client: Client) -> None:
    result = client.infer("texts", [tensor(kind, TEXTS, "BYTES")])
    assert result.as_numpy("y").tolist() == TEXTS.tolist()


def infer_an_unknown_model(kind: ModuleType, client: Client) -> None:
    refused(lambda: client.infer("unknown", [tensor(kind, X, "FP32")]), "unknown model 'unknown'")


def infer_a_wrong_shape(kind: ModuleType, client: Client) -> None:
    refused(
        lambda: client.infer("linear", [tensor(kind, X[:, :3].copy(), "FP32")]),
        "input 'x': FP32 [2, 3] given; it is FP32 [-1, 4]",
    )


def infer_a_wrong_datatype(kind: ModuleType, client: Client) -> None:
    wrong = tensor(kind, X.astype(np.int64), "INT64")
    refused(lambda: client.infer("linear", [wrong]), "input 'x': INT64")


def two_models_at_once(kind: ModuleType, client: Client) -> None:
    # The HTTP client's sockets belong to the thread that made them: one client a thread.
    address = ADDRESSES[kind]

    def ask(turn: int) -> None:
        with kind.InferenceServerClient(address) as own:
            for _ in range(20):
                if turn % 2:
                    infer_texts(kind, own)
                else:
                    scores_are_right(own.infer("linear", [tensor(kind, X, "FP32")]))

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(ask, range(4)))
    infer_with_defaults(kind, client)


# --- Over one ---------------------------------------------------------------------------------------


def infer_as_json(kind: ModuleType, client: Client) -> None:
    wanted = [kind.InferRequestedOutput(name, binary_data=False) for name in ("scores", "label")]
    given = [tensor(kind, X, "FP32", binary_data=False)]
    result = client.infer("linear", given, outputs=wanted)
    scores_are_right(result)
    assert result.get_response()["outputs"][0]["data"] == [60, 70, 80, 30, 40, 50]


def infer_texts_as_json(kind: ModuleType, client: Client) -> None:
    wanted = [kind.InferRequestedOutput("y", binary_data=False)]
    given = [tensor(kind, TEXTS, "BYTES", binary_data=False)]
    result = client.infer("texts", given, outputs=wanted)
    assert result.as_numpy("y").tolist() == [[one.decode() for one in row] for row in TEXTS]


def infer_json_in_and_binary_out(kind: ModuleType, client: Client) -> None:
    scores_are_right(client.infer("linear", [tensor(kind, X, "FP32", binary_data=False)]))


def infer_compressed(kind: ModuleType, client: Client) -> None:
    for algorithm in ("gzip", "deflate"):
        for asked in (None, "gzip", "deflate"):
            result = client.infer(
                "linear",
                [tensor(kind, X, "FP32")],
                request_compression_algorithm=algorithm,
                response_compression_algorithm=asked,
            )
            scores_are_right(result)


def repository_index(_: ModuleType, client: Client) -> None:
    index = client.get_model_repository_index()
    assert [(one["name"], one["version"], one["state"]) for one in index] == [
        ("linear", "1", "READY"),
        ("texts", "1", "READY"),
    ]


def infer_compressed_by_grpc(kind: ModuleType, client: Client) -> None:
    for algorithm in ("gzip", "deflate"):
        scores_are_right(
            client.infer("linear", [tensor(kind, X, "FP32")], compression_algorithm=algorithm)
        )


BOTH: tuple[Case, ...] = (
    live_and_ready,
    model_ready,
    server_metadata,
    model_metadata,
    metadata_of_an_unknown_model,
    infer_with_defaults,
    infer_a_version,
    infer_one_output,
    infer_texts,
    infer_an_unknown_model,
    infer_a_wrong_shape,
    infer_a_wrong_datatype,
    two_models_at_once,
)
CASES: dict[ModuleType, tuple[Case, ...]] = {
    tritonclient.http: (
        *BOTH,
        infer_as_json,
        infer_texts_as_json,
        infer_json_in_and_binary_out,
        infer_compressed,
        repository_index,
    ),
    tritonclient.grpc: (*BOTH, infer_compressed_by_grpc),
}
ADDRESSES: dict[ModuleType, str] = {}


def outcome(case: Case, kind: ModuleType) -> str:
    try:
        with kind.InferenceServerClient(ADDRESSES[kind]) as client:
            case(kind, client)
    except Exception:  # noqa: BLE001 - whatever it was, the test that asked shows it
        return traceback.format_exc()
    return ""


def main() -> None:
    ADDRESSES[tritonclient.http] = f"127.0.0.1:{sys.argv[1]}"
    ADDRESSES[tritonclient.grpc] = f"127.0.0.1:{sys.argv[2]}"
    found = {
        f"{kind.__name__.rsplit('.', maxsplit=1)[-1]}: {case.__name__}": outcome(case, kind)
        for kind, cases in CASES.items()
        for case in cases
    }
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
