"""The pure decisions around an install, one by one."""

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from agent import errors
from agent.errors import AgentError, Recalled, SelfTestMismatch, TransportError
from agent.install.attempts import rest, resume, retry_delay
from agent.install.fallback import bound, enforce, fallback, goal
from agent.install.gates import shadow_gate
from agent.install.machine import COUNTED, MAX_RESUMPTIONS, RESUME, Event, State
from agent.install.outcome import QUARANTINING, outcome_of
from agent.install.ports import TrafficSnapshot
from agent.install.preflight import at_least, objections
from agent.install.probation import ProbationPolicy, Verdict, judge, wilson_lower
from agent.install.progress import begun, deferred, passed, refused
from agent.install.reconcile import Device, Renew, Retire, Start, Wait, reconcile
from agent.install.record import Deployed, Install, Slot
from agent.install.report import report
from agent.store.device_store import Quarantine
from protos.documents import Directive, Report, canonical, decode
from protos.manifest import Budgets, Manifest, Needs
from tests.agent.install.world import FACTS, bundle, recalling

NOW = 1_700_000_000.0
ONE, TWO, THREE = (bundle(version=number) for number in (1, 2, 3))
BAD = outcome_of(SelfTestMismatch("off"))


def deployed(version: int) -> Deployed:
    sha256 = bundle(version=version).sha256
    return Deployed("digits", version, sha256, f"m{version}", version, approvals=2)


def install(state: State, version: int = 2, generation: int = 5, code: str = "") -> Install:
    one = bundle(version=version)
    return Install(
        model="digits", slot="champion", version=version, generation=generation,
        target="t", sha256=one.sha256, length=9, state=state, since=NOW - 60, code=code,
        candidate=deployed(version),
    )  # fmt: skip


def wanting(*versions: int, generation: int = 6) -> Directive:
    assignments = tuple(bundle(version=version).assignment() for version in versions)
    return Directive(device="d", generation=generation, issued_at=0, assignments=assignments)


def device(*installs: Install, slots: tuple[Slot, ...] = (), kept_out: str = "") -> Device:
    kept = Quarantine(kept_out, "digits", 2, "self-test-mismatch", "off", NOW - 60)
    return Device(slots, installs, lambda sha256: kept if sha256 == kept_out else None)


SLOT = Slot("digits", "champion", active=deployed(1), committed=deployed(1))


# --- What errors mean -----------------------------------------------------------------------------


def every_error(kind: type[AgentError] = AgentError) -> list[type[AgentError]]:
    return [kind, *(one for below in kind.__subclasses__() for one in every_error(below))]


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


# --- Records --------------------------------------------------------------------------------------


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


# --- Restarts -------------------------------------------------------------------------------------


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


# --- Directives -----------------------------------------------------------------------------------


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


# --- Fallbacks and recalls ------------------------------------------------------------------------


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


# --- Preflight ------------------------------------------------------------------------------------


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


# --- Probation ------------------------------------------------------------------------------------

POLICY = ProbationPolicy(minimum_seconds=5, minimum_requests=50, maximum_seconds=60)
BUDGETS = Budgets(latency_p99_seconds=0.010, memory_bytes=1)


@pytest.mark.parametrize(
    ("requests", "failed", "p99", "seconds", "verdict"),
    [
        (0, 0, 0.0, 10, Verdict.UNDECIDED),
        (0, 0, 0.0, 60, Verdict.PASSED),  # nobody asked: nothing to hold against it
        (1000, 0, 0.001, 4, Verdict.UNDECIDED),  # too soon
        (50, 0, 0.001, 5, Verdict.PASSED),
        (49, 0, 0.001, 5, Verdict.UNDECIDED),
        (49, 0, 0.001, 60, Verdict.PASSED),
        (3, 1, 0.001, 10, Verdict.UNDECIDED),  # one of three does not kill
        (3, 1, 0.001, 60, Verdict.PASSED),
        (2, 2, 0.0, 10, Verdict.UNDECIDED),
        (2, 2, 0.0, 60, Verdict.FAILED),  # it never answered anything
        (3, 3, 0.0, 1, Verdict.FAILED),  # certain at once
        (100, 2, 0.001, 10, Verdict.PASSED),
        (100, 3, 0.001, 10, Verdict.UNDECIDED),  # above the share, but not for certain
        (100, 3, 0.001, 60, Verdict.PASSED),
        (100, 10, 0.001, 10, Verdict.FAILED),
        (100, 0, 0.019, 10, Verdict.PASSED),  # within what the histogram can tell
        (100, 0, 0.021, 10, Verdict.FAILED),
        (99, 0, 9.0, 10, Verdict.PASSED),  # too few for a p99
    ],
)
def test_probation(
    requests: int, failed: int, p99: float, seconds: float, verdict: Verdict
) -> None:
    found = judge(POLICY, BUDGETS, TrafficSnapshot(requests, failed, p99), seconds)

    assert found.verdict is verdict
    assert found.reason


@pytest.mark.parametrize(
    ("hits", "trials", "expected"),
    [
        (0, 0, 0.0), (0, 1, 0.0), (1, 1, 0.269865948784), (1, 3, 0.078265726334),
        (3, 3, 0.525804425842), (3, 100, 0.012051814249), (10, 100, 0.060718667015),
        (50, 100, 0.418847796113), (100, 100, 0.973657279217), (21, 1000, 0.014733117815),
        (1999, 2000, 0.997761960751),
    ],
)  # fmt: skip
def test_the_lower_bound_is_wilsons(hits: int, trials: int, expected: float) -> None:
    """From scipy.stats.binomtest(hits, trials).proportion_ci(0.90, method="wilson").low."""
    assert wilson_lower(hits, trials) == pytest.approx(expected, abs=1e-12)


@given(
    requests=st.integers(0, 500), failed=st.integers(0, 500), seconds=st.floats(0, 100),
)  # fmt: skip
@settings(max_examples=100)
def test_every_probation_ends_and_more_failures_never_help(
    requests: int, failed: int, seconds: float
) -> None:
    traffic = TrafficSnapshot(requests, min(failed, requests), 0.001)
    found = judge(POLICY, BUDGETS, traffic, seconds).verdict
    if seconds >= POLICY.maximum_seconds:
        assert found is not Verdict.UNDECIDED
    if found is Verdict.FAILED and traffic.failed < requests:
        worse = dataclasses.replace(traffic, failed=traffic.failed + 1)
        assert judge(POLICY, BUDGETS, worse, seconds).verdict is Verdict.FAILED


def test_no_shadow_is_asked_for() -> None:
    assert shadow_gate(install(State.SHADOW)) == "no shadow asked for digits/2"


# --- Reports --------------------------------------------------------------------------------------


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
