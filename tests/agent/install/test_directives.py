"""What a directive means for what is installed and under way."""

import pytest
from msgspec.structs import replace

from agent.install.machine import State
from agent.install.reconcile import Renew, Retire, Start, Wait, reconcile
from protos.documents import Directive
from tests.agent.install.installs import NOW, ONE, SLOT, TWO, deployed, device, install, wanting
from tests.agent.install.outside import bundle


def test_without_a_directive_nothing_changes() -> None:
    assert reconcile(None, device(install(State.COMMITTED), slots=(SLOT,)), NOW) == []


def test_a_new_assignment_is_started() -> None:
    (step,) = reconcile(wanting(2), device(), NOW)

    assert isinstance(step, Start)
    assert (step.install.state, step.install.generation) == (State.VERIFYING, 6)
    assert step.install.sha256 == TWO.sha256
    assert step.reason == "digits/2 is wanted"


@pytest.mark.parametrize("state", State)
def test_the_same_directive_again_asks_for_nothing(state: State) -> None:
    steps = reconcile(wanting(2, generation=5), device(install(state), slots=(SLOT,)), NOW)

    assert [type(step) for step in steps] == ([Start] if state is State.IDLE else [])


@pytest.mark.parametrize("state", State)
def test_the_same_version_in_a_newer_directive(state: State) -> None:
    (step,) = reconcile(wanting(2), device(install(state), slots=(SLOT,)), NOW)

    if state in {State.IDLE, State.FAILED}:
        assert isinstance(step, Start)
        assert step.install.state is State.VERIFYING
    elif state is State.REVERTING:
        assert isinstance(step, Wait)
    else:
        assert isinstance(step, Renew)
        assert step.install == replace(install(state), generation=6)


@pytest.mark.parametrize("state", State)
def test_another_version_supersedes_at_every_state_but_while_putting_back(state: State) -> None:
    (step,) = reconcile(wanting(3), device(install(state), slots=(SLOT,)), NOW)

    if state is State.REVERTING:
        assert isinstance(step, Wait)
        assert "put back first" in step.reason
    else:
        assert isinstance(step, Start)
        assert (step.install.version, step.install.state) == (3, State.VERIFYING)
        assert "in place of digits/2" in step.reason or state is State.IDLE


def test_the_last_known_good_version_needs_no_second_trial() -> None:
    unproven = replace(SLOT, active=deployed(2))

    (step,) = reconcile(wanting(1), device(install(State.PROBATION), slots=(unproven,)), NOW)

    assert isinstance(step, Start)
    assert (step.install.state, step.install.candidate) == (State.COMMITTED, deployed(1))
    assert step.install.approvals == 2
    assert step.slot == SLOT


def test_a_quarantined_digest_is_refused_on_every_later_directive() -> None:
    for before in ((), (install(State.FAILED, code="quarantined"),), (install(State.FETCHING, 3),)):
        (step,) = reconcile(wanting(2), device(*before, kept_out=TWO.sha256), NOW)
        assert isinstance(step, Start)
        assert (step.install.state, step.install.code) == (State.REVERTING, "quarantined")
        assert step.install.detail == "it failed here before with self-test-mismatch: off"


@pytest.mark.parametrize("state", [None, State.FAILED, State.COMMITTED])
def test_a_higher_attempt_starts_what_failed_at_a_lower_one(state: State | None) -> None:
    before = [] if state is None else [install(state, 3 if state is State.COMMITTED else 2)]
    again = TWO.assignment(attempt=2)

    (step,) = reconcile(
        replace_assignments(wanting(2), again), device(*before, kept_out=TWO.sha256), NOW
    )

    assert isinstance(step, Start)
    assert (step.install.state, step.install.code) == (State.VERIFYING, "")
    assert (step.install.attempt, step.install.generation) == (2, 6)


def test_an_attempt_is_not_raised_while_it_is_put_back() -> None:
    directive = replace_assignments(wanting(2), TWO.assignment(attempt=2))

    (step,) = reconcile(directive, device(install(State.REVERTING), kept_out=TWO.sha256), NOW)

    assert isinstance(step, Wait)


@pytest.mark.parametrize("code", ["self-test-mismatch", "quarantined"])
def test_a_failed_version_is_tried_again_once_its_quarantine_is_lifted(code: str) -> None:
    failed = install(State.FAILED, code=code)
    directive = wanting(2, generation=5)
    assert reconcile(directive, device(failed, kept_out=TWO.sha256), NOW) == []

    (step,) = reconcile(directive, device(failed), NOW)

    assert isinstance(step, Start)
    assert "no longer in quarantine" in step.reason


def test_what_is_not_assigned_is_retired() -> None:
    steps = reconcile(wanting(), device(install(State.FETCHING), slots=(SLOT,)), NOW)

    assert steps == [Retire("digits", "champion", "generation 6 assigns nothing to it")]


def test_a_directive_may_name_many_slots() -> None:
    other = bundle(model="other")
    directive = replace_assignments(wanting(1), ONE.assignment(), other.assignment())

    steps = reconcile(directive, device(install(State.COMMITTED, 1, 6), slots=(SLOT,)), NOW)

    assert [(type(step), step.install.model) for step in steps if isinstance(step, Start)] == [
        (Start, "other")
    ]
    assert len(steps) == 1


def replace_assignments(directive: Directive, *assignments: object) -> Directive:
    return Directive(
        device=directive.device, generation=directive.generation, issued_at=0,
        assignments=assignments,  # type: ignore[arg-type]
    )  # fmt: skip
