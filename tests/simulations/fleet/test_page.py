import re
from itertools import pairwise
from xml.etree import ElementTree as ET

import pytest

from controller.rollout.policy import GATES, Metric
from simulations.fleet.page import page
from simulations.fleet.plot import Series, counted, sized, stacked, stepped
from simulations.fleet.scenario_parser import parse
from simulations.fleet.simulation import Simulation

SCENARIO = """\
# What <happens> & why
fleet 20 devices
version digits/1
version digits/2
  fails-self-test on 50% of devices
running digits/1
at 0m offline 3 of devices for 1h
at 0m rollout start digits/2 to all
until 6h
expect rollout digits-2-1 paused
expect exactly 20 devices run digits/2
"""


@pytest.fixture(scope="module")
def html() -> str:
    simulation = Simulation(parse("test", SCENARIO), 1)
    cost = simulation.run()
    return page(simulation, cost, simulation.findings())


def test_a_page_needs_nothing_but_itself(html: str) -> None:
    addresses = set(re.findall(r"https?://[^\"'< ]+", html))

    assert addresses == {"http://www.w3.org/2000/svg"}
    assert "<link" not in html
    assert "src=" not in html


def test_every_plot_is_well_formed(html: str) -> None:
    plots = re.findall(r"<svg.*?</svg>", html, re.DOTALL)

    assert len(plots) >= 6
    for one in plots:
        ET.fromstring(one)  # noqa: S314 - our own
    assert "nan" not in "".join(plots)


def test_a_page_tells_what_was_expected_and_what_happened(html: str) -> None:
    assert "What &lt;happens&gt; &amp; why" in html
    assert html.count('<li class="yes">') == 1
    assert html.count('<li class="no">') == 1
    assert "canary:" in html
    assert "above 2 % with 95 % confidence" in html
    assert "self-test-mismatch" in html


POISON = """\
# A poison
fleet 60 devices
version digits/1
version digits/2
  errors 20% after 40m
running digits/1
at 0m rollout start digits/2 to all
until 1d
expect rollout digits-2-1 paused
"""


ROLLBACK = """\
policy default
  stages = [
    {name = "half", percent = 50},
    {name = "all", percent = 100, on_breach = "rollback-all"},
  ]
  proof.failing_below = 1.0
running digits/1
"""


def test_gates_have_lanes_that_open_and_close_with_what_they_compared() -> None:
    simulation = Simulation(parse("test", POISON), 1)
    cost = simulation.run()
    told = page(simulation, cost, simulation.findings())
    lanes = simulation.transcript.gates.lanes(86_400.0)

    errors = lanes["digits-2-1  error-rate"]
    assert [one.state for one in errors] == ["not judged yet", "passed", "breached"]
    assert all(one.end == later.start for one, later in pairwise(errors))
    assert all(one.reason.startswith("error-rate: ") for one in errors[1:])
    assert [gate.partition("  ")[2] for gate in lanes] == [one.metric for one in GATES]
    rows = re.findall(r"<tr>(?:(?!</tr>).)*digits-2-1  error-rate(?:(?!</tr>).)*</tr>", told)
    assert len(rows) == 2
    assert re.search(r"breached</b> [0-9.]+ % on [0-9]+ devices, .* of the control group", rows[1])


def test_a_breach_stands_when_its_rollout_has_gone_back() -> None:
    back = POISON.replace("running digits/1", ROLLBACK).replace("paused", "rolled-back")
    simulation = Simulation(parse("test", back), 1)
    simulation.run()
    lanes = simulation.transcript.gates.lanes(86_400.0)

    assert simulation.findings()[0].holds
    assert {lane.partition("  ")[2]: spans[-1].state for lane, spans in lanes.items()} == {
        one.metric: "breached" if one.metric is Metric.ERROR_RATE else "over" for one in GATES
    }
    # Half of the devices were fine; of all, a gate could not tell at first, and was asked again.
    assert [one.state for one in lanes["digits-2-1  error-rate"]] == [
        *("not judged yet", "passed", "undecided", "breached")
    ]
    drift = lanes["digits-2-1  drift"]
    assert [one.state for one in drift] == ["not judged yet", "passed", "passed", "over"]
    assert ("on 30 devices" in drift[1].reason, "on 54 devices" in drift[2].reason) == (True, True)


def test_gates_of_a_rollout_that_has_ended_are_over_and_a_stage_tells_one_line() -> None:
    good = POISON.replace("  errors 20% after 40m\n", "").replace("paused", "succeeded")
    simulation = Simulation(parse("test", good), 1)
    cost = simulation.run()
    told = page(simulation, cost, simulation.findings())
    lanes = simulation.transcript.gates.lanes(86_400.0)

    assert simulation.findings()[0].holds
    assert {spans[-1].state for spans in lanes.values()} == {"over"}
    assert {one.state for spans in lanes.values() for one in spans[1:-1]} == {"passed"}
    passed = re.search(r"digits-2-1  canary</td><td><b[^>]*>passed</b> ([^<]*)<", told)
    assert passed is not None
    assert "error-rate" not in passed[1]


def test_areas_stand_upon_each_other() -> None:
    drawn = stacked([0.0, 50.0], [Series("a", "red", [2, 0]), Series("b", "blue", [2, 4])], 100.0)

    paths = re.findall(r'd="M([^"]+)"', drawn)
    assert len(paths) == 2
    # The upper area ends where all of them end, and begins at the paper's top.
    tops = [
        min(float(corner.split(",")[1]) for corner in re.split("[LZ]", path) if corner)
        for path in paths
    ]
    assert tops[1] < tops[0]


def test_a_plot_of_nothing_is_a_plot() -> None:
    ET.fromstring(stepped([0.0], [Series("a", "red", [0])], 0.0))  # noqa: S314 - our own


def test_numbers_are_short() -> None:
    assert (counted(12), counted(30_000), sized(999), sized(3_200_000)) == (
        "12",
        "30k",
        "999 B",
        "3.2 MB",
    )
