"""What every store of the controller promises of models and signed metadata."""

from dataclasses import replace

import pytest

from controller.errors import Conflict
from controller.registry.version import Change, State
from controller.store.store import Store
from tests.contracts.stored import MODEL, PENDING, VERSION


def test_models_and_versions_come_back_in_order(store: Store) -> None:
    faces = replace(MODEL, name="faces", approvers={})
    second = replace(VERSION, version=2, state=State.RECALLED, reasons=())
    tenth = replace(VERSION, version=10)
    of_faces = replace(VERSION, model="faces")

    with store.begin() as tx:
        for model in (faces, MODEL):
            tx.registry.put_model(model)
        for version in (of_faces, tenth, second, replace(VERSION, state=State.APPROVED), VERSION):
            tx.registry.put_version(version)

    with store.begin() as tx:
        assert tx.registry.model("digits") == MODEL
        assert tx.registry.model("none") is None
        assert list(tx.registry.models()) == [MODEL, faces]
        assert tx.registry.version("digits", 2) == second
        assert tx.registry.version("digits", 3) is None
        assert list(tx.registry.versions("digits")) == [VERSION, second, tenth]
        assert list(tx.registry.versions()) == [VERSION, second, tenth, of_faces]


def test_a_version_of_no_model_is_refused(store: Store) -> None:
    with pytest.raises(Conflict), store.begin() as tx:
        tx.registry.put_version(VERSION)


def test_what_waits_for_signatures_is_kept_until_it_is_removed(store: Store) -> None:
    recall = replace(PENDING, change=Change.RECALL, signed_by=())

    with store.begin() as tx:
        tx.registry.put_model(MODEL)
        tx.registry.put_version(VERSION)
        tx.registry.put_version(replace(VERSION, version=2))
        tx.registry.put_pending(replace(PENDING, version=2))
        tx.registry.put_pending(PENDING)
        tx.registry.put_pending(recall)

    with store.begin() as tx:
        assert tx.registry.pending("digits", 1) == recall
        assert list(tx.registry.all_pending("digits")) == [recall, replace(PENDING, version=2)]
        assert list(tx.registry.all_pending("faces")) == []
        tx.registry.remove_pending("digits", 1)
        tx.registry.remove_pending("digits", 1)
        assert tx.registry.pending("digits", 1) is None
        assert list(tx.registry.all_pending()) == [replace(PENDING, version=2)]


def test_aliases_point_at_versions_that_exist(store: Store) -> None:
    with store.begin() as tx:
        tx.registry.put_model(MODEL)
        tx.registry.put_version(VERSION)
        tx.registry.put_version(replace(VERSION, version=2))
        tx.registry.put_alias("digits", "champion", 1)
        tx.registry.put_alias("digits", "best", 1)
        tx.registry.put_alias("digits", "champion", 2)

    with pytest.raises(Conflict), store.begin() as tx:
        tx.registry.put_alias("digits", "champion", 3)

    with store.begin() as tx:
        assert tx.registry.aliases("digits") == {"best": 1, "champion": 2}
        assert tx.registry.aliases("faces") == {}
        tx.registry.remove_alias("digits", "champion")
        tx.registry.remove_alias("digits", "champion")
        assert tx.registry.aliases("digits") == {"best": 1}


def test_every_version_that_people_sign_is_kept_and_the_highest_is_current(store: Store) -> None:
    with store.begin() as tx:
        tx.metadata.put("root", 1, b"one")
        tx.metadata.put("root", 2, b"two")
        tx.metadata.put("root", 1, b"one")
        tx.metadata.put("models-digits", 10, b"ten")

    with store.begin() as tx:
        assert tx.metadata.current("root") == b"two"
        assert tx.metadata.current("snapshot") is None
        assert tx.metadata.get("1.root.json") == b"one"
        assert tx.metadata.get("2.root.json") == b"two"
        assert tx.metadata.get("3.root.json") is None
        assert tx.metadata.get("root.json") == b"two"
        assert tx.metadata.get("10.models-digits.json") == b"ten"


@pytest.mark.parametrize(
    "name", ["", "root", "../root.json", "0.root.json", "x.root.json", ".json"]
)
def test_what_is_no_name_of_metadata_finds_nothing(store: Store, name: str) -> None:
    with store.begin() as tx:
        tx.metadata.put("root", 1, b"one")
        assert tx.metadata.get(name) is None


def test_published_metadata_is_never_changed_or_set_back(store: Store) -> None:
    with store.begin() as tx:
        tx.metadata.put("root", 3, b"three")

    with pytest.raises(Conflict), store.begin() as tx:
        tx.metadata.put("root", 3, b"else")
    with pytest.raises(Conflict), store.begin() as tx:
        tx.metadata.put("root", 2, b"two")

    with store.begin() as tx:
        assert tx.metadata.current("root") == b"three"
