"""`muster rollout pause|resume|approve|retry|explain`, and what `start` asks for."""

import time
from collections.abc import Sequence

import pytest

from controller.access.operator import Role
from controller.monitor.total import Sums, Total
from tests.controller.cli.office import Muster, Office


@pytest.fixture(scope="module", autouse=True)
def devices(office: Office) -> None:
    office.listed(1, 2)
    office.enrolled("cam-1", "cam-2", site="berlin")


def started(muster: Muster, *words: str) -> str:
    made = muster.ok("rollout", "start", "digits/1", "--to", "site=berlin", *words, "-o", "json")
    return str(made.json["id"])


def stages(muster: Muster, rollout: str) -> list[tuple[str, str]]:
    shown = muster.ok("rollout", "show", rollout, "-o", "json").json
    return [(one["name"], one["state"]) for one in shown["stages"]]


def test_a_rollout_is_paused_and_goes_on(muster: Muster) -> None:
    rollout = started(muster, "--at-once")

    paused = muster.ok("rollout", "pause", rollout, "--reason", "until Monday")
    assert paused.out == f"{rollout} is paused; `muster rollout resume {rollout}` goes on\n"
    assert "  paused: until Monday" in muster.ok("rollout", "explain", rollout).lines
    assert muster.ok("rollout", "resume", rollout).out == f"{rollout} goes on\n"
    assert f"{rollout!r} is running: resume is not possible" in muster.refused(
        "rollout", "resume", rollout
    )


def test_nothing_is_approved_where_nothing_waits(muster: Muster) -> None:
    rollout = started(muster, "--at-once")

    refused = muster.refused("rollout", "approve", rollout)

    assert f"rollout {rollout!r}: no stage of it waits for approval [conflict]" in refused


def test_a_device_that_failed_is_asked_again(muster: Muster, office: Office) -> None:
    rollout = started(muster, "--at-once")
    office.turn()
    office.reported("cam-1", 1, "failed", "self-test-failed")
    office.reported("cam-2", 1)
    office.turn()
    why = muster.ok("rollout", "explain", rollout).lines
    assert "all: breached, 2 released (1 ok, 1 failed, 0 unreachable)" in why
    assert any("1 of 2 failed: above 2 % with 95 % confidence" in line for line in why)
    assert "cam-2 neither failed" in muster.refused(
        "rollout", "retry", rollout, "--device", "cam-2"
    )

    asked = muster.ok("rollout", "retry", rollout)

    assert asked.out == f"{rollout} asks 1 device again: cam-1\n"
    assert stages(muster, rollout) == [("all", "open")]
    assert "[conflict]" in muster.refused("rollout", "retry", rollout)


def test_stages_and_soak_are_as_asked_for(muster: Muster, office: Office) -> None:
    rollout = started(muster, "--stages", "5,25%,100", "--soak", "2h")
    office.turn()

    assert [name for name, _ in stages(muster, rollout)] == ["5-percent", "25-percent", "all"]


def told(office: Office, names: Sequence[str]) -> None:
    """They have answered, some with one version and some with the other."""
    later = int(1000 * time.time()) + 60_000
    with office.store.begin() as tx:
        for name in names:
            for version in (1, 2):
                sums = Sums(requests=1_000, failed=10, answers=990)
                tx.totals.add(Total(name, "digits", version, later, sums))


def test_what_the_gates_of_a_stage_have_compared_is_explained(
    muster: Muster, office: Office
) -> None:
    far = [f"far-{number}" for number in range(12)]
    office.enrolled(*far, site="rome")
    wish = ("rollout", "start", "digits/1", "--to", "site=rome", "--stages", "50,100")
    rollout = str(muster.ok(*wish, "--soak", "0s", "-o", "json").json["id"])
    for name in far:
        office.reported(name, 1)
    office.turn()
    told(office, far)
    for _ in range(5):
        office.turn()

    why = muster.ok("rollout", "explain", rollout).lines

    passed = why.index("50-percent: passed, 10 released (10 ok, 0 failed, 0 unreachable)")
    assert why[passed + 1].startswith("  10 of 10 run it; 0 of 10 failed, yet it could be 37 %")
    assert why[passed + 2].startswith(
        "  error-rate: 1 % on 10 devices, 1 % on 2 of the control group"
    )
    assert why[passed + 3] == "  latency-p99: no device reports it (not decided)"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--at-once", "--soak", "1h"), "--at-once has no --stages and no --soak"),
        (("--stages", "5,25"), "the last one is 100"),
        (("--stages", "25,5,100"), "percentages grow"),
        (("--stages", "0,100"), "percentages grow"),
        (("--stages", "nan,100"), "percentages grow"),
        (("--stages", "5,,100"), "is no list such as 5,25,100"),
        (("--stages", "5,5.0000001,100"), "two stages bear the name"),
        (("--soak", "soon"), "is no time such as 90s"),
        (("--soak", "-5"), "is no time such as 90s"),
        (("--soak", "999999d"), "soak_seconds: Input should be less than"),
    ],
)
def test_stages_that_can_not_be_are_refused(
    muster: Muster, words: tuple[str, ...], said: str
) -> None:
    done = muster("rollout", "start", "digits/1", "--to", "all", *words)

    assert done.status == 2
    assert said in " ".join(done.err.replace("│", " ").split())


@pytest.mark.parametrize("verb", ["pause", "resume", "approve", "retry"])
def test_whoever_may_only_look_steers_nothing(muster: Muster, office: Office, verb: str) -> None:
    rollout = started(muster, "--at-once")
    viewer = office.profile("viewer", Role.VIEWER)

    assert "[not-allowed]" in muster.refused("rollout", verb, rollout, profile=viewer)
