"""One device, one rollout: facts to begin from."""

import msgspec

from controller.fleet.device import SlotState
from controller.registry import version as registry
from controller.rollout.facts import Facts, Known, Release
from controller.rollout.ledger import Ledger
from controller.rollout.policy import AT_ONCE, Policy
from controller.rollout.rollout import (
    Member,
    Rollout,
    StageRecord,
    StageState,
    State,
    Wanted,
)
from protos.manifest import Needs
from tests.controller.rollout.world import LOADED, START, device


def known(facts: Facts) -> Known:
    return Ledger.of(facts).known


NOW = START + 3600
SITES = ("berlin", "munich", "paris")
SELECTORS = ("all", "site=berlin", "site!=berlin", "site in (munich, paris)", "has gpu", "id=d1")
STATES = ("verifying", "fetching", "probation", "committed", "failed", "idle")


def release(
    version: int, state: registry.State = registry.State.PUBLISHED, memory: int = 0
) -> Release:
    digest = f"{version:064x}"
    needs = Needs(memory_bytes=memory)
    return Release("digits", version, state, digest, 100, needs, model_sha256=LOADED)


def rollout(
    version: int,
    selector: str = "all",
    at: int = 0,
    state: State = State.RUNNING,
    policy: Policy = AT_ONCE,
) -> Rollout:
    return Rollout(f"r{at}", "digits", version, selector, state, START + at, "ada", policy=policy)


def slot(name: str, version: int, state: str, *, running: bool, **fields: object) -> SlotState:
    digest, loaded = f"{version:064x}", LOADED if running else ""
    made = SlotState(
        name, "digits", "champion", version, running, state, digest, loaded, 1, 1, 1, START
    )
    return msgspec.structs.replace(made, **fields)


MEMBER = Member("r0", "d1", 0, START)
ALONE = Facts(
    rollouts=(rollout(2),),
    members=(MEMBER,),
    stages=(StageRecord("r0", 0, StageState.OPEN, 1, START),),
    devices=(device("d1", {"site": "berlin"}, {}),),
    wanted=(Wanted("d1", "digits", "champion", 2, "r0", START),),
    releases={("digits", 1): release(1), ("digits", 2): release(2)},
    asked={("d1", "digits", "champion"): 3},
)
