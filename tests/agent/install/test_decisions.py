"""The pure decisions around an install, one by one."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from agent import errors
from agent.errors import AgentError, Recalled, TransportError
from agent.install.attempts import rest, resume, retry_delay
from agent.install.fallback import bound, enforce, fallback, goal
from agent.install.machine import COUNTED, MAX_RESUMPTIONS, RESUME, Event, State
from agent.install.outcome import QUARANTINING, outcome_of
from agent.install.preflight import at_least, objections
from agent.install.progress import begun, deferred, passed, refused
from agent.install.record import Slot
from agent.install.report import report
from protos.documents import Report, canonical, decode
from protos.manifest import Manifest, Needs
from tests.agent.install.installs import BAD, NOW, ONE, SLOT, THREE, TWO, deployed, install
from tests.agent.install.outside import FACTS
from tests.agent.install.world import recalling


def every_error(kind: type[AgentError] = AgentError) -> list[type[AgentError]]:
    """Those that an install may meet: training has its own, which may be loaded or not."""
    below = [one for one in kind.__subclasses__() if "federated" not in one.__module__]
    return [kind, *(one for found in below for one in every_error(found))]


def test_every_failure_of_the_versions_own_is_in_the_quarantine_table() -> None:
    own = {kind.code for kind in every_error(errors.InstallFailed)} - {errors.Quarantined.code}

    assert own == QUARANTINING


@pytest.mark.parametrize("kind", [one for one in every_error() if one is not errors.Refused])
def test_no_error_but_a_refusal_or_a_failed_trial_ends_an_install(kind: type[AgentError]) -> None:
    found = outcome_of(kind("why"))
    ends = issubclass(kind, errors.Untrusted | errors.InstallFailed | errors.Incompatible)
    waits = issubclass(kind, errors.ExpiredMetadata)

    assert found.event is (Event.BAD if ends and not waits else Event.DEFER)
    assert (found.code, found.detail) == (kind.code, "why")


def test_passing_clears_what_was_waited_for_and_keeps_why_it_failed() -> None:
    waiting = deferred(install(State.FETCHING), outcome_of(TransportError("gone")), NOW + 9)
    assert (waiting.state, waiting.code, waiting.not_before) == (
        State.FETCHING, "transport", NOW + 9,
    )  # fmt: skip
    after = passed(waiting, NOW)
    assert (after.state, after.code, after.detail, after.not_before) == (
        State.CHECKING, "", "", 0.0,
    )  # fmt: skip

    failed = passed(
        deferred(refused(after, BAD, NOW), outcome_of(TransportError("x")), NOW + 1), NOW
    )

    assert (failed.state, failed.code, failed.detail) == (State.FAILED, "self-test-mismatch", "off")


def test_a_fresh_attempt_forgets_the_one_before() -> None:
    before = replace(install(State.PROBATION), resumptions=3, code="x", approvals=9)

    after = begun(before, THREE.assignment(rollout="r"), 8, NOW)

    assert after is not None
    assert (after.state, after.version, after.generation) == (State.VERIFYING, 3, 8)
    assert (after.resumptions, after.code, after.candidate, after.approvals) == (0, "", None, 0)
    assert begun(install(State.REVERTING), THREE.assignment(), 8, NOW) is None


@pytest.mark.parametrize("state", State)
def test_a_restart_follows_the_table_and_counts_where_it_must(state: State) -> None:
    after = resume(install(state), NOW)

    assert after.state is RESUME[state]
    assert after.resumptions == (state in COUNTED)


@pytest.mark.parametrize("state", State)
def test_a_restart_that_somebody_asked_for_is_not_counted(state: State) -> None:
    after = resume(rest(install(state)), NOW)

    assert (after.state, after.resumptions, after.rested) == (RESUME[state], 0, False)
    assert resume(replace(after, state=state), NOW).resumptions == (state in COUNTED)


@pytest.mark.parametrize("state", sorted(COUNTED))
def test_one_restart_too_many_is_a_crash_loop(state: State) -> None:
    one = install(state)
    for _ in range(MAX_RESUMPTIONS):
        one = replace(resume(one, NOW), state=state)
        assert one.code == ""

    one = resume(one, NOW)

    assert (one.state, one.code) == (State.REVERTING, "crash-loop")
    assert "4 restarts" in one.detail


@given(st.integers(0, 10_000), st.floats(0, 1, exclude_max=True))
@settings(max_examples=50)
def test_waits_grow_to_their_cap_and_are_spread(deferrals: int, share: float) -> None:
    delay = retry_delay(deferrals, 5, 300, share)

    assert min(5 * 2.0 ** min(deferrals, 10), 300) / 2 <= delay <= 300
    assert retry_delay(deferrals + 1, 5, 300, share) >= delay


def test_a_slot_falls_back_to_what_was_proven() -> None:
    switched = replace(SLOT, active=deployed(2))
    unproven_only = replace(switched, committed=None)

    assert fallback(switched, install(State.REVERTING)) == SLOT
    assert fallback(SLOT, install(State.REVERTING)) == SLOT
    assert fallback(unproven_only, install(State.REVERTING)).active is None
    assert fallback(unproven_only, install(State.REVERTING, 3)) == unproven_only


def test_what_shall_answer_is_the_fallback_from_the_moment_of_failure() -> None:
    switched = replace(SLOT, active=deployed(2))

    assert goal(switched, install(State.PROBATION)) == deployed(2)
    assert goal(switched, install(State.REVERTING)) == deployed(1)
    assert goal(None, None) is None


def test_a_recall_leaves_nothing_that_may_not_run() -> None:
    switched = replace(SLOT, active=deployed(2))

    assert bound(switched, recalling(TWO.sha256)) == SLOT
    assert bound(switched, recalling(ONE.sha256)) == replace(switched, committed=None)
    assert bound(SLOT, recalling(ONE.sha256)) == Slot("digits", "champion")
    assert bound(SLOT, recalling(THREE.sha256)) == SLOT


@pytest.mark.parametrize("state", State)
def test_a_recall_ends_an_install_wherever_it_is(state: State) -> None:
    found = enforce((), (install(state),), recalling(TWO.sha256), NOW)

    if state in {State.IDLE, State.FAILED, State.REVERTING}:
        assert found.installs == ()
    else:
        (ended,) = found.installs
        assert (ended.state, ended.code) == (State.REVERTING, Recalled.code)


def test_a_recall_of_something_else_changes_nothing() -> None:
    found = enforce((SLOT,), (install(State.PROBATION),), recalling(THREE.sha256), NOW)

    assert (found.slots, found.installs) == ((), ())


def test_all_objections_are_named_at_once() -> None:
    needs = Needs(
        runtime="onnxruntime", minimum_runtime="1.21", opset=23, memory_bytes=1 << 40,
        disk_bytes=1 << 41, arch=("aarch64", "riscv64"),
    )  # fmt: skip
    manifest = replace_manifest(needs, minimum_agent="0.4")

    found = objections(manifest, FACTS, opsets={"onnxruntime": 21})

    assert str(found) == (
        "needs aarch64 or riscv64; this is x86_64; "
        "needs 1099511627776 bytes of memory; there are 1073741824; "
        "needs onnxruntime 1.21; here is 1.20.1; "
        "needs opset 23; onnxruntime here goes up to 21; "
        "needs agent 0.4; this is 0.3.0; "
        "needs 2199023255552 bytes of disk; 1073741824 are free"
    )
    assert found.room
    assert len(found.lacks) == 5


def replace_manifest(needs: Needs, minimum_agent: str = "") -> Manifest:
    return replace(ONE.manifest, needs=needs, minimum_agent=minimum_agent)


def test_a_device_that_has_everything_is_not_objected_to() -> None:
    needs = Needs(
        minimum_runtime="1.20", opset=99, memory_bytes=1 << 30, disk_bytes=1 << 31, arch=("AMD64",)
    )

    found = objections(replace_manifest(needs, "0.3"), FACTS, present_bytes=1 << 30)

    assert (found.lacks, found.room, str(found)) == ((), "", "")


def test_a_runtime_that_is_not_here_is_an_objection() -> None:
    found = objections(replace_manifest(Needs(runtime="genai")), FACTS)

    assert found.lacks == ("needs genai, which is not here",)


@pytest.mark.parametrize(
    ("version", "minimum", "expected"),
    [
        ("1.20.1", "1.20", True), ("1.20", "1.20.0", True), ("1.9", "1.10", False),
        ("1.10", "1.9", True), ("2", "1.99.99", True), ("1.20.0rc1", "1.20", True),
        ("1.21.0+cu12", "1.21", True), ("", "0.1", False), ("0.1", "", True), ("", "", True),
    ],
)  # fmt: skip
def test_versions_compare_by_number(version: str, minimum: str, expected: bool) -> None:
    assert at_least(version, minimum) is expected


def test_a_report_says_what_answers_and_what_is_being_tried() -> None:
    slot = replace(SLOT, active=deployed(2))
    idle = Slot("other", "champion", active=replace(deployed(1), model="other"))

    made = report(
        device="d", counter=3, generation=6, reported_at=9, agent_version="0.1",
        slots=(slot, idle), installs=(install(State.PROBATION), install(State.COMMITTED)),
        loaded={("digits", "champion"): "m2"},
    )  # fmt: skip

    assert (made.device, made.counter, made.generation) == ("d", 3, 6)
    first, second = made.running
    assert (first.version, first.state, first.model_sha256) == (2, "probation", "m2")
    assert (first.manifest_sha256, first.approvals, first.code) == (TWO.sha256, 2, "")
    assert (second.model_sha256, second.code) == ("", "not-ready")
    (wanted,) = made.wanted
    assert (wanted.state, wanted.version, wanted.approvals) == ("probation", 2, 2)
    assert decode(canonical(made), Report) == made


def test_a_failed_install_is_reported_with_its_reason_and_what_it_answers() -> None:
    failed = replace(
        install(State.FAILED), code="self-test-mismatch", detail="output 3", generation=4
    )

    made = report(
        device="d", counter=1, generation=6, reported_at=0, agent_version="0",
        slots=(SLOT,), installs=(failed,), loaded={("digits", "champion"): "m1"},
    )  # fmt: skip

    assert [one.state for one in made.running] == ["committed"]
    assert [(one.state, one.code, one.detail, one.generation) for one in made.wanted] == [
        ("failed", "self-test-mismatch", "output 3", 4)
    ]
