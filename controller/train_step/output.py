"""The tensor that a loss takes: the logits, where the model goes on to what the loss has itself."""

from collections.abc import Mapping

from onnx import ModelProto, NodeProto

from controller.train_step.emitter import FLOAT
from controller.train_step.errors import UnknownOutput
from controller.train_step.graph import elem_type, is_standard, producers
from controller.train_step.options import TrainOptions
from protos.train_step import Loss


def output_of(model: ModelProto, options: TrainOptions) -> str:
    """Its name: what the options name, else the first output of float32, or what that is made of.

    Raises:
        UnknownOutput: there is none.
    """
    floats = [one.name for one in model.graph.output if elem_type(one) == FLOAT]
    if not floats and not options.output:
        raise UnknownOutput("the model has no float32 output")
    output = options.output or floats[0]
    made_by = producers(model.graph.node)
    if output not in made_by:
        raise UnknownOutput(f"the model computes no {output!r}")
    node = _source(output, made_by)
    match options.loss:
        case Loss.SOFTMAX_CROSS_ENTROPY if is_standard(node, "Softmax", "LogSoftmax"):
            return node.input[0]
        case Loss.NLL if is_standard(node, "Softmax"):
            raise UnknownOutput(
                f"{output!r} has probabilities; {options.loss} takes their logarithms"
            )
        case Loss.BCE_WITH_LOGITS:
            yes = _yes_of_both(node, made_by) or node
            return yes.input[0] if is_standard(yes, "Sigmoid") else output
        case _:
            return output


def _source(name: str, made_by: Mapping[str, NodeProto]) -> NodeProto:
    """The node that computes a value; one that only names it anew is passed over."""
    node = made_by[name]
    while is_standard(node, "Identity", "Cast") and node.input[0] in made_by:
        node = made_by[node.input[0]]
    return node


def _yes_of_both(node: NodeProto, made_by: Mapping[str, NodeProto]) -> NodeProto | None:
    """What computes p, where the node joins 1 - p and p, as binary classifiers do."""
    if not is_standard(node, "Concat") or len(node.input) != 2:
        return None
    if not all(name in made_by for name in node.input):
        return None
    no, yes = (_source(name, made_by) for name in node.input)
    return yes if is_standard(no, "Sub") and no.input[1] in yes.output else None
