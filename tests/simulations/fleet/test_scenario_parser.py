from pathlib import Path

import pytest

from simulations.fleet.scenario import Ask, Behaviour, Effect, Fault, Kind, Share, Verb, Who
from simulations.fleet.scenario_file import names, read
from simulations.fleet.scenario_parser import BadScenario, parse

WHOLE = """\
# Two sites and a version that is bad on one
fleet 40 devices
site berlin 75% utc+1
site oslo 25%
hardware pi4
traffic 30 per minute
link delay 200ms loss 2% duplication 1% speed 500kB
version digits/1
version digits/2 4MB
  errors 3% on 10% of site=oslo after 6h
  crashes on 2 of devices
running digits/1
policy at-once
  pace.per_site = 3
at 0m rollout start digits/2 to site=berlin and hw!=pi3   # the first one
at 1h30m partition site=berlin for 3h
at 2h crash controller after-record
until 1d
expect rollout digits-2-1 succeeded
expect at-most 3 devices failed digits/2
"""


def test_everything_that_a_scenario_may_say_is_read() -> None:
    scenario = parse("whole", WHOLE)

    assert (scenario.title, scenario.devices, scenario.until) == (
        "Two sites and a version that is bad on one",
        40,
        86_400,
    )
    assert scenario.sites == (Share("berlin", 0.75, 3600), Share("oslo", 0.25))
    assert scenario.requests_per_second == 0.5
    assert (scenario.quality.delay, scenario.quality.loss, scenario.quality.speed) == (
        0.2,
        0.02,
        500_000,
    )
    assert scenario.versions[1].length == 4_000_000
    assert scenario.versions[1].behaviours == (
        Behaviour(Effect.ERRORS, 0.03, Who("site=oslo", part=10.0), 21_600),
        Behaviour(Effect.CRASHES, 0.0, Who("all", count=2)),
    )
    assert (scenario.policy.pace.per_site, len(scenario.policy.stages)) == (3, 1)
    assert [(one.at, one.does) for one in scenario.commands] == [
        (0, Ask(Verb.START, "digits/2", Who("site=berlin and hw!=pi3"))),
        (5400, Fault(Kind.PARTITION, Who("site=berlin"), seconds=10_800)),
        (7200, Fault(Kind.CRASH, how="after-record")),
    ]
    assert [(one.subject, one.what, one.most) for one in scenario.expectations] == [
        ("digits-2-1", "succeeded", 1_000_000_000),
        ("digits/2", "failed", 3),
    ]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("fleet many devices", "Write it as: fleet N devices"),
        ("flet 3 devices", "'flet' begins no line. Lines begin with fleet, site"),
        ("site berlin 120%", "Write a share from 0% to 100%"),
        ("at 2x rollout start digits/2 to all", "'2x' is no time. Write a time like 30s"),
        ("at 2h", "Write at TIME and what happens"),
        ("at 2h explode", "'explode' is no command. Commands begin with rollout"),
        ("at 2h partition", "Write it as: partition WHO"),
        ("at 2h partition site=", "names no devices"),
        ("at 2h rollout start digits/2 to 5% of devices", "The policy's stages say how many"),
        ("at 2h rollout start digits/7 to all", "Add a line: version digits/7"),
        ("at 2h label all=1 on devices", "the key is a word of the selector language"),
        ("at 9d partition all", "this is after the end"),
        ("version digits/2", "digits/2 is there already"),
        ("policy none", "there is no policy 'none'"),
        ("policy file fleet.toml", "fleet.toml: there is no such file here"),
        ("policy default\n  pace.per_site = -1", "pace.per_site: Input should be greater"),
        ("policy default\n  pace.per_sit = 1", "pace.per_sit: Extra inputs are not permitted"),
        ("policy default\n  pace = ", "policy: Invalid value"),
        ("expect peace", "'peace' is nothing to expect"),
        ("until 3d\n  errors 3%", "belongs to a version or a policy above it"),
        ("version digits/8\n  errors 3x", "Write errors 5%"),
        ("version digits/8\n  explodes", "effects are fails-self-test"),
        ("running digits/9", "there is no version digits/9"),
    ],
)
def test_a_line_that_cannot_be_read_is_named_with_its_remedy(line: str, said: str) -> None:
    with pytest.raises(BadScenario) as refused:
        parse("x.txt", f"until 2d\nversion digits/2\n{line}\n")

    assert refused.value.detail.startswith("x.txt:")
    assert said in refused.value.detail


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(BadScenario) as refused:
        parse("x.txt", "fleet no devices\nat 2x nothing\nexpect peace\n")

    assert [line.split(" ")[0] for line in refused.value.detail.splitlines()] == [
        "x.txt:1:",
        "x.txt:2:",
        "x.txt:3:",
    ]


def test_a_scenario_that_never_ends_is_refused() -> None:
    with pytest.raises(BadScenario, match="it never ends"):
        parse("x", "fleet 3 devices\n")


@pytest.mark.parametrize("name", names())
def test_the_scenarios_that_come_with_muster_can_be_read(name: str) -> None:
    assert read(name).commands


def test_a_scenario_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "own.txt"
    path.write_text(WHOLE)

    assert read(str(path)).devices == 40


FLEET = """\
[fleet]
name = "meters"
selector = "all"

[[models]]
name = "load"
version = "load/2"

[[models]]
name = "digits"
version = "digits/2"

[models.pace]
per_site = 7
"""


@pytest.mark.parametrize(
    ("line", "per_site"),
    [
        ("policy file fleet.toml", 0),
        ("policy file fleet.toml for digits", 7),
        ("policy file fleet.toml for digits\n  pace.per_site = 9", 9),
    ],
)
def test_the_policy_of_a_fleets_file_can_be_tried(tmp_path: Path, line: str, per_site: int) -> None:
    (tmp_path / "fleet.toml").write_text(FLEET)
    (tmp_path / "own.txt").write_text(f"until 2d\n{line}\n")

    assert read(str(tmp_path / "own.txt")).policy.pace.per_site == per_site


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("policy file none.toml", "No such file"),
        ("policy file bad.toml", "bad.toml"),
        ("policy file fleet.toml for sums", "fleet.toml has no model sums. It has load, digits"),
    ],
)
def test_a_fleets_file_that_cannot_be_tried_is_told(tmp_path: Path, line: str, said: str) -> None:
    (tmp_path / "fleet.toml").write_text(FLEET)
    (tmp_path / "bad.toml").write_text("[fleet]\n")
    (tmp_path / "own.txt").write_text(f"until 2d\n{line}\n")

    with pytest.raises(BadScenario) as refused:
        read(str(tmp_path / "own.txt"))

    assert said in refused.value.detail
