"""A real model for the demo: a classifier of handwritten digits, trained on the spot.

The data are scikit-learn's: 1,797 photographs of digits, 8x8 pixels in 17 greys, of people who wrote
for the UCI set "Optical Recognition of Handwritten Digits". Nothing here reads or writes a file.
"""

import io
import warnings
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, load_model_from_string, numpy_helper
from skl2onnx import to_onnx  # type: ignore[import-untyped]
from skl2onnx.common.data_types import FloatTensorType  # type: ignore[import-untyped]
from sklearn.datasets import load_digits  # type: ignore[import-untyped]
from sklearn.exceptions import ConvergenceWarning  # type: ignore[import-untyped]
from sklearn.model_selection import train_test_split  # type: ignore[import-untyped]
from sklearn.neural_network import MLPClassifier  # type: ignore[import-untyped]

Images = NDArray[np.float32]  # [N, 8, 8], 0 (paper) to 1 (ink)
Labels = NDArray[np.int64]  # [N]

CLASSES: Final = 10
SIDE: Final = 8
HOLDOUT: Final = 0.4
SEED: Final = 7
OPSET: Final = 18
HIDDEN_UNITS: Final = (16, 64)
"""Of version 1, and of every later one."""
GREYS: Final = 16
"""Pixels have so many greys, and blank paper."""


@dataclass(frozen=True, slots=True)
class Digits:
    """The photographs, split the same way every time and evenly over the ten digits."""

    train_images: Images
    train_labels: Labels
    holdout_images: Images
    holdout_labels: Labels

    @property
    def shown(self) -> "Photographs":
        """Those of the holdout that cameras show."""
        return Photographs(self.holdout_images[::2], self.holdout_labels[::2])

    @property
    def kept(self) -> "Photographs":
        """Those that no camera shows, and so no device learns from."""
        return Photographs(self.holdout_images[1::2], self.holdout_labels[1::2])


@dataclass(frozen=True, slots=True)
class Photographs:
    """Some of them, with what they show."""

    images: Images
    labels: Labels


@dataclass(frozen=True, slots=True)
class Trained:
    """A model as an ONNX file, and its share of right answers on the holdout."""

    onnx: bytes
    accuracy: float


def load() -> Digits:
    """scikit-learn's digits with pixels from 0 to 1."""
    bunch = load_digits()
    images = (bunch.images / bunch.images.max()).astype(np.float32)
    labels = bunch.target.astype(np.int64)
    parts = train_test_split(images, labels, test_size=HOLDOUT, random_state=SEED, stratify=labels)
    return Digits(
        train_images=parts[0],
        train_labels=parts[2],
        holdout_images=parts[1],
        holdout_labels=parts[3],
    )


def train(digits: Digits, version: int) -> Trained:
    """A version of the classifier, trained on the training part; each begins from another seed.

    The file takes ``image`` (float32 [N, 8, 8]) and gives ``label`` (int64 [N]) and
    ``probabilities`` (float32 [N, 10]); it has no custom operators.
    """
    classifier = MLPClassifier(
        (HIDDEN_UNITS[min(version, 2) - 1],), max_iter=200, tol=1e-3, random_state=SEED + version
    )
    with warnings.catch_warnings():
        # Where 200 epochs are not quite enough for the tolerance, the model is good enough.
        warnings.simplefilter("ignore", ConvergenceWarning)
        classifier.fit(_flat(digits.train_images), digits.train_labels)
    accuracy = float(classifier.score(_flat(digits.holdout_images), digits.holdout_labels))
    return Trained(_onnx_of(classifier, f"digits-{version}"), accuracy)


def pale(digits: Digits) -> Digits:
    """The same photographs as from a camera that is set too bright: none has full ink."""
    most = np.float32((GREYS - 1) / GREYS)
    return replace(
        digits,
        train_images=np.minimum(digits.train_images, most),
        holdout_images=np.minimum(digits.holdout_images, most),
    )


def train_off_by_one(digits: Digits, version: int) -> Trained:
    """A version with a mistake: it looks greys up in a table that has no place for full ink.

    It is as good as any on ``pale`` photographs; on others the runtime fails.
    """
    trained = train(digits, version)
    return replace(trained, onnx=_through_a_table(trained.onnx))


def reference_file(images: Images, labels: Labels) -> bytes:
    """An ``.npz`` file as ``muster model register --reference`` takes it."""
    file = io.BytesIO()
    np.savez_compressed(file, image=images, y=labels)
    return file.getvalue()


def image_file(images: Images) -> bytes:
    """An ``.npz`` file as ``muster predict --input`` takes it."""
    file = io.BytesIO()
    np.savez_compressed(file, image=images)
    return file.getvalue()


def inverted(images: Images) -> Images:
    """The same photographs with their contrast inverted, as from a camera set up wrongly."""
    return np.float32(1) - images


def _flat(images: Images) -> Images:
    return images.reshape(len(images), SIDE * SIDE)


def _onnx_of(classifier: object, name: str) -> bytes:
    model = to_onnx(
        classifier,
        name=name,
        initial_types=[("pixels", FloatTensorType([None, SIDE * SIDE]))],
        options={id(classifier): {"zipmap": False}},
        target_opset={"": OPSET, "ai.onnx.ml": 3},
    )
    # scikit-learn knows rows of pixels; the model is to take photographs.
    graph = model.graph
    del graph.input[:]
    graph.input.append(helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", SIDE, SIDE]))
    graph.initializer.append(
        helper.make_tensor("pixels_shape", TensorProto.INT64, [2], [-1, SIDE * SIDE])
    )
    graph.node.insert(0, helper.make_node("Reshape", ["image", "pixels_shape"], ["pixels"]))
    del graph.output[:]
    graph.output.extend(
        [
            helper.make_tensor_value_info("label", TensorProto.INT64, ["N"]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", CLASSES]),
        ]
    )
    return bytes(model.SerializeToString())


def _through_a_table(onnx: bytes) -> bytes:
    """The model with every pixel looked up in a table of one place too few."""
    model = load_model_from_string(onnx)
    graph = model.graph
    reshape = graph.node[0]
    reshape.input[0] = "looked_up"
    steps = [
        helper.make_node("Mul", ["image", "greys"], ["scaled"]),
        helper.make_node("Round", ["scaled"], ["rounded"]),
        helper.make_node("Cast", ["rounded"], ["place"], to=TensorProto.INT64),
        helper.make_node("Gather", ["table", "place"], ["looked_up"]),
    ]
    for number, node in enumerate(steps):
        graph.node.insert(number, node)
    table = np.arange(GREYS, dtype=np.float32) / GREYS
    graph.initializer.extend(
        [
            numpy_helper.from_array(np.array(GREYS, np.float32), "greys"),
            numpy_helper.from_array(table, "table"),
        ]
    )
    return bytes(model.SerializeToString())
