"""One turn: a plan is made, checked and recorded, in one transaction; nothing is sent here.

The rollout loop takes turns on the real store, the simulator on the one in memory.
"""

import logging
import math
from dataclasses import dataclass
from typing import Final

from controller.errors import Conflict
from controller.rollout.actions import evidence
from controller.rollout.assignments import assignments, says
from controller.rollout.check import InvalidPlan, violations
from controller.rollout.draft import Plan
from controller.rollout.ledger import Ledger
from controller.rollout.plan import plan_by
from controller.rollout.reversal import Reversal
from controller.rollout.rollout import FINAL, State
from controller.rollout.steering.actions import end
from controller.rollout.turn.books import Books, Newest, follow
from controller.store.store import Store, Transaction
from protos.documents import Assignment, Directive
from protos.envelope import peek

log = logging.getLogger(__name__)

SINGLY: Final = 200
"""So many directives are read one by one; more are read with those of the whole fleet."""
LEASE: Final = "rollouts"
LEASE_SECONDS: Final = 90.0
"""A controller that was killed is replaced after so long."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What a turn has come to: the plan, which is recorded, and directives to sign and send."""

    plan: Plan
    due: tuple[Directive, ...] = ()


@dataclass(eq=False)
class Tenure:
    """One controller's right to act, where several share a database.

    Attributes:
        holder: names the controller; one that is started again goes on at once.
        renewed_at: Unix seconds; it is asked for again well before it runs out.
    """

    holder: str
    renewed_at: float = -math.inf

    def unbroken(self, now: float) -> bool:
        """Whether nobody else can have acted since this controller did, whatever became of it."""
        return abs(now - self.renewed_at) < LEASE_SECONDS

    def doubt(self) -> None:
        """Asks for it again before anything else: what was thought to be granted may not be."""
        self.renewed_at = -math.inf

    def stands(self, store: Store, now: float) -> bool:
        """Whether this controller may act now."""
        if abs(now - self.renewed_at) < LEASE_SECONDS / 3:
            return True
        with store.begin() as tx:
            return self.renew(tx, now)

    def require(self, tx: Transaction, now: float) -> None:
        """Likewise.

        Raises:
            Conflict: another controller acts by now.
        """
        if not self.renew(tx, now):
            raise Conflict("another controller on this database makes the directives now")

    def renew(self, tx: Transaction, now: float) -> bool:
        """Likewise, asked in the transaction that acts; only that is sure."""
        granted = tx.leases.acquire(LEASE, self.holder, now, LEASE_SECONDS)
        self.renewed_at = now if granted else -math.inf
        return granted


def take_turn(store: Store, books: Books, tenure: Tenure, now: float) -> Turn:
    """Plans at ``now`` (Unix seconds) and records that; most plans change nothing, and wait for nobody.

    While another controller holds the lease nothing is planned.

    Raises:
        InvalidPlan: the plan breaks a rule; nothing was recorded.
        StoreError: nothing was recorded.
    """
    if not tenure.unbroken(now):
        books.newest.clear()  # another one may have written directives meanwhile
    if not tenure.stands(store, now):
        return Turn(Plan())
    with store.read() as tx:
        follow(tx, books, now)
        made = planned(tx, books.ledger, now)
        due = directives_due(tx, books, now) if made.empty else ()
    if not made.empty:
        with store.begin() as tx:
            if not tenure.renew(tx, now):
                return Turn(Plan())
            if follow(tx, books, now):  # more has changed meanwhile
                made = planned(tx, books.ledger, now)
            record(tx, made)
        for line in made.because:
            log.info("rollout.plan %s", line)
        with store.read() as tx:
            follow(tx, books, now)
            due = directives_due(tx, books, now)
    return Turn(made, due)


def planned(tx: Transaction, ledger: Ledger, now: float) -> Plan:
    """A plan that breaks no rule.

    Raises:
        InvalidPlan: it does.
    """
    made = plan_by(ledger, {}, now)
    if made.wishes:
        made = plan_by(ledger, evidence(tx, made.wishes), now)
    broken = violations(ledger.known, made, now)
    if broken:
        raise InvalidPlan("; ".join(broken))
    return made


def record(tx: Transaction, made: Plan) -> None:
    """Makes the plan durable."""
    for row in made.remove:
        tx.rollouts.remove_wanted(row.device, row.model, row.slot)
    for row in (*made.assign, *made.restore):
        tx.rollouts.put_wanted(row)
    tx.stages.put_members(made.members)
    tx.stages.put(made.stages)
    for rollout_id in made.forget:
        tx.stages.remove_members(rollout_id)
    accounts = {one.rollout.id: one for one in made.progress}
    for rollout in made.rollouts:
        if rollout.state is State.ROLLED_BACK:  # what it had come to was recorded as it went back
            tx.rollouts.put(rollout)
            tx.stages.remove_members(rollout.id)
        elif rollout.state in FINAL or rollout.state is State.ROLLING_BACK:
            mine = Reversal(
                restore=tuple(row for row in made.restore if row.rollout == rollout.id),
                remove=tuple(row for row in made.remove if row.rollout == rollout.id),
            )
            end(tx, rollout, accounts[rollout.id].standings, mine)
        else:
            tx.rollouts.put(rollout)


def directives_due(tx: Transaction, books: Books, now: float) -> tuple[Directive, ...]:
    """A directive for every device of which something else is wanted than its newest one says."""
    known, due = books.ledger.known, []
    _read_newest(tx, books)
    for device in sorted(books.ledger.untold):
        facts = known.by_device[device]
        last = _newest(tx, books.newest, device)
        rows = sorted(facts.rows, key=lambda row: (row.model, row.slot))
        if not facts.is_active or says(last, rows):
            books.ledger.is_told(device)
            continue
        wanted = assignments(rows, known.releases, known.rollouts)
        if wanted != _said(last):
            generation = 1 if last is None else last.generation + 1
            due.append(
                Directive(
                    device=device,
                    generation=generation,
                    issued_at=int(now),
                    assignments=wanted,
                )
            )
    return tuple(due)


def _read_newest(tx: Transaction, books: Books) -> None:
    """Reads all directives at once if many are missing, as at the start of a controller."""
    missing = books.ledger.untold - books.newest.keys()
    if len(missing) > SINGLY:
        for one in tx.rollouts.newest_directives():
            if one.device in missing:
                books.newest[one.device] = peek(one.envelope, Directive)
        for device in missing:
            books.newest.setdefault(device, None)


def _newest(tx: Transaction, newest: Newest, device: str) -> Directive | None:
    if device not in newest:
        signed = tx.rollouts.directive(device)
        newest[device] = None if signed is None else peek(signed.envelope, Directive)
    return newest[device]


def _said(directive: Directive | None) -> tuple[Assignment, ...]:
    return () if directive is None else directive.assignments
