from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from controller.rollout.actions import gather
from controller.rollout.facts import slots_by_place
from controller.rollout.plan import plan
from controller.rollout.policy import (
    AT_ONCE,
    Breach,
    Budget,
    Pace,
    Policy,
    Proof,
    Stage,
)
from controller.rollout.reversal import is_back
from controller.rollout.rollout import (
    CONTROL,
    OPEN,
    Member,
    Rollout,
    State,
)
from tests.controller.rollout.any_facts import shape
from tests.controller.rollout.fleet_machine import DEVICES, VERSIONS, Fleet

SITES = ("berlin", "munich")
LAST = Stage(name="all", percent=100, soak_seconds=30, deadline_seconds=600)
names = st.sampled_from(DEVICES)
sites = st.sampled_from(SITES)
breaches = st.sampled_from(list(Breach))
verbs = st.sampled_from(
    [*["resume"] * 4, *["approve"] * 3, *["retry"] * 2, "pause", "keep", "revert"]
)
rarely = st.integers(0, 5).map(lambda lot: lot == 0)


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    first = draw(
        st.sampled_from(
            [
                [],
                [Stage(name="one", count=1, soak_seconds=30, deadline_seconds=600)],
                [Stage(name="half", percent=50, soak_seconds=0, approval=True)],
                [Stage(name="berlin", selector="site=berlin", soak_seconds=30)],
            ]
        )
    )
    on_breach = draw(breaches)
    return Policy(
        stages=tuple(one.model_copy(update={"on_breach": on_breach}) for one in (*first, LAST)),
        control_percent=draw(st.sampled_from([0, 30])),
        stratify_by=draw(st.sampled_from([(), ("site",)])),
        pace=draw(st.sampled_from([Pace(), Pace(per_minute=2), Pace(per_site=1)])),
        budget=draw(st.sampled_from([Budget(), Budget(failed=0.4, unreachable=0.4)])),
        proof=draw(st.sampled_from([Proof(), Proof(minimum_devices=3, failing_below=0.6)])),
        silence_seconds=900,
    )


class Rollouts(RuleBasedStateMachine):
    """After every turn each promise of the planner holds, whatever happened before it."""

    def __init__(self) -> None:
        super().__init__()
        self.fleet = Fleet()
        self.generations: dict[str, int] = {}
        self.released: dict[tuple[str, str], float] = {}
        self.set_back = False

    @initialize(
        enrolled=st.lists(st.tuples(names, sites), min_size=3, max_size=8), policy=policies()
    )
    def begins(self, enrolled: list[tuple[str, str]], policy: Policy) -> None:
        for name, site in enrolled:
            self.fleet.enrol(name, site, "1000")
        self.fleet.start(1, "all", AT_ONCE)
        self.turns()
        for name, _ in enrolled:
            self.fleet.report(name, "committed")
        self.fleet.start(2, "all", policy)
        self.turns()

    @rule(
        now=rarely,
        version=st.sampled_from(VERSIONS),
        to=st.sampled_from(["all", "site=berlin"]),
        policy=policies(),
    )
    def starts(self, now: bool, version: int, to: str, policy: Policy) -> None:
        with self.fleet.store.read() as tx:
            running = sum(one.state in OPEN for one in tx.rollouts.all())
        if now and running < 3:
            self.fleet.start(version, to, policy)

    @rule(verb=verbs, older=rarely)
    def is_steered(self, verb: str, older: bool) -> None:
        with self.fleet.store.read() as tx:
            known = tx.rollouts.all()
        self.fleet.steer(verb, known[-1 if older else 0].id)

    @rule(but=st.sets(names, max_size=2))
    def prosper(self, but: set[str]) -> None:
        for name in sorted(set(DEVICES) - but):
            self.fleet.report(name, "committed")
        self.turns()
        self.fleet.now += 31
        self.turns()

    @rule(then=verbs)
    def sours(self, then: str) -> None:
        """Whoever has the newest rollout's version fails, late or not; people do something."""
        with self.fleet.store.read() as tx:
            newest = tx.rollouts.all()[0].id
        for name, row in self.fleet.wanted().items():
            if row.rollout == newest:
                self.fleet.report(name, "failed", "self-test")
        self.turns()
        self.fleet.steer(then, newest)
        self.turns()

    @rule(
        chosen=st.sets(names, min_size=1),
        state=st.sampled_from(["fetching", "committed", "committed", "committed", "failed"]),
    )
    def report(self, chosen: set[str], state: str) -> None:
        for name in sorted(chosen):
            self.fleet.report(name, state, "self-test" if state == "failed" else "")

    @rule(name=names, code=st.sampled_from(["outside-window", "", "odd"]))
    def reports_something_else(self, name: str, code: str) -> None:
        self.fleet.report(name, "committed" if code == "odd" else "staged", code, odd=code == "odd")

    @rule(name=names, up=st.booleans())
    def link(self, name: str, up: bool) -> None:
        self.fleet.link(name, up=up)

    @rule(name=names, site=sites)
    def moves(self, name: str, site: str) -> None:
        with self.fleet.store.read() as tx:
            known = tx.devices.get(name)
        if known is None:
            self.fleet.enrol(name, site, "1000")
        else:
            self.fleet.label(name, site)

    @rule(now=rarely, name=names)
    def is_revoked(self, now: bool, name: str) -> None:
        if now:
            self.fleet.revoke(name)

    @rule(now=rarely, version=st.sampled_from(VERSIONS))
    def recall(self, now: bool, version: int) -> None:
        if now:
            self.fleet.recall(version)

    @rule()
    def restarts(self) -> None:
        self.fleet.restart()

    @rule(name=names)
    def is_heard(self, name: str) -> None:
        """Over a link that stays."""
        with self.fleet.store.read() as tx:
            known = tx.devices.get(name)
        if known is not None and known.connected:
            self.fleet.link(name, up=True)

    @rule(seconds=st.sampled_from([1, 20, 61, 400, 1000, -5]))
    def time_passes(self, seconds: int) -> None:
        self.fleet.now += seconds
        self.set_back |= seconds < 0

    @rule()
    def turns(self) -> None:
        *foretold, soon = shape(self.fleet.foretold())
        *foreseen, at = shape(self.fleet.foreseen())
        assert foretold == foreseen
        assert soon == at or self.set_back  # then the ledger may look again a little early
        self.fleet.settle()
        self.holds()

    @rule()
    def a_restart_plans_the_same(self) -> None:
        foreseen = self.fleet.foreseen()
        self.fleet.restart()
        assert self.fleet.turn() == foreseen
        self.turns()

    @rule()
    def time_alone_changes_nothing_before_it_was_foretold(self) -> None:
        at = min(self.fleet.settle()[-1].again_at, self.fleet.now + 5000)
        with self.fleet.store.read() as tx:
            facts = gather(tx)
        for share in (0.3, 0.9):
            assert plan(facts, self.fleet.now + (at - self.fleet.now) * share).empty

    def holds(self) -> None:
        """Every promise."""
        with self.fleet.store.read() as tx:
            facts = gather(tx)
            records = {(one.rollout, one.number): one for one in facts.stages}
            told = {one.id: tx.rollouts.directive(one.id) for one in facts.devices}
        rollouts = {one.id: one for one in facts.rollouts}
        rows = [(row.device, row.model, row.slot) for row in facts.wanted]
        assert len(rows) == len(set(rows))
        for name, newest in told.items():
            generation = 0 if newest is None else newest.generation
            assert generation >= self.generations.get(name, 0)
            self.generations[name] = generation
        wanted = {(row.rollout, row.device): row for row in facts.wanted}
        for member in facts.members:
            rollout = rollouts[member.rollout]
            row = wanted.get((member.rollout, member.device))
            if member.stage == CONTROL and rollout.state in OPEN:
                assert row is None, f"{member} is in the control group"
            last = len(rollout.policy.stages)
            if member.stage == last and rollout.state in OPEN:
                assert all(records[rollout.id, at].opened_at for at in range(last))
        for rollout in rollouts.values():
            self.goes_back_and_ends(
                rollout, [one for one in facts.members if one.rollout == rollout.id]
            )

    def goes_back_and_ends(self, rollout: Rollout, members: list[Member]) -> None:
        """One that goes back has ended when all that are there have proven that they are back."""
        if rollout.state is not State.ROLLING_BACK:
            return
        with self.fleet.store.read() as tx:
            facts = gather(tx)
            devices = {one.id: one for one in facts.devices}
        said = slots_by_place(facts.slots)
        rows = {row.device: row for row in facts.wanted}
        assert any(
            devices[one.device].connected
            and (one.device not in rows or rows[one.device].rollout == rollout.id)
            and not is_back(
                one, rollout, said.get((one.device, "digits", "champion"), ()), facts.releases
            )
            for one in members
            if one.reverted
        )

    def teardown(self) -> None:
        """However it stands, people can end it, and nobody waits for who is away."""
        with self.fleet.store.read() as tx:
            known = tx.rollouts.all()
        for rollout in known:
            if rollout.state in {*OPEN, State.ROLLING_BACK}:
                assert self.fleet.steer("keep", rollout.id)
        self.fleet.settle()


TestRollouts = Rollouts.TestCase
TestRollouts.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
