from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import NotReady, UnknownModel
from agent.inference.deployments import (
    Change,
    Standing,
    activated,
    answering,
    committed,
    removed,
    reverted,
    table_of,
)


@dataclass(frozen=True)
class One:
    version: int
    name: str = field(default="", compare=False)


A, B, C = One(1), One(2), One(3)
Slots = Mapping[tuple[str, str], Standing[One]]
SLOTS: Slots = {
    ("digits", "champion"): Standing(B, previous=A),
    ("digits", "challenger"): Standing(C),
    ("fruit", "challenger"): Standing(A),
}


def test_the_first_version_answers_once_it_is_activated() -> None:
    assert activated(Standing(), A) == Change(Standing(A))


def test_what_answered_before_stays_warm() -> None:
    change = activated(Standing(A, proven=True), B)

    assert change == Change(Standing(B, previous=A))


def test_what_is_proven_lets_go_of_what_was_before() -> None:
    assert committed(Standing(B, previous=A)) == Change(Standing(B, proven=True), (A,))


def test_a_revert_brings_back_what_was_before_as_proven() -> None:
    assert reverted(Standing(B, previous=A)) == Change(Standing(A, proven=True), (B,))


def test_a_revert_of_the_first_version_leaves_nothing() -> None:
    assert reverted(Standing(A)) == Change(Standing(), (A,))


def test_a_proven_version_is_not_reverted() -> None:
    assert reverted(Standing(A, proven=True)) == Change(Standing(A, proven=True))


def test_superseding_an_unproven_version_keeps_the_proven_one_behind() -> None:
    assert activated(Standing(B, previous=A), C) == Change(Standing(C, previous=A), (B,))


def test_removing_lets_go_of_everything() -> None:
    assert removed(Standing(B, previous=A)) == Change(Standing(), (B, A))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(["activate", "commit", "revert", "remove"]), max_size=12))
def test_every_version_stands_somewhere_or_is_let_go_just_once(steps: list[str]) -> None:
    standing: Standing[One] = Standing()
    made: list[One] = []
    released: list[One] = []
    for step in steps:
        if step == "activate":
            made.append(One(len(made) + 1))
            change = activated(standing, made[-1])
        elif step == "commit":
            change = committed(standing)
        elif step == "revert":
            change = reverted(standing)
        else:
            change = removed(standing)
        standing = change.standing
        released += change.released
    here = [one for one in (standing.active, standing.previous) if one is not None]

    assert sorted(one.version for one in here + released) == [one.version for one in made]


def test_the_champion_answers_a_request_that_names_no_version() -> None:
    assert answering(table_of(SLOTS, {}), "digits", None) is B


@pytest.mark.parametrize(("version", "found"), [(2, B), (3, C)])
def test_a_version_that_is_named_answers_in_whatever_slot(version: int, found: One) -> None:
    assert answering(table_of(SLOTS, {}), "digits", version) is found


def test_the_champions_deployment_answers_for_a_version_that_runs_twice() -> None:
    champion, challenger = One(1, "champion"), One(1, "challenger")
    slots: Slots = {
        ("digits", "challenger"): Standing(challenger),
        ("digits", "champion"): Standing(champion),
    }

    assert answering(table_of(slots, {}), "digits", 1) is champion


@pytest.mark.parametrize(
    ("model", "version", "said"),
    [
        ("nothing", None, "unknown model 'nothing'"),
        ("digits", 9, "unknown version 9"),
        ("digits", 1, "unknown version 1"),  # warm, and answers no more
        ("new", 8, "unknown version 8"),
    ],
)
def test_what_is_not_here_is_unknown(model: str, version: int | None, said: str) -> None:
    with pytest.raises(UnknownModel, match=said):
        answering(table_of(SLOTS, {"new": A}), model, version)


@pytest.mark.parametrize(("model", "version"), [("new", None), ("new", 1), ("fruit", None)])
def test_what_is_on_its_way_is_not_ready(model: str, version: int | None) -> None:
    with pytest.raises(NotReady, match=model):
        answering(table_of(SLOTS, {"new": A}), model, version)


def test_an_empty_slot_is_no_slot() -> None:
    empty: Standing[One] = Standing()

    assert table_of({("digits", "champion"): empty}, {}).slots == {}
