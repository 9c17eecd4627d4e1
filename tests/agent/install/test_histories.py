"""Any history of directives, faults, recalls and power cuts keeps what must always hold.

Directives bear windows that open and close, and ask for power and a link that the device has not always.
"""

import asyncio
from collections.abc import Sequence
from zoneinfo import ZoneInfo

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from agent.errors import SelfTestMismatch, TooFewApprovals, TransportError
from agent.install.change import Change
from agent.install.gates import Battery, switch_gate
from agent.install.machine import FINAL, State
from agent.install.outcome import QUARANTINING
from agent.install.reconcile import Device as View
from agent.install.reconcile import reconcile
from protos.documents import HELD, UNCONDITIONAL, Conditions, Directive, Window
from protos.envelope import peek
from simulations.power import Power, PowerCut
from tests.agent.install.outside import Bundle, Outside, bundle
from tests.agent.install.world import Device, recalling

GOOD = [bundle(version=number) for number in (1, 2, 3)]
FAILS_TEST, FAILS_SERVICE, REFUSED = (bundle(version=number) for number in (4, 5, 6))
OTHER = [bundle(model="other", version=number) for number in (1, 2)]
ALL = [*GOOD, FAILS_TEST, FAILS_SERVICE, REFUSED, *OTHER]
AT_NIGHT = Conditions(windows=(Window(start_minute=3 * 60, minutes=30),))
AT_NOON = Conditions(
    windows=(Window(start_minute=12 * 60, minutes=5, days=(0, 2, 4, 6)),), battery_percent=50
)
CHARGED, UNMETERED = Conditions(battery_percent=50), Conditions(unmetered=True)
ASKED = st.sampled_from([UNCONDITIONAL, UNCONDITIONAL, AT_NIGHT, AT_NOON, CHARGED, UNMETERED])


def assignments(chosen: Sequence[Bundle]) -> dict[tuple[str, str], Bundle]:
    return {(one.manifest.model, "champion"): one for one in chosen}


class Histories(RuleBasedStateMachine):
    @initialize()
    def start(self) -> None:
        self.outside = Outside(zone=ZoneInfo("Europe/Berlin"))
        self.outside.add(*ALL)
        self.outside.failing[FAILS_TEST.sha256] = SelfTestMismatch("off")
        self.outside.bad_in_service.add(FAILS_SERVICE.sha256)
        self.outside.refusals[REFUSED.sha256] = TooFewApprovals("1 of 2")
        self.device = Device(self.outside)
        self.generation = 0
        self.attempt = 1
        self.recalled: set[str] = set()
        self.untimely: list[str] = []

    def restart(self, power: Power | None = None) -> None:
        """The agent is started again, and watched for switches that nobody allowed."""
        device = self.device = self.device.restarted(power)

        def watch(change: Change) -> None:
            if change.name == "install.probation":
                install = device.loop._bench.ledger.installs[change.model, change.slot]
                reason = switch_gate(install, self.outside.circumstances(device.clock.now()))
                self.untimely += [] if reason is None else [reason.detail]

        device.on_change = watch

    def run_agent(self, power: Power | None = None) -> None:
        """The agent runs until nothing is left to do, or power goes."""
        self.restart(power)
        may_run = recalling(*self.recalled)

        async def live() -> None:
            try:
                await self.device.enforce(may_run)
            except PowerCut:
                return
            await self.device.settle()

        asyncio.run(live())

    @property
    def soak(self) -> int:
        """What the newest directive asks for: nothing, a minute or two."""
        return 60 * (self.generation % 3)

    def direct(self, chosen: Sequence[Bundle], asked: Conditions) -> None:
        self.generation += 1
        wanted = [
            one.assignment(conditions=asked, attempt=self.attempt, soak=self.soak)
            for one in assignments(chosen).values()
        ]
        self.device.direct(self.generation, *wanted)

    @rule(chosen=st.lists(st.sampled_from(ALL), max_size=3), asked=ASKED)
    def settle(self, chosen: list[Bundle], asked: Conditions) -> None:
        self.direct(chosen, asked)
        self.run_agent()
        self.check_settled()

    @rule(seconds=st.integers(0, 300))
    def answer_for_a_while(self, seconds: int) -> None:
        """What is settled and asked for has soaked, if it has answered for so long."""
        before = {slot.key: slot for slot in self.device.inner.installs.slots()}
        self.restart()

        async def live() -> float:
            await self.device.enforce(recalling(*self.recalled))
            async with self.device.running():
                await asyncio.sleep(0)
                await self.device.until(lambda: self.device.loop.is_settled)
                began = self.device.clock.seconds
                passing = asyncio.ensure_future(self.device.clock.sleep(seconds))
                await self.device.until(passing.done)
                await self.device.spin()
            return began

        began = asyncio.run(live())
        envelope = self.device.inner.installs.directive()
        asked = peek(envelope, Directive).assignments if envelope else ()
        shas = {(one.model, one.slot): one.sha256 for one in asked}
        for slot in self.device.inner.installs.slots():
            known = before.get(slot.key)
            reached = known.soaked if known and known.committed == slot.committed else 0
            is_asked = slot.committed and shas.get(slot.key) == slot.committed.manifest_sha256
            if is_asked and self.soak <= seconds:
                reached = max(reached, self.soak)
            assert reached <= slot.soaked <= max(reached, int(began + seconds))

    @rule(
        chosen=st.lists(st.sampled_from(ALL), min_size=1, max_size=3),
        asked=ASKED,
        cut_at=st.integers(0, 70),
    )
    def lose_power(self, chosen: list[Bundle], asked: Conditions, cut_at: int) -> None:
        self.direct(chosen, asked)
        self.run_agent(Power(cut_at))

    @rule(
        chosen=st.lists(st.sampled_from(ALL), min_size=1, max_size=3),
        asked=ASKED,
        hours=st.integers(0, 60),
        cut=st.booleans(),
    )
    def hold(self, chosen: list[Bundle], asked: Conditions, hours: int, *, cut: bool) -> None:
        """The battery is low and the link is metered, for hours; then power may go, or not."""
        self.outside.battery, self.outside.metered = Battery(10, on_mains=False), True
        self.direct(chosen, asked)
        self.restart()

        async def live() -> None:
            await self.device.enforce(recalling(*self.recalled))
            async with self.device.running():
                await asyncio.sleep(0)
                await self.device.until(
                    lambda: self.device.loop.is_settled or self.device.clock.seconds > hours * 3600
                )

        asyncio.run(live())
        for one in self.device.inner.installs.installs():
            held_at = {State.STAGED, State.FETCHING, State.WAITING}
            waits = one.code in HELD and one.state in held_at and one.not_before > 0
            assert one.state in FINAL or waits or hours < 3, "it ends, or waits for something"
        if cut:
            self.run_agent(Power(0))
        self.outside.battery, self.outside.metered = None, False

    @rule(
        chosen=st.lists(st.sampled_from(ALL), min_size=2, max_size=4),
        asked=ASKED,
        turns=st.integers(0, 60),
    )
    def change_ones_mind(self, chosen: list[Bundle], asked: Conditions, turns: int) -> None:
        """One directive after another, while the agent runs."""
        self.restart()
        self.direct(chosen[:1], asked)

        async def live() -> None:
            await self.device.enforce(recalling(*self.recalled))
            async with self.device.running():
                for one in chosen:
                    self.direct([one], asked)
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

    @precondition(lambda self: self.device.inner.installs.quarantined(FAILS_TEST.sha256))
    @rule()
    def mend_and_ask_again(self) -> None:
        self.outside.failing.clear()
        self.attempt += 1

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
        assert self.untimely == []
        assert installs.generation() == self.generation
        for slot in installs.slots():
            assert slot.soaked in ({0, 60, 120} if slot.committed else {0})
            committed = slot.committed
            assert committed is None or committed.manifest_sha256 not in {
                *self.outside.failing, FAILS_SERVICE.sha256, REFUSED.sha256,
            }  # fmt: skip
        for one in installs.installs():
            failed = one.state in {State.FAILED, State.REVERTING} and one.code in QUARANTINING
            lifted = one.sha256 == FAILS_TEST.sha256 and not self.outside.failing
            assert not failed or lifted or installs.quarantined(one.sha256) is not None
            assert one.tries == 0, "waiting burns no try"

    @invariant()
    def a_good_version_is_never_in_quarantine_for_a_fault_of_its_own(self) -> None:
        for one in (*GOOD, *OTHER):
            kept = self.device.inner.installs.quarantined(one.sha256)
            assert kept is None or kept.code == "crash-loop"


Histories.TestCase.settings = settings(max_examples=20, stateful_step_count=10, deadline=None)
TestHistories = Histories.TestCase
