"""Any history of directives, faults, recalls and power cuts keeps what must always hold."""

import asyncio
from collections.abc import Sequence

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from agent.errors import SelfTestMismatch, TooFewApprovals, TransportError
from agent.install.machine import FINAL, State
from agent.install.outcome import QUARANTINING
from agent.install.reconcile import Device as View
from agent.install.reconcile import reconcile
from protos.documents import Directive
from protos.envelope import peek
from simulations.power import Power, PowerCut
from tests.agent.install.world import Bundle, Device, Outside, bundle, recalling

GOOD = [bundle(version=number) for number in (1, 2, 3)]
FAILS_TEST, FAILS_SERVICE, REFUSED = (bundle(version=number) for number in (4, 5, 6))
OTHER = [bundle(model="other", version=number) for number in (1, 2)]
ALL = [*GOOD, FAILS_TEST, FAILS_SERVICE, REFUSED, *OTHER]


def assignments(chosen: Sequence[Bundle]) -> dict[tuple[str, str], Bundle]:
    return {(one.manifest.model, "champion"): one for one in chosen}


class Histories(RuleBasedStateMachine):
    @initialize()
    def start(self) -> None:
        self.outside = Outside()
        self.outside.add(*ALL)
        self.outside.failing[FAILS_TEST.sha256] = SelfTestMismatch("off")
        self.outside.bad_in_service.add(FAILS_SERVICE.sha256)
        self.outside.refusals[REFUSED.sha256] = TooFewApprovals("1 of 2")
        self.device = Device(self.outside)
        self.generation = 0
        self.recalled: set[str] = set()

    def run_agent(self, power: Power | None = None) -> None:
        """The agent runs until nothing is left to do, or power goes."""
        self.device = self.device.restarted(power)
        may_run = recalling(*self.recalled)

        async def live() -> None:
            try:
                await self.device.enforce(may_run)
            except PowerCut:
                return
            await self.device.settle()

        asyncio.run(live())

    def direct(self, chosen: Sequence[Bundle]) -> None:
        self.generation += 1
        wanted = [one.assignment() for one in assignments(chosen).values()]
        self.device.direct(self.generation, *wanted)

    @rule(chosen=st.lists(st.sampled_from(ALL), max_size=3))
    def settle(self, chosen: list[Bundle]) -> None:
        self.direct(chosen)
        self.run_agent()
        self.check_settled()

    @rule(chosen=st.lists(st.sampled_from(ALL), min_size=1, max_size=3), cut_at=st.integers(0, 70))
    def lose_power(self, chosen: list[Bundle], cut_at: int) -> None:
        self.direct(chosen)
        self.run_agent(Power(cut_at))

    @rule(chosen=st.lists(st.sampled_from(ALL), min_size=2, max_size=4), turns=st.integers(0, 60))
    def change_ones_mind(self, chosen: list[Bundle], turns: int) -> None:
        """One directive after another, while the agent runs."""
        self.device = self.device.restarted()

        async def live() -> None:
            await self.device.enforce(recalling(*self.recalled))
            async with self.device.running():
                for one in chosen:
                    self.direct([one])
                    for _ in range(turns):
                        await asyncio.sleep(0)
                await self.device.until(lambda: self.device.loop.is_settled)

        asyncio.run(live())
        self.check_settled()

    @rule(count=st.integers(1, 4), step=st.sampled_from(["verify", "fetch", "prepare"]))
    def lose_the_link(self, count: int, step: str) -> None:
        self.outside.errors[step] = [TransportError("gone") for _ in range(count)]

    @rule(one=st.sampled_from([*GOOD, *OTHER]))
    def recall(self, one: Bundle) -> None:
        self.recalled.add(one.sha256)
        self.outside.refusals[one.sha256] = TooFewApprovals("recalled, by trust")
        self.run_agent()
        for slot in self.device.inner.installs.slots():
            for found in (slot.active, slot.committed):
                assert found is None or found.manifest_sha256 not in self.recalled

    @precondition(lambda self: self.device.inner.installs.quarantined(FAILS_TEST.sha256))
    @rule()
    def mend_and_lift(self) -> None:
        self.outside.failing.clear()
        self.device.inner.installs.lift_quarantine(FAILS_TEST.sha256)

    def check_settled(self) -> None:
        """What holds when nothing is left to do."""
        installs = self.device.inner.installs
        assert all(one.state in FINAL for one in installs.installs())
        envelope = installs.directive()
        view = View(tuple(installs.slots()), tuple(installs.installs()), installs.quarantined)
        assert reconcile(peek(envelope, Directive), view, 0.0) == []
        answering = {
            key: standing.active
            for key, standing in self.device.deployments.slots.items()
            if standing.active is not None
        }
        assert answering == {slot.key: slot.active for slot in installs.slots()}
        for slot in installs.slots():
            assert slot.active == slot.committed or slot.committed is None
        kept = {sha for one in ALL if self.points_at(one) for sha in one.files}
        assert set(self.device.blobs.complete) == kept

    def points_at(self, one: Bundle) -> bool:
        slots = self.device.inner.installs.slots()
        return any(
            deployed is not None and deployed.manifest_sha256 == one.sha256
            for slot in slots
            for deployed in (slot.active, slot.committed)
        )

    @invariant()
    def what_always_holds(self) -> None:
        installs = self.device.inner.installs
        assert self.device.lost() == []
        assert installs.generation() == self.generation
        for slot in installs.slots():
            committed = slot.committed
            assert committed is None or committed.manifest_sha256 not in {
                *self.outside.failing, FAILS_SERVICE.sha256, REFUSED.sha256,
            }  # fmt: skip
        for one in installs.installs():
            failed = one.state in {State.FAILED, State.REVERTING} and one.code in QUARANTINING
            lifted = one.sha256 == FAILS_TEST.sha256 and not self.outside.failing
            assert not failed or lifted or installs.quarantined(one.sha256) is not None

    @invariant()
    def a_good_version_is_never_in_quarantine_for_a_fault_of_its_own(self) -> None:
        for one in (*GOOD, *OTHER):
            kept = self.device.inner.installs.quarantined(one.sha256)
            assert kept is None or kept.code == "crash-loop"


Histories.TestCase.settings = settings(max_examples=20, stateful_step_count=10, deadline=None)
TestHistories = Histories.TestCase
