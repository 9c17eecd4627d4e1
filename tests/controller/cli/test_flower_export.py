"""`muster federated export`: from a run file to a folder that Flower can run."""

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from controller.federated.flower_app.actions import plan_in, version_in
from protos.manifest import read_manifest
from tests.agent.federated.learners import Learner, classifier
from tests.controller.cli.office import Muster, Office


@pytest.fixture(scope="module")
def learner(office: Office) -> Learner:
    """Version 1 can be trained; version 2 can't."""
    office.listed(1, 2)
    made = classifier()
    for data in (made.model, made.step):
        office.services.blobs.put(data)
    with office.store.begin() as tx:
        version = tx.registry.version("digits", 1)
        assert version is not None
        files = {**read_manifest(version.manifest).files, **made.manifest.files}
        manifest = msgspec.structs.replace(made.manifest, model="digits", version=1, files=files)
        tx.registry.put_version(replace(version, manifest=manifest.encode()))
    return made


def run_file(office: Office, model: str, more: str = "") -> Path:
    return office.file("run.toml", f'[run]\nmodel = "{model}"\nrounds = 3\n{more}'.encode())


def test_a_run_file_becomes_an_app(
    muster: Muster, office: Office, learner: Learner, tmp_path: Path
) -> None:
    file = run_file(office, "digits/1", '[round]\nrest = "5m"\n')
    folder = tmp_path / "digits-app"

    done = muster.ok("federated", "export", file, "--to", folder)

    assert done.out.startswith(f"digits/1 is an app of Flower's: `flwr run {folder} ")
    assert "[round] rest = 300.0 has no effect there" in done.err
    version = version_in(folder / "muster_app", "")
    assert version.manifest.reference == "digits/1"
    assert version.train_step == learner.step
    assert plan_in(folder / "muster_app").run.rounds == 3
    muster.ok("federated", "export", file, "--to", folder)


def test_what_can_not_be_exported_is_refused(
    muster: Muster, office: Office, learner: Learner, tmp_path: Path
) -> None:
    file = run_file(office, "digits/2")
    assert "no train_step" in muster.refused("federated", "export", file, "--to", tmp_path / "a")
    (tmp_path / "mine.txt").write_text("mine")
    file = run_file(office, "digits/1")
    assert "has other files" in muster.refused("federated", "export", file, "--to", tmp_path)
    assert not (tmp_path / "muster_app").exists()
    missing = tmp_path / "none.toml"
    assert "none.toml" in muster.refused("federated", "export", missing, "--to", tmp_path / "a")
