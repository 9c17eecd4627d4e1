"""Rollouts begin and are looked at; ``gather`` reads what plans are made from.

What changes a rollout that goes on stands in ``steering/``, what a plan changes in ``turn/``.
"""

import dataclasses
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from controller.audit import Entry
from controller.errors import Conflict, InvalidInput, NotFound
from controller.fleet.attributes import attributes
from controller.fleet.device import DeviceStatus, SlotState
from controller.fleet.selector import matches
from controller.fleet.selector_parser import parse
from controller.registry.version import Version
from controller.rollout.compatibility import Compatibility
from controller.rollout.draft import EvidenceWish
from controller.rollout.facts import Facts, Place, Release, place
from controller.rollout.gate.actions import read_evidence
from controller.rollout.gate.evidence import Evidence
from controller.rollout.plan import account, accounts, plan
from controller.rollout.policy import STAGED, Policy
from controller.rollout.progress import Progress, accounts_of
from controller.rollout.rollout import FINAL, Rollout, SignedDirective, State, Wanted
from controller.store.store import Transaction
from protos.documents import Directive
from protos.envelope import peek
from protos.errors import DocumentError
from protos.manifest import Role, parse_reference, read_manifest

SLOTS = ("champion", "challenger")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Preview:
    """What a rollout would do: devices by id, and why some can't."""

    devices: tuple[str, ...]
    incompatible: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Order:
    """How a rollout is to go.

    Attributes:
        slot: "champion" answers, "challenger" only watches.
        policy: stages, budgets, gates.
        fleet: names the fleet's file that asks for it; empty if a person does.
        allow_empty: it may begin though no device matches that can run the version.
    """

    slot: str = "champion"
    policy: Policy = STAGED
    fleet: str = ""
    allow_empty: bool = False


ORDER: Final = Order()
"""The careful default."""


def start(
    tx: Transaction,
    reference: str,
    selector: str,
    actor: str,
    now: float,
    order: Order = ORDER,
) -> Rollout:
    """Starts bringing a version (``digits/2`` or ``digits@champion``) to the devices that match.

    Devices that come to match later get it too: while the rollout runs and, if it succeeds, after,
    until it is aborted or a newer one has them. The next plan assigns it: wake the loop.

    Raises:
        InvalidInput, BadSelector: the reference, slot or selector can't be read.
        NotFound: there is no such version.
        Conflict: it is not published; or no device matches, or none that matches can run it, and
            the order does not say that this is meant.
    """
    if order.slot not in SLOTS:
        raise InvalidInput(f"slot: {order.slot!r} is none of {', '.join(SLOTS)}")
    version = _published(tx, reference)
    found = _preview(tx, release_of(version), selector)
    if not found.devices and not order.allow_empty:
        raise Conflict(_nobody(selector, found))
    rollouts = tx.rollouts.all()
    # Which rollout is newer decides who has a device: a clock that was set back must not.
    newest = max((one.created_at for one in rollouts), default=0.0)
    ordinal = 1 + sum(
        (one.model, one.version) == (version.model, version.version) for one in rollouts
    )
    rollout = Rollout(
        id=f"{version.model}-{version.version}-{ordinal}",
        model=version.model,
        version=version.version,
        selector=str(parse(selector)),
        state=State.RUNNING,
        created_at=max(now, newest + 0.001),
        created_by=actor,
        slot=order.slot,
        policy=order.policy,
        fleet=order.fleet,
    )
    tx.rollouts.put(rollout)
    detail = {
        "version": f"{version.model}/{version.version}",
        "to": rollout.selector,
        "slot": order.slot,
        "stages": ", ".join(one.name for one in order.policy.stages),
    }
    tx.audit.append(Entry(actor, "rollout.start", rollout.id, detail), int(now * 1000))
    log.info("rollout.started rollout=%s to=%s by=%s", rollout.id, rollout.selector, actor)
    return rollout


def preview(tx: Transaction, reference: str, selector: str) -> Preview:
    """Whom a rollout would reach now.

    Raises:
        InvalidInput, BadSelector, NotFound, Conflict: as ``start``.
    """
    return _preview(tx, release_of(_published(tx, reference)), selector)


def list_rollouts(tx: Transaction, now: float) -> tuple[Progress, ...]:
    """Every rollout with its accounts, newest first."""
    facts = gather(tx)
    closed = {one.id: tx.rollouts.standings(one.id) for one in facts.rollouts}
    return accounts(facts, closed, now)


def show(tx: Transaction, rollout_id: str, now: float) -> Progress:
    """One rollout with its accounts: who runs it, who does not, and why.

    Raises:
        NotFound: there is none of that id.
    """
    return progress_of(tx, rollout_of(tx, rollout_id), now)


def gather(tx: Transaction) -> Facts:
    """Everything that a plan is made from, as it is in this transaction; no evidence for gates."""
    facts = Facts(
        rollouts=tuple(tx.rollouts.all()),
        devices=tuple(tx.devices.all()),
        wanted=tuple(tx.rollouts.wanted()),
        slots=tuple(tx.devices.slots()),
        releases={(one.model, one.version): release_of(one) for one in tx.registry.versions()},
        members=tuple(tx.stages.members()),
        stages=tuple(tx.stages.all()),
    )
    closed = {
        one.id: tuple(tx.rollouts.standings(one.id))
        for one in facts.rollouts
        if one.state is State.ROLLING_BACK
    }
    return dataclasses.replace(facts, asked=asked(tx, facts.wanted, facts.slots), closed=closed)


def with_evidence(tx: Transaction, facts: Facts, now: float) -> Facts:
    """The facts with what gates ask for, if a plan made from them would ask."""
    wishes = plan(facts, now).wishes
    return dataclasses.replace(facts, evidence=evidence(tx, wishes)) if wishes else facts


def evidence(tx: Transaction, wishes: Iterable[EvidenceWish]) -> Mapping[str, Evidence]:
    """What plans have asked for, by rollout."""
    return {
        one.rollout: read_evidence(tx, one.model, one.version, one.stage, one.control)
        for one in wishes
    }


def release_of(version: Version) -> Release:
    """What rollouts need of a registered version."""
    manifest = read_manifest(version.manifest)
    return Release(
        model=version.model,
        version=version.version,
        state=version.state,
        sha256=version.manifest_sha256,
        length=len(version.manifest),
        needs=manifest.needs,
        minimum_agent=manifest.minimum_agent,
        model_sha256=manifest.files[Role.MODEL].sha256,
    )


def asked(
    tx: Transaction, wanted: Iterable[Wanted], slots: Iterable[SlotState]
) -> Mapping[Place, int]:
    """``Facts.asked``, for the places where a failure is reported: only there it decides."""
    failed = {place(slot): slot.version for slot in slots if slot.state == "failed"}
    if not failed:
        return {}
    found = {}
    for row in wanted:
        if failed.get(place(row)) == row.version:
            generation = _first_asked(row, tx.rollouts.directives(row.device))
            if generation:
                found[place(row)] = generation
    return found


def _first_asked(row: Wanted, newest_first: Iterable[SignedDirective]) -> int:
    first = 0
    for signed in newest_first:
        directive = peek(signed.envelope, Directive)
        asks = any(
            (one.model, one.slot, one.version, one.rollout, one.attempt)
            == (row.model, row.slot, row.version, row.rollout, row.attempt)
            for one in directive.assignments
        )
        if not asks:
            return first
        first = signed.generation
    # Only the newest are kept: where all of these ask, those before may have asked as well.
    return min(first, 1)


def _published(tx: Transaction, reference: str) -> Version:
    model, number = _resolve(tx, reference)
    version = tx.registry.version(model, number)
    if version is None:
        raise NotFound(f"no version {model}/{number}")
    if not release_of(version).published:
        raise Conflict(
            f"{model}/{number} is {version.state}; only published versions are rolled out"
        )
    return version


def _resolve(tx: Transaction, reference: str) -> tuple[str, int]:
    model, at, alias = reference.partition("@")
    if not at:
        try:
            return parse_reference(reference)
        except DocumentError as error:
            raise InvalidInput(f"version: {error.detail}, nor MODEL@ALIAS") from error
    number = tx.registry.aliases(model).get(alias)
    if number is None:
        raise NotFound(f"no version {reference}")
    return model, number


def _preview(tx: Transaction, release: Release, selector: str) -> Preview:
    chosen = parse(selector)
    meant = [
        device
        for device in tx.devices.all()
        if device.status is DeviceStatus.ACTIVE and matches(chosen, attributes(device))
    ]
    compatibility = Compatibility(release)
    reasons = {device.id: compatibility.objections(device) for device in meant}
    return Preview(
        tuple(sorted(device for device, why in reasons.items() if not why)),
        {device: why for device, why in sorted(reasons.items()) if why},
    )


def _nobody(selector: str, found: Preview) -> str:
    if not found.incompatible:
        return f"selector {selector!r} matches no active device"
    device, why = next(iter(found.incompatible.items()))
    return f"no device that {selector!r} matches can run it; {device}: {'; '.join(why)}"


def rollout_of(tx: Transaction, rollout_id: str) -> Rollout:
    """The rollout.

    Raises:
        NotFound: there is none of that id.
    """
    rollout = tx.rollouts.get(rollout_id)
    if rollout is None:
        raise NotFound(f"no rollout {rollout_id!r}")
    return rollout


def progress_of(tx: Transaction, rollout: Rollout, now: float) -> Progress:
    """How the rollout stands."""
    if rollout.state in FINAL:
        return accounts_of(rollout, tx.rollouts.standings(rollout.id), tx.stages.all(rollout.id))
    return account(rollout, with_evidence(tx, gather(tx), now), now)
