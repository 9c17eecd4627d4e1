"""Inference requests and responses as gRPC carries them."""

from collections.abc import Mapping
from typing import Any

from agent.errors import InvalidRequest
from agent.inference.actions import Answer
from agent.inference.datatypes import (
    DATATYPES,
    Array,
    datatype_of,
    from_raw,
    from_values,
    known,
    text_of,
    to_raw,
)
from protos.open_inference import inference_pb2 as pb


def inputs_of(request: pb.ModelInferRequest) -> Mapping[str, Array]:
    """The inputs: raw if there are any raw contents, else from their typed contents.

    Raises:
        InvalidRequest: they can't be read; names the input.
    """
    raws = request.raw_input_contents
    if raws and len(raws) != len(request.inputs):
        raise InvalidRequest(
            f"request: {len(request.inputs)} inputs, and {len(raws)} raw_input_contents"
        )
    found: dict[str, Array] = {}
    for index, one in enumerate(request.inputs):
        if one.name in found:
            raise InvalidRequest(f"input {one.name!r}: stands there twice")
        if any(length < 0 for length in one.shape):
            raise InvalidRequest(f"input {one.name!r}: shape {list(one.shape)} has a negative axis")
        if raws:
            if one.HasField("contents"):
                raise InvalidRequest(f"input {one.name!r}: contents beside raw_input_contents")
            found[one.name] = from_raw(one.name, one.datatype, one.shape, raws[index])
        else:
            found[one.name] = _typed(one)
    return found


def _typed(one: pb.ModelInferRequest.InferInputTensor) -> Array:
    field = known(one.name, one.datatype).contents
    if not field:
        raise InvalidRequest(f"input {one.name!r}: {one.datatype} is carried in raw contents only")
    others = [given.name for given, _ in one.contents.ListFields() if given.name != field]
    if others:
        raise InvalidRequest(
            f"input {one.name!r}: {one.datatype} stands in {field}, not in {', '.join(others)}"
        )
    values: list[Any] = list(getattr(one.contents, field))
    if one.datatype == "BYTES":
        values = [text_of(one.name, data, index) for index, data in enumerate(values)]
    return from_values(one.name, one.datatype, one.shape, values)


def of_answer(request: pb.ModelInferRequest, answer: Answer) -> pb.ModelInferResponse:
    """The outputs, raw, as Triton gives them."""
    response = pb.ModelInferResponse(
        model_name=request.model_name, model_version=str(answer.version), id=request.id
    )
    for name, array in answer.outputs.items():
        datatype = datatype_of(array.dtype)
        response.outputs.add(name=name, datatype=DATATYPES[datatype].name, shape=array.shape)
        response.raw_output_contents.append(to_raw(array))
    return response
