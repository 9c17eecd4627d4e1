"""Versions are found by number and by alias, withdrawn and recalled."""

import pytest

from controller.errors import Conflict, InvalidInput, NotFound
from controller.registry import actions
from controller.registry.registration import Registered
from controller.registry.version import Change, Pending, State
from tests.controller.registry.registry import NOW, Registry


def test_a_version_is_found_by_number_by_alias_and_as_the_newest_published(
    registry: Registry, versions: list[Registered]
) -> None:
    first, second = versions
    with registry.tx() as tx:
        with pytest.raises(NotFound, match="no version of 'things' is published yet"):
            actions.resolve(tx, "things")
        actions.set_alias(tx, "things", "champion", 1, "ann", NOW)

    registry.publish(second)
    with registry.tx() as tx:
        assert actions.resolve(tx, "things/1") == first.version
        assert actions.resolve(tx, "things@champion") == first.version
        assert actions.resolve(tx, "things").version == 2
        assert actions.show_version(tx, "things@champion").aliases == ("champion",)
        assert [one.version.version for one in actions.show_model(tx, "things").versions] == [1, 2]
        assert [one.model.name for one in actions.list_models(tx)] == ["things"]


@pytest.mark.parametrize(
    ("named", "error", "reason"),
    [
        ("", InvalidInput, "write MODEL, MODEL/VERSION or MODEL@ALIAS"),
        ("things/0", InvalidInput, "write MODEL"),
        ("things/x", InvalidInput, "write MODEL"),
        ("things@", InvalidInput, "write MODEL"),
        ("things/1\n", InvalidInput, "write MODEL"),
        ("others", NotFound, "no model 'others'"),
        ("things/9", NotFound, "no version things/9"),
        ("things@best", NotFound, "has no alias 'best'; there are: none"),
    ],
)
def test_a_name_that_names_nothing_is_refused(
    one: tuple[Registry, Registered], named: str, error: type[Exception], reason: str
) -> None:
    with one[0].tx() as tx, pytest.raises(error, match=reason):
        actions.resolve(tx, named)


def test_an_alias_moves_and_goes_and_each_is_audited(
    registry: Registry, versions: list[Registered]
) -> None:
    with registry.tx() as tx:
        for version in (1, 2, 2):
            actions.set_alias(tx, "things", "champion", version, "ann", NOW)
        assert tx.registry.aliases("things") == {"champion": 2}
        actions.remove_alias(tx, "things", "champion", "bo", NOW)
        with pytest.raises(NotFound, match="no alias 'champion'"):
            actions.remove_alias(tx, "things", "champion", "bo", NOW)

        told = [
            (one.entry.actor, one.entry.action, dict(one.entry.detail))
            for one in tx.audit.records()
        ]
    assert told[2:] == [
        ("ann", "alias.set", {"version": "1", "before": ""}),
        ("ann", "alias.set", {"version": "2", "before": "1"}),
        ("bo", "alias.remove", {"before": "2"}),
    ]


@pytest.mark.parametrize("alias", ["", "3", "Champion", "a b", "-a"])
def test_an_alias_must_be_a_name_and_no_number(
    one: tuple[Registry, Registered], alias: str
) -> None:
    with one[0].tx() as tx, pytest.raises(InvalidInput, match="alias"):
        actions.set_alias(tx, "things", alias, 1, "ann", NOW)


def test_a_withdrawn_version_is_rejected_with_its_aliases_and_what_waits(
    registry: Registry, versions: list[Registered]
) -> None:
    with registry.tx() as tx:
        actions.set_alias(tx, "things", "next", 1, "ann", NOW)
        tx.registry.put_pending(Pending("things", 1, Change.ADD, b"{}", NOW, "ann"))

        found = actions.withdraw(tx, "things", 1, "wrong data", "bo", NOW)

        assert found.state is State.REJECTED
        assert found.reasons == ("withdrawn by bo: wrong data",)
        assert tx.registry.aliases("things") == {}
        assert tx.registry.pending("things", 1) is None
        assert tx.audit.records()[-1].entry.action == "version.withdraw"
        with pytest.raises(Conflict, match="things/1 is rejected: it can't be withdrawn"):
            actions.withdraw(tx, "things", 1, "", "bo", NOW)
        with pytest.raises(Conflict, match="things/1 is rejected: no alias"):
            actions.set_alias(tx, "things", "next", 1, "ann", NOW)


def test_a_published_version_is_recalled_and_not_withdrawn(
    registry: Registry, versions: list[Registered]
) -> None:
    registry.publish(versions[0])

    with registry.tx() as tx, pytest.raises(Conflict, match=r"published.*recall it instead"):
        actions.withdraw(tx, "things", 1, "", "bo", NOW)
