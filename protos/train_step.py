"""What a train-step graph says of itself: the contract between who builds it and who runs it.

The graph is an ONNX file of the bundle (``Role.TRAIN_STEP``): it takes parameters and a batch, and
gives the next parameters. Its description is JSON in the file's metadata, under ``METADATA_KEY``.

Inputs, by name: every parameter; the model's own inputs that it needs; ``TARGET``, unless the model
is its own target; ``LEARNING_RATE``; and as the description has them ``SAMPLE_WEIGHT``,
``MOMENTUM`` with ``momentum_of(p)`` and ``PROXIMAL`` with ``anchor_of(p)`` of every parameter.
Outputs: ``next_of(p)``, ``next_momentum_of(p)``, ``LOSS`` (a scalar) and ``OUTPUT``, the batch's
output before the step: logits where the loss takes logits.
"""

from enum import StrEnum
from typing import Annotated, Final

import msgspec

from protos.errors import DocumentError
from protos.manifest import Sha256

METADATA_KEY: Final = "muster.train_step"

TARGET: Final = "train/target"
LEARNING_RATE: Final = "train/learning_rate"
SAMPLE_WEIGHT: Final = "train/sample_weight"
MOMENTUM: Final = "train/momentum"
PROXIMAL: Final = "train/proximal"
LOSS: Final = "train/loss"
OUTPUT: Final = "train/output"

_TRAINING: Final = """
    Abs Add And AveragePool BatchNormalization Cast CastLike Clip Concat ConstantOfShape Conv
    ConvTranspose Cos Div Dropout Elu Erf Exp Expand Flatten Gather Gelu Gemm
    GlobalAveragePool Greater GreaterOrEqual HardSigmoid HardSwish Identity LayerNormalization
    LeakyRelu Less LessOrEqual Log LogSoftmax MatMul Max MaxPool MaxUnpool Min Mul Neg OneHot
    PRelu Pad Pow Reciprocal ReduceMean ReduceSum ReduceSumSquare Relu Reshape ScatterElements
    ScatterND Shape Sigmoid Sign Sin Size Slice Softmax Softplus Split Sqrt Squeeze Sub Sum
    Tanh Transpose Unsqueeze Where
"""
TRAINING_OPERATORS: Final = frozenset(_TRAINING.split())
"""What can be trained through, and what computes the gradients of it."""

_FROZEN: Final = """
    ArgMax ArgMin Ceil Celu ConvInteger CumSum DepthToSpace DequantizeLinear
    DynamicQuantizeLinear Einsum Equal Floor GRU GatherElements GatherND GlobalMaxPool
    GroupNormalization InstanceNormalization IsInf IsNaN LRN LSTM LpNormalization LpPool
    MatMulInteger MeanVarianceNormalization Mish Mod Not Or QLinearConv QLinearMatMul
    QuantizeLinear RNN Range ReduceL1 ReduceL2 ReduceLogSumExp ReduceMax
    ReduceMin ReduceProd Resize Round Selu Softsign SpaceToDepth ThresholdedRelu Tile
    TopK Trilu Xor
"""
FROZEN_OPERATORS: Final = frozenset(_FROZEN.split())
"""What may stand before the trained layers only: it has no gradient here."""

OPERATORS: Final = TRAINING_OPERATORS | FROZEN_OPERATORS
"""The operators that a train-step graph may have, all of ONNX's own domain: none with graphs inside,
none that draws lots, none that unpacks text. A device refuses a graph with any other."""


def momentum_of(parameter: str) -> str:
    """Input: the parameter's momentum; zeros at the start of a round."""
    return f"train/momentum/{parameter}"


def anchor_of(parameter: str) -> str:
    """Input: the global value that the proximal term holds the parameter to."""
    return f"train/anchor/{parameter}"


def next_of(parameter: str) -> str:
    """Output: the parameter after the step."""
    return f"train/next/{parameter}"


def next_momentum_of(parameter: str) -> str:
    """Output: its momentum after the step."""
    return f"train/next_momentum/{parameter}"


class Loss(StrEnum):
    """What is minimised: the mean over the batch, weighted where there are sample weights."""

    SOFTMAX_CROSS_ENTROPY = "softmax_cross_entropy"  # logits [B, C]; target INT64 [B]
    NLL = "nll"  # log-probabilities [B, C]; target INT64 [B]
    BCE_WITH_LOGITS = "bce_with_logits"  # logits; target as the output
    MSE = "mse"
    MAE = "mae"
    HUBER = "huber"
    RECONSTRUCTION = "reconstruction"  # mse against the model's own first input


class Optimizer(StrEnum):
    """How the gradient becomes a step."""

    SGD = "sgd"
    MOMENTUM = "momentum"


class Parameter(msgspec.Struct, frozen=True):
    """A float32 tensor that is trained: an initializer of the version's model file, by its name."""

    name: str
    shape: tuple[Annotated[int, msgspec.Meta(ge=0)], ...]


class TrainStepSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A train-step graph's description of itself.

    Attributes:
        model_sha256: of the model file that it was built from; the bundle's own.
        loss: what is minimised.
        optimizer: how the gradient becomes a step.
        parameters: what is trained, in the order in which updates are told.
        inputs: names of the model's inputs that the graph takes.
        target_shape: of ``TARGET``, -1 the batch; empty where the model is its own target.
        sample_weight: whether it takes ``SAMPLE_WEIGHT``, shape [batch].
        proximal: whether it takes ``PROXIMAL`` and anchors (FedProx).
        weight_decay: in the graph; 0 is none.
        clip_norm: bound of the gradient's norm over all parameters, in the graph; None is none.
        classes: of ``SOFTMAX_CROSS_ENTROPY`` and ``NLL`` only: the model's labels in the order of the
            output's columns, so that the target of a row whose truth is ``classes[i]`` is ``i``. The
            truth that is told of a request (feedback) is such a label, as the model answers it:
            a whole number or a text. Empty: labels are the columns' numbers, 0 on, and the truth is
            the target.
    """

    model_sha256: Sha256
    loss: Loss
    optimizer: Optimizer
    parameters: tuple[Parameter, ...]
    inputs: tuple[str, ...]
    target_shape: tuple[int, ...]
    sample_weight: bool
    proximal: bool
    weight_decay: float = 0.0
    clip_norm: float | None = None
    classes: tuple[int | str, ...] = ()
    schema: int = 1

    def encode(self) -> str:
        """The JSON under ``METADATA_KEY``."""
        return msgspec.json.encode(self).decode()


def renamed(graph: bytes, old_model: str, new_model: str) -> bytes:
    """The graph for another model file that differs in nothing but what is trained.

    What is trained are inputs of the graph, so only the model's SHA-256 in its metadata changes: whoever
    has a parent's train step has its candidate's.

    Raises:
        DocumentError: the graph does not name the model just once.
    """
    old, new = old_model.encode(), new_model.encode()
    if len(old) != len(new) or graph.count(old) != 1:
        raise DocumentError("malformed", "train step: it does not name its model just once")
    return graph.replace(old, new)


_decoder = msgspec.json.Decoder(TrainStepSpec)  # no two threads may be the first to use it


def read_spec(text: str) -> TrainStepSpec:
    """The description in a train-step graph's metadata.

    Raises:
        DocumentError: malformed; names the field.
    """
    try:
        return _decoder.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise DocumentError("malformed", f"train step: {error}") from error
