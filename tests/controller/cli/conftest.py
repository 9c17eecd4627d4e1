"""One controller for each file of tests; its commands run in this process."""

from collections.abc import Iterator

import pytest

from controller.access.operator import Role
from tests.controller.cli.office import MODEL, Muster, Office


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    made = Office(tmp_path_factory.mktemp("office"))
    yield made
    made.close()


@pytest.fixture
def muster(office: Office, monkeypatch: pytest.MonkeyPatch) -> Muster:
    """Commands of an administrator."""
    return Muster(monkeypatch, office.profiles[Role.ADMIN])


@pytest.fixture(scope="module")
def published(office: Office) -> Office:
    """The controller once `digits/1` may be rolled out; ann approves, alone."""
    with pytest.MonkeyPatch.context() as patch:
        publish(Muster(patch, office.profiles[Role.ADMIN]), office)
    return office


def publish(muster: Muster, office: Office, scale: float = 1.0) -> None:
    """The next version of `digits`, and its approver's signature."""
    key = office.key("ann")
    approver = ("--approver", key.with_suffix(".json"), "--threshold", "1")
    muster.ok("model", "create", MODEL, *approver, "--targets-key", office.targets_key, "--yes")
    register = ("model", "register", MODEL, office.model_file(scale), "-o", "json")
    made = muster.ok(*register, "--reference", office.reference()).json
    muster.ok("model", "approve", f"{MODEL}/{made['version']}", "--key", key, "--yes")
