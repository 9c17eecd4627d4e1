from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import numpy as np
import pytest

from agent.inference.datatypes import DATATYPES, from_raw, to_raw
from protos.open_inference import inference_pb2 as pb
from protos.open_inference.inference_pb2_grpc import GRPCInferenceServiceStub
from tests.agent.serving.served import Served

ROW = np.array([[1, 2, 3, 4]], dtype=np.float32)
Stub = GRPCInferenceServiceStub
Input = pb.ModelInferRequest.InferInputTensor
Code = grpc.StatusCode


@pytest.fixture
async def stub(served: Served) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(
        f"127.0.0.1:{served.grpc_port}", options=[("grpc.enable_http_proxy", 0)]
    ) as channel:
        yield GRPCInferenceServiceStub(channel)


def raw(model: str = "linear", **more: Any) -> pb.ModelInferRequest:
    return pb.ModelInferRequest(
        model_name=model,
        inputs=[Input(name="x", datatype="FP32", shape=ROW.shape)],
        raw_input_contents=[ROW.tobytes()],
        **more,
    )


def typed(datatype: str, shape: list[int], **contents: Any) -> pb.ModelInferRequest:
    tensor = Input(
        name="x", datatype=datatype, shape=shape, contents=pb.InferTensorContents(**contents)
    )
    return pb.ModelInferRequest(model_name="identity", inputs=[tensor])


async def refusal(stub: Any, request: pb.ModelInferRequest) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await stub.ModelInfer(request)
    return error.value.code(), error.value.details() or ""


async def test_it_says_what_is_here(stub: Any) -> None:
    assert (await stub.ServerLive(pb.ServerLiveRequest())).live
    assert (await stub.ServerReady(pb.ServerReadyRequest())).ready
    server = await stub.ServerMetadata(pb.ServerMetadataRequest())
    assert (server.name, list(server.extensions)) == ("muster-agent", ["binary_tensor_data"])


@pytest.mark.parametrize(
    ("name", "version", "ready"),
    [("linear", "", True), ("linear", "1", True), ("linear", "2", False), ("none", "", False)],
)
async def test_a_model_is_ready_if_it_answers(
    stub: Any, name: str, version: str, ready: bool
) -> None:
    reply = await stub.ModelReady(pb.ModelReadyRequest(name=name, version=version))

    assert reply.ready is ready


async def test_a_models_metadata_is_its_signature(stub: Any) -> None:
    reply = await stub.ModelMetadata(pb.ModelMetadataRequest(name="linear"))

    assert (reply.platform, list(reply.versions)) == ("onnx_onnxv1", ["1"])
    assert [(one.name, one.datatype, list(one.shape)) for one in reply.inputs] == [
        ("x", "FP32", [-1, 4])
    ]
    assert [(one.name, one.datatype, list(one.shape)) for one in reply.outputs] == [
        ("scores", "FP32", [-1, 3]),
        ("label", "INT64", [-1]),
    ]


async def test_metadata_of_an_unknown_model_are_not_found(stub: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match="unknown model 'none'") as error:
        await stub.ModelMetadata(pb.ModelMetadataRequest(name="none"))

    assert error.value.code() is Code.NOT_FOUND


async def test_raw_in_and_raw_out(stub: Any) -> None:
    reply = await stub.ModelInfer(raw(id="seven"))

    assert (reply.model_name, reply.model_version, reply.id) == ("linear", "1", "seven")
    assert [(one.name, one.datatype, list(one.shape)) for one in reply.outputs] == [
        ("scores", "FP32", [1, 3]),
        ("label", "INT64", [1]),
    ]
    assert from_raw("scores", "FP32", [1, 3], reply.raw_output_contents[0]).tolist() == [
        [60, 70, 80]
    ]
    assert not reply.outputs[0].HasField("contents")


async def test_only_the_outputs_asked_for_come_back(stub: Any) -> None:
    wanted = pb.ModelInferRequest.InferRequestedOutputTensor(name="label")

    reply = await stub.ModelInfer(raw(outputs=[wanted]))

    assert [one.name for one in reply.outputs] == ["label"]


async def test_typed_contents_are_read(served: Served, stub: Any) -> None:
    request = pb.ModelInferRequest(
        model_name="linear",
        inputs=[
            Input(
                name="x",
                datatype="FP32",
                shape=[1, 4],
                contents=pb.InferTensorContents(fp32_contents=[1, 2, 3, 4]),
            )
        ],
    )

    reply = await stub.ModelInfer(request)

    assert np.frombuffer(reply.raw_output_contents[1], np.int64).tolist() == [2]


async def test_texts_travel_typed_and_raw(stub: Any) -> None:
    texts = np.array([["año", ""]], dtype=object)
    given = typed("BYTES", [1, 2], bytes_contents=[text.encode() for text in texts.flat])

    reply = await stub.ModelInfer(given)

    assert reply.raw_output_contents[0] == to_raw(texts)


@pytest.mark.parametrize(
    ("datatype", "field", "values"),
    [
        ("BOOL", "bool_contents", [True, False]),
        ("INT8", "int_contents", [-128, 127]),
        ("UINT8", "uint_contents", [0, 255]),
        ("INT64", "int64_contents", [-(2**63), 2**63 - 1]),
        ("UINT64", "uint64_contents", [0, 2**64 - 1]),
        ("FP64", "fp64_contents", [0.1, -1e300]),
    ],
)
async def test_every_kind_of_typed_contents_is_read(
    served: Served, stub: Any, datatype: str, field: str, values: list[Any]
) -> None:
    array = np.array([values], DATATYPES[datatype].numpy)
    served.host.deployments.remove("identity", "champion")
    await served.host.run(served.host.identity(datatype, array))

    reply = await stub.ModelInfer(typed(datatype, [1, 2], **{field: values}))

    assert from_raw("y", datatype, [1, 2], reply.raw_output_contents[0]).tolist() == [values]


@pytest.mark.parametrize(
    ("request_", "code", "said"),
    [
        (raw("none"), Code.NOT_FOUND, "unknown model 'none'"),
        (raw(model_version="2"), Code.NOT_FOUND, "unknown version 2"),
        (raw(model_version="x"), Code.NOT_FOUND, "unknown version 'x'"),
        (raw("identity"), Code.INVALID_ARGUMENT, "input 'x': FP32"),
        (pb.ModelInferRequest(model_name="linear"), Code.INVALID_ARGUMENT, "input 'x': missing"),
        (
            pb.ModelInferRequest(
                model_name="linear",
                inputs=[Input(name="x", datatype="FP32", shape=[1, 4])],
                raw_input_contents=[b"\0" * 15],
            ),
            Code.INVALID_ARGUMENT,
            "input 'x': 15 bytes",
        ),
        (
            pb.ModelInferRequest(model_name="linear", raw_input_contents=[b""]),
            Code.INVALID_ARGUMENT,
            "0 inputs, and 1 raw_input_contents",
        ),
        (
            pb.ModelInferRequest(
                model_name="linear",
                inputs=[Input(name="x", datatype="FP32", shape=[-1, -4])],
                raw_input_contents=[b"\0" * 16],
            ),
            Code.INVALID_ARGUMENT,
            "input 'x': shape",
        ),
        (
            pb.ModelInferRequest(
                model_name="linear",
                inputs=[
                    Input(
                        name="x",
                        datatype="FP32",
                        shape=[1, 4],
                        contents=pb.InferTensorContents(fp32_contents=[1]),
                    )
                ],
                raw_input_contents=[b"\0" * 16],
            ),
            Code.INVALID_ARGUMENT,
            "input 'x': contents beside raw_input_contents",
        ),
        (typed("INT8", [1, 1], int_contents=[200]), Code.INVALID_ARGUMENT, "range of INT8"),
        (typed("FP16", [1, 1]), Code.INVALID_ARGUMENT, "raw contents only"),
        (typed("FP32", [1, 1], fp64_contents=[1.0]), Code.INVALID_ARGUMENT, "not in fp64"),
        (typed("FP32", [1, 2], fp32_contents=[1.0]), Code.INVALID_ARGUMENT, "1 elements"),
        (typed("BYTES", [1, 1], bytes_contents=[b"\xff"]), Code.INVALID_ARGUMENT, "UTF-8"),
    ],
)
async def test_what_does_not_fit_is_refused_by_name(
    stub: Any, request_: pb.ModelInferRequest, code: grpc.StatusCode, said: str
) -> None:
    given, details = await refusal(stub, request_)

    assert given is code
    assert said in details


async def test_a_model_on_its_way_is_unavailable(served: Served, stub: Any) -> None:
    served.host.deployments.remove("constant", "champion")
    await served.host.prepare(served.host.constant(2))

    assert (await refusal(stub, raw("constant")))[0] is Code.UNAVAILABLE
    assert not (await stub.ServerReady(pb.ServerReadyRequest())).ready


async def test_what_the_runtime_fails_on_is_internal(served: Served, stub: Any) -> None:
    served.host.deployments.enter("linear", None).loaded.close()

    assert (await refusal(stub, raw()))[0] is Code.INTERNAL


async def test_a_message_over_the_limit_is_refused(stub: Any) -> None:
    request = raw()
    request.raw_input_contents[0] = bytes(2 * 1024 * 1024)

    assert (await refusal(stub, request))[0] is Code.RESOURCE_EXHAUSTED


async def test_what_is_not_served_is_unimplemented(served: Served) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{served.grpc_port}") as channel:
        call: Any = channel.unary_unary("/inference.GRPCInferenceService/RepositoryIndex")
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await call(b"")

    assert error.value.code() is Code.UNIMPLEMENTED
