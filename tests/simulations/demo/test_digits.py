import numpy as np
import pytest

from agent.errors import InferenceFailed
from agent.runtimes.onnx import OnnxRuntime
from agent.runtimes.runtime import Tensors
from controller.registry.onnx_file import read_onnx
from controller.registry.onnx_ports import Port
from controller.registry.reference import read_reference
from controller.registry.trial import Subject, load
from simulations.demo import digits
from simulations.demo.digits import Digits, Images, Trained

LEAST_ACCURACY = 0.93


@pytest.fixture(scope="module")
def data() -> Digits:
    return digits.load()


@pytest.fixture(scope="module")
def models(data: Digits) -> list[Trained]:
    return [digits.train(data, version) for version in (1, 2)]


def answers(model: Trained, images: Images) -> Tensors:
    subject = Subject("digits", "digits.onnx", model.onnx, read_onnx(model.onnx))
    loaded = load(OnnxRuntime(), subject)
    label, probabilities = loaded.run({"image": images}, ["label", "probabilities"])
    loaded.close()
    return {"label": label, "probabilities": probabilities}


def test_the_photographs_are_real_and_split_the_same_way_every_time(data: Digits) -> None:
    again = digits.load()

    assert (len(data.train_images), len(data.holdout_images)) == (1078, 719)
    assert data.train_images.shape[1:] == (8, 8)
    assert (data.train_images.min(), data.train_images.max()) == (0, 1)
    assert set(data.holdout_labels.tolist()) == set(range(10))
    assert np.array_equal(again.holdout_images, data.holdout_images)
    assert np.array_equal(again.train_labels, data.train_labels)


@pytest.mark.parametrize("version", [1, 2])
def test_both_versions_pass_the_registrys_examination(models: list[Trained], version: int) -> None:
    found = read_onnx(models[version - 1].onnx)

    assert found.inputs == (Port("image", "FP32", (-1, 8, 8)),)
    assert found.outputs == (
        Port("label", "INT64", (-1,)),
        Port("probabilities", "FP32", (-1, 10)),
    )


@pytest.mark.parametrize("version", [1, 2])
def test_the_files_are_as_right_as_the_models_that_they_were_made_of(
    data: Digits, models: list[Trained], version: int
) -> None:
    model = models[version - 1]

    found = answers(model, data.holdout_images)

    assert np.mean(found["label"] == data.holdout_labels) == pytest.approx(model.accuracy)
    assert model.accuracy > LEAST_ACCURACY
    np.testing.assert_allclose(found["probabilities"].sum(axis=1), 1, atol=1e-5)


def test_the_versions_are_two_models(models: list[Trained]) -> None:
    first, second = (read_onnx(one.onnx).parameters for one in models)

    assert second > 3 * first


def test_inverted_photographs_are_the_same_size_and_fool_the_model(
    data: Digits, models: list[Trained]
) -> None:
    images = digits.inverted(data.holdout_images)

    assert images.dtype == np.float32
    np.testing.assert_array_equal(digits.inverted(images), data.holdout_images)
    assert np.mean(answers(models[0], images)["label"] == data.holdout_labels) < 0.3


def test_the_bad_version_is_good_on_what_its_author_saw_and_fails_on_the_rest(data: Digits) -> None:
    pale = digits.pale(data)
    model = digits.train_off_by_one(pale, 3)

    found = answers(model, pale.holdout_images)

    assert np.mean(found["label"] == pale.holdout_labels) == pytest.approx(model.accuracy)
    assert model.accuracy > LEAST_ACCURACY
    for images in (data.holdout_images, digits.inverted(data.holdout_images)):
        with pytest.raises(InferenceFailed, match="out of data bounds"):
            answers(model, images[:8])


def test_the_reference_file_is_what_registration_takes(data: Digits, models: list[Trained]) -> None:
    file = digits.reference_file(data.holdout_images, data.holdout_labels)

    found = read_reference(file, read_onnx(models[0].onnx))

    assert found.truth is not None
    assert np.array_equal(found.inputs["image"], data.holdout_images)
    assert np.array_equal(found.truth, data.holdout_labels)
