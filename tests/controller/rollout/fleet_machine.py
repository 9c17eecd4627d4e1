"""A fleet that does as it likes under two or three rollouts, and the controller's real actions.

Devices report, vanish, change their labels and are revoked; people pause, resume, retry, approve and
abort; versions are recalled; the controller restarts; time passes. ``turn`` is the controller's.
"""

import dataclasses
from collections.abc import Callable

from controller.errors import Conflict
from controller.fleet import actions as fleet
from controller.fleet.device import DeviceStatus, SlotState
from controller.registry import version as registry
from controller.rollout import actions
from controller.rollout.actions import gather
from controller.rollout.check import violations
from controller.rollout.draft import Plan
from controller.rollout.ledger import Ledger
from controller.rollout.plan import plan
from controller.rollout.policy import Policy
from controller.rollout.rollout import SignedDirective, Wanted
from controller.rollout.steering import actions as steering
from controller.rollout.turn.actions import Tenure, planned, take_turn
from controller.rollout.turn.books import Books, follow
from controller.store.store import Transaction
from protos.documents import Assignment, Directive
from protos.envelope import peek, seal
from protos.keys import CryptoSigner
from simulations.memory_store import MemoryStore
from tests.controller.rollout.world import LOADED, START, device, registered

DEVICES = tuple(f"d{number}" for number in range(8))
VERSIONS = (1, 2, 3)
MOST_TURNS = 12


class Fleet:
    """The store, the time, and what everybody can do to them."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.director = CryptoSigner.generate_ed25519()
        self.now = START
        self.books = Books()
        self.tenure = Tenure("one")
        self.counter = 0
        self.fallbacks: dict[str, list[SlotState]] = {}
        self.runs: dict[str, tuple[int, float]] = {}  # which version, and since when
        with self.store.begin() as tx:
            tx.registry.put_model(registry.Model("digits", START, 1))
            for version in VERSIONS:
                tx.registry.put_version(registered("digits", version))

    def act(self, what: Callable[[Transaction], object]) -> bool:
        """Whether it was not refused."""
        try:
            with self.store.begin() as tx:
                what(tx)
        except Conflict:
            return False
        return True

    # --- Devices ----------------------------------------------------------------------------------

    def enrol(self, name: str, site: str, memory: str) -> None:
        """A device that is on line."""
        one = device(name, {"site": site}, {"memory_bytes": memory})
        made = dataclasses.replace(one, last_seen=self.now, connected_since=self.now)
        self.act(lambda tx: tx.devices.put(made))

    def link(self, name: str, *, up: bool) -> None:
        """Its link comes up or goes."""
        self.act(lambda tx: tx.devices.touch(name, self.now, connected=up))

    def label(self, name: str, site: str) -> None:
        """It is carried elsewhere."""
        self.act(lambda tx: fleet.label(tx, name, "ada", self.now, {"site": site}))

    def revoke(self, name: str) -> None:
        """It leaves for good."""
        with self.store.begin() as tx:
            known = tx.devices.get(name)
            if known is not None:
                tx.devices.put(dataclasses.replace(known, status=DeviceStatus.REVOKED))

    def report(self, name: str, state: str, code: str = "", *, odd: bool = False) -> None:
        """It acts on its newest directive, and tells how far it is."""
        self.counter += 1
        with self.store.begin() as tx:
            if tx.devices.get(name) is None:
                return
            newest = tx.rollouts.directive(name)
            asked = () if newest is None else peek(newest.envelope, Directive).assignments
            generation = 0 if newest is None else newest.generation
            before = [one for one in tx.devices.slots(name) if one.running]
            tx.devices.touch(name, self.now, connected=True)
            if not asked:
                tx.devices.replace_slots(name, [])
                return
            (one,) = asked
            # What it ran before answers while it tries, and when it has gone back from a failure.
            if state != "failed" or not before or before[0].version != one.version:
                fallback = before
            else:
                fallback = self.fallbacks.get(name, [])
            slot = SlotState(
                name,
                "digits",
                "champion",
                one.version,
                state == "committed",
                state,
                "f" * 64 if odd else one.sha256,
                LOADED if state == "committed" else "",
                1,
                generation,
                self.counter,
                self.now,
                code,
                soaked=self._soaked(name, one, running=state == "committed"),
            )
            tx.devices.replace_slots(name, [slot] if slot.running else [*fallback[:1], slot])
        if slot.running and not (before and before[0].version == slot.version):
            self.fallbacks[name] = before

    def _soaked(self, name: str, asked: Assignment, *, running: bool) -> int:
        """For how long the device has answered with the version, if that is as long as it was asked."""
        version, since = self.runs.get(name, (0, 0.0))
        if not running or version != asked.version:
            self.runs[name] = (asked.version if running else 0, self.now)
            return 0
        return asked.soak_seconds if self.now - since >= asked.soak_seconds else 0

    # --- People -----------------------------------------------------------------------------------

    def start(self, version: int, selector: str, policy: Policy) -> bool:
        """A rollout of it begins."""
        order = actions.Order(policy=policy, allow_empty=True)
        return self.act(
            lambda tx: actions.start(tx, f"digits/{version}", selector, "ada", self.now, order)
        )

    def recall(self, version: int) -> None:
        """It is published no longer."""
        made = registered("digits", version, registry.State.RECALLED)
        self.act(lambda tx: tx.registry.put_version(made))

    def steer(self, verb: str, rollout: str) -> bool:
        """Pause, resume, approve, retry, keep or revert."""
        verbs: dict[str, Callable[[Transaction], object]] = {
            "pause": lambda tx: steering.pause(tx, rollout, "ada", self.now),
            "resume": lambda tx: steering.resume(tx, rollout, "ada", self.now),
            "approve": lambda tx: steering.approve(tx, rollout, "ada", self.now),
            "retry": lambda tx: steering.retry(tx, rollout, "ada", self.now),
            "keep": lambda tx: steering.abort(tx, rollout, "ada", self.now, steering.Abort.KEEP),
            "revert": lambda tx: steering.abort(
                tx, rollout, "ada", self.now, steering.Abort.REVERT
            ),
        }
        return self.act(verbs[verb])

    # --- The controller ---------------------------------------------------------------------------

    def restart(self) -> None:
        """What is not stored is gone."""
        self.books, self.tenure = Books(), Tenure("one")

    def turn(self) -> Plan:
        """One turn, with its directives stored as the loop stores them."""
        taken = take_turn(self.store, self.books, self.tenure, self.now)
        with self.store.begin() as tx:
            for one in taken.due:
                sealed = seal(one, self.director)
                tx.rollouts.put_directive(
                    SignedDirective(one.device, one.generation, sealed, self.now)
                )
                self.books.newest[one.device] = one
        return taken.plan

    def settle(self) -> list[Plan]:
        """Turns at one time until nothing more follows.

        Raises:
            AssertionError: they never come to rest.
        """
        made = []
        for _ in range(MOST_TURNS):
            made.append(self.turn())
            if made[-1].empty:
                return made
        raise AssertionError(f"no rest: {made[-1]}")

    def foreseen(self) -> Plan:
        """What the next turn would plan, by nothing but what is stored."""
        with self.store.read() as tx:
            books = Books()
            follow(tx, books, self.now)
            return planned(tx, books.ledger, self.now)

    def foretold(self) -> Plan:
        """The same, by what the controller has kept from turn to turn."""
        with self.store.read() as tx:
            follow(tx, self.books, self.now)
            return planned(tx, self.books.ledger, self.now)

    def broken(self) -> tuple[str, ...]:
        """Rules that a plan made now breaks."""
        with self.store.read() as tx:
            facts = gather(tx)
        return violations(Ledger.of(facts).known, plan(facts, self.now), self.now)

    def wanted(self) -> dict[str, Wanted]:
        """What each device shall run."""
        with self.store.read() as tx:
            return {row.device: row for row in tx.rollouts.wanted()}
