"""A controller to which fleets' files are applied, in memory."""

import dataclasses
from collections.abc import Sequence

from controller.fleet.device import SlotState
from controller.fleet_config.actions import (
    Applied,
    FleetText,
    apply_fleet,
    plan_fleet,
)
from controller.fleet_config.plan import FleetPlan
from controller.rollout.rollout import State
from tests.controller.rollout.world import World, device

FLEET = """
[fleet]
name = "meters"
selector = "kind=meter"
[[models]]
name = "load"
version = "load/1"
"""


def world(*devices: str, zone: str = "", **labels: str) -> World:
    made = World()
    publish(made, "load/1", "load/2", "theft/1")
    enrol(made, *devices, memory=2**33, zone=zone, **labels)
    return made


def publish(made: World, *versions: str) -> None:
    for one in versions:
        made._publish(one)


def enrol(made: World, *names: str, memory: int = 2**33, zone: str = "", **labels: str) -> None:
    facts = {"memory_bytes": str(memory), **({"timezone": zone} if zone else {})}
    with made.store.begin() as tx:
        for name in names:
            known = device(name, {"kind": "meter", **labels}, facts)
            tx.devices.put(dataclasses.replace(known, last_seen=made.clock.at))
    made.post.there.update(names)


def apply(made: World, text: str, **how: bool) -> Applied:
    with made.store.begin() as tx:
        return apply_fleet(tx, FleetText(text, "meters.toml"), "ada", made.clock.at, **how)


def planned(made: World, text: str, **how: bool) -> FleetPlan:
    with made.store.read() as tx:
        return plan_fleet(tx, FleetText(text, "meters.toml"), made.clock.at, **how)


def reported(
    made: World, name: str, version: int, doing: str = "committed", soaked: int = 0
) -> None:
    with made.store.begin() as tx:
        known = tx.registry.version("load", version)
        assert known is not None
        slot = SlotState(
            device=name,
            model="load",
            slot="champion",
            version=version,
            running=doing == "committed",
            state=doing,
            manifest_sha256=known.manifest_sha256,
            model_sha256="0" * 64,
            approvals=1,
            generation=1,
            counter=1,
            reported_at=made.clock.at,
            code="outside-window" if doing == "waiting" else "",
            soaked=soaked,
        )
        tx.devices.touch(name, made.clock.at, connected=True)
        tx.devices.replace_slots(name, [slot])


def names(count: int) -> Sequence[str]:
    return [f"m{number:03}" for number in range(count)]


def state(made: World, rollout: str) -> State:
    with made.store.read() as tx:
        found = tx.rollouts.get(rollout)
    assert found is not None
    return found.state
