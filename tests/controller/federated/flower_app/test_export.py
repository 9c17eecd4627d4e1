"""What is exported, what is not, and what a damaged app says."""

import tomllib
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from flwr.cli.build import build_fab_from_disk
from msgspec.structs import replace

from controller.federated.flower_app import folder
from controller.federated.flower_app.actions import plan_in, version_in, write_folder
from controller.federated.flower_app.errors import AppDamaged, ExamplesUnfit, NoFlowerApp
from controller.federated.flower_app.folder import check_fits, name_of, without_effect
from controller.federated.flower_app.learning import examples_in
from controller.federated.flower_app.version import Document, read_version
from protos.manifest import Role
from tests.agent.federated.learners import clouds
from tests.controller.federated.flower_app.exported import (
    FILES,
    LEARNER,
    export,
    furthest,
    plan_of,
    run_file,
)

SIGNED = LEARNER.manifest.encode()


def nothing_beside(name: str) -> bytes:
    raise AssertionError(f"{name} is looked for outside")


@pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")
def test_flower_bundles_it_with_the_version_as_it_is_signed(tmp_path: Path) -> None:
    package = export(tmp_path / "app", run_file())

    bundle = build_fab_from_disk(tmp_path / "app")

    version = version_in(package, "")
    assert version.manifest == LEARNER.manifest
    assert furthest(dict(version.parameters()), LEARNER.parameters) == 0
    assert plan_in(package) == plan_of(run_file())
    assert len(bundle) < 20_000


def test_a_model_that_is_too_large_for_flower_stands_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder, "MOST_BUNDLE_BYTES", 500)
    package = export(tmp_path, run_file())

    assert (tmp_path / "model.onnx").read_bytes() == LEARNER.model
    assert version_in(package, str(tmp_path)).train_step == LEARNER.step
    with pytest.raises(AppDamaged, match="`files` does not say where"):
        version_in(package, "")
    (tmp_path / "model.onnx").write_bytes(LEARNER.model + b"\0")
    version_in.cache_clear()
    with pytest.raises(AppDamaged, match=r"model\.onnx is not that of learner/1"):
        version_in(package, str(tmp_path))


def test_a_file_that_the_manifest_does_not_name_is_refused() -> None:
    document = Document(SIGNED, {**FILES, Role.TRAIN_STEP: LEARNER.step + b"\0"})

    with pytest.raises(AppDamaged, match=r"train_step\.onnx is not that of learner/1"):
        read_version(msgspec.json.encode(document), nothing_beside)


@pytest.mark.parametrize("data", [b"", b"{}", b'{"manifest": "e30=", "files": {}}', b"\xff"])
def test_what_is_no_app_is_refused(data: bytes) -> None:
    with pytest.raises(AppDamaged, match=r"version\.json"):
        read_version(data, nothing_beside)


def test_a_version_without_train_step_and_a_buffered_run_are_refused() -> None:
    buffered = plan_of(run_file(round='mode = "buffered"\nbuffer = 2'))
    with pytest.raises(NoFlowerApp, match="buffered"):
        check_fits(LEARNER.manifest, buffered)
    kept = LEARNER.manifest.files
    without = replace(LEARNER.manifest, files={Role.MODEL: kept[Role.MODEL]})
    with pytest.raises(NoFlowerApp, match="learner/1 has no train_step"):
        check_fits(without, plan_of(run_file()))
    check_fits(LEARNER.manifest, plan_of(run_file()))


@pytest.mark.parametrize(
    ("model", "name"),
    [("digits", "digits-12"), ("a.b_c", "a-b-c-12"), ("m" * 60, "m" * 29 + "-12")],
)
def test_names_are_those_that_flower_takes(model: str, name: str) -> None:
    assert name_of(replace(LEARNER.manifest, model=model, version=12)) == name


def test_what_has_no_effect_there_is_named() -> None:
    text = (
        run_file(round='quorum = 0.8\nrest = "1m"\nrotation = false')
        + "[admission]\nnorm_bound = 3.0\n"
    )

    assert list(without_effect(plan_of(text))) == [
        "[round] over_selection = 1.0",
        "[round] quorum = 0.8",
        "[round] rest = 60.0",
        "[admission] norm_bound = 3.0",
    ]


def test_the_project_can_be_read_and_says_how_many_rounds(tmp_path: Path) -> None:
    export(tmp_path, run_file(rounds=5))

    config = tomllib.loads((tmp_path / "pyproject.toml").read_text())["tool"]["flwr"]["app"]

    assert config["config"]["rounds"] == 5
    assert config["components"]["clientapp"] == "muster_app.client:app"


def test_the_trained_model_is_the_parent_with_other_numbers() -> None:
    version = read_version(msgspec.json.encode(Document(SIGNED, FILES)), nothing_beside)
    moved = {name: array + np.float32(1) for name, array in LEARNER.parameters.items()}

    model = onnx.load_model_from_string(version.moved(moved))

    onnx.checker.check_model(model)
    found = {one.name: onnx.numpy_helper.to_array(one) for one in model.graph.initializer}
    assert furthest({name: found[name] for name in moved}, moved) == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"y": None}, "truth is missing"),
        ({"x": np.zeros((80, 5), np.float32)}, "input 'x'"),
        ({"x": None}, "input 'x': missing"),
        ({"y": np.full(80, 9)}, "no class"),
        ({"y": np.zeros(79, np.int64)}, "79"),
    ],
)
def test_examples_that_do_not_fit_are_refused_by_name(
    change: dict[str, object], words: str
) -> None:
    x, y = clouds(80)
    given: dict[str, Any] = {"x": x, "y": y, **change}
    arrays = {name: array for name, array in given.items() if array is not None}

    with pytest.raises(ExamplesUnfit, match=words):
        examples_in(arrays, LEARNER.layout)


def test_what_is_held_out_is_so_by_its_content() -> None:
    x, y = clouds(80)

    found = examples_in({"x": x, "y": y}, LEARNER.layout)
    back = examples_in({"x": x[::-1], "y": y[::-1]}, LEARNER.layout)

    assert len(found.training) + len(found.held_out) == 80
    assert {one.tobytes() for one in found.held_out} == {one.tobytes() for one in back.held_out}
    assert len(found.held_out) > 5


def test_a_folder_is_written_over(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a/b": b"1"})
    write_folder(tmp_path, {"a/b": b"2"})

    assert (tmp_path / "a" / "b").read_bytes() == b"2"
