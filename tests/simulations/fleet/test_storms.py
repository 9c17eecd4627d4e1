"""Storms: any faults at any times, and people who do anything. What must hold, holds all the same."""

from hypothesis import given, settings
from hypothesis import strategies as st

from simulations.fleet.scenario_parser import parse
from simulations.fleet.simulation import Simulation

HEAD = """\
fleet 12 devices
site berlin 50%
site oslo 50%
link loss 5% duplication 5%
version digits/1
version digits/2
version digits/3
  fails-self-test on 20% of devices
running digits/1
policy default
  stages = [
    {name = "canary", percent = 30, soak_seconds = 300, on_breach = "rollback-stage"},
    {name = "all", percent = 100, soak_seconds = 300, on_breach = "rollback-all"},
  ]
at 0m rollout start digits/2 to all
until 6d
"""

PLACES = st.sampled_from(["all", "site=oslo", "25% of devices", "2 of site=berlin"])
STATES = st.sampled_from(
    ["verifying", "fetching", "self-test", "waiting", "switching", "probation"]
)
MOMENTS = st.sampled_from(["", "before-record ", "after-record ", "after-signing ", "half-sent "])
TIMES = st.integers(1, 300).map("{}m".format)
IDS = st.sampled_from(["digits-2-1", "digits-3-1", "digits-2-2"])
WHATS = st.one_of(
    st.builds("partition {} for {}".format, PLACES, TIMES),
    st.builds("offline {} for {}".format, PLACES, TIMES),
    st.builds("disk-full {} for {}".format, PLACES, TIMES),
    st.builds("slow {} by 5x for {}".format, PLACES, TIMES),
    st.builds("clock-skew {} by {} for {}".format, PLACES, TIMES, TIMES),
    st.builds("power-cut {} at {}".format, PLACES, STATES),
    st.builds("power-cut {}".format, PLACES),
    st.builds("replays {}".format, PLACES),
    st.builds("crash controller {}for {}".format, MOMENTS, TIMES),
    st.builds("clock-jump controller by {}".format, TIMES),
    st.builds("clock-jump controller by -{}".format, TIMES),
    st.builds("rollout pause {}".format, IDS),
    st.builds("rollout resume {}".format, IDS),
    st.builds("rollout retry {}".format, IDS),
    st.builds("rollout abort {} revert".format, IDS),
    st.builds("rollout abort {} keep".format, IDS),
    st.sampled_from(["rollout start digits/3 to site=oslo", "rollout start digits/2 to all"]),
    st.builds("label zone=z on {}".format, PLACES),
)
EVENTS = st.lists(st.tuples(TIMES, WHATS), max_size=8)


@given(EVENTS, st.integers(0, 1000))
@settings(max_examples=25)
def test_whatever_happens_devices_come_to_run_what_is_wanted_of_them(
    events: list[tuple[str, str]], seed: int
) -> None:
    storm = "".join(f"at {when} {what}\n" for when, what in events)
    simulation = Simulation(parse("storm", HEAD + storm), seed)

    simulation.run()  # a plan that breaks a rule raises

    with simulation.centre.store.read() as tx:
        wanted = {row.device: row for row in tx.rollouts.wanted()}
        told = {slot.device: slot.version for slot in tx.devices.slots() if slot.running}
        generations = {one: tx.rollouts.directive(one) for one in simulation.centre.devices}
    for device in simulation.devices:
        newest = generations[device.id]
        assert newest is not None
        assert device.directive is not None
        assert device.directive.generation == newest.generation
        (slot,) = device.slots.values()
        assert slot.active is not None
        assert slot.active == slot.committed
        assert told[device.id] == slot.active.version
        failed = any(one.state == "failed" for one in device.installs)
        assert failed or slot.active.version == wanted[device.id].version
