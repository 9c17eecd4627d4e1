"""What people ask of fleets' files: plan, apply, list, show."""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from controller.audit import Entry
from controller.errors import NotFound
from controller.fleet.attributes import attributes
from controller.fleet.device import DeviceStatus
from controller.fleet.selector import matches
from controller.fleet.selector_parser import parse
from controller.fleet_config.alerts import AlertResult, judged
from controller.fleet_config.applied import AppliedFleet
from controller.fleet_config.fleet import Fleet, Goal
from controller.fleet_config.plan import Download, FleetPlan, GoalPlan, Question, plan
from controller.fleet_config.reading import BadFleetFile, read_fleet
from controller.registry import version as registry
from controller.rollout.actions import Order, gather, release_of, start
from controller.rollout.gate.actions import samples_of
from controller.rollout.steering.actions import Abort, abort
from controller.store.store import Transaction
from controller.toml_file.problems import Problem
from protos.manifest import Role, parse_reference, read_manifest

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FleetText:
    """A fleet's file as somebody sent it; ``file`` is what messages call it."""

    text: str
    file: str = "fleet.toml"

    @property
    def sha256(self) -> str:
        """Of the text."""
        return hashlib.sha256(self.text.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True, slots=True)
class Applied:
    """What applying a file has done.

    Attributes:
        plan: made in the same transaction, before anything changed.
        started: ids of new rollouts.
        ended: ids of rollouts that the file no longer asked for.
    """

    plan: FleetPlan
    started: tuple[str, ...]
    ended: tuple[str, ...]


def plan_fleet(tx: Transaction, file: FleetText, now: float, *, again: bool = False) -> FleetPlan:
    """What applying the file would change; changes nothing.

    Raises:
        BadFleetFile: something is wrong with it, or it names versions that can't be rolled out.
    """
    fleet = read_fleet(file.text, file.file)
    versions = _versions(tx, fleet, file.file)
    asked = Question(
        fleet=fleet,
        versions=[release_of(one) for one in versions],
        downloads={(one.model, one.version): download_of(one) for one in versions},
        again=again,
    )
    return plan(asked, gather(tx), now)


def apply_fleet(
    tx: Transaction,
    file: FleetText,
    actor: str,
    now: float,
    *,
    prune: bool = False,
    again: bool = False,
) -> Applied:
    """Makes the fleet as its file says; a second time there is nothing to do. Wake the loop.

    ``prune`` ends rollouts that the file no longer asks for; their devices keep what they run.
    ``again`` starts anew what was aborted or rolled back.

    Raises:
        BadFleetFile: as ``plan_fleet``; nothing was changed.
    """
    found = plan_fleet(tx, file, now, again=again)
    ended = [one.id for one in found.leftover] if prune else []
    for rollout in ended:
        abort(tx, rollout, actor, now, Abort.KEEP)
    started = [_start(tx, one, found, actor, now) for one in found.goals if one.changes]
    name, known = found.fleet.name, tx.fleets.get(found.fleet.name)
    if started or ended or known is None or known.sha256 != file.sha256:
        tx.fleets.put(AppliedFleet(name, file.text, file.sha256, now, actor))
        detail = {
            "sha256": file.sha256,
            "started": ", ".join(started),
            "ended": ", ".join(ended),
        }
        tx.audit.append(Entry(actor, "fleet.apply", name, detail), int(now * 1000))
        log.info("fleet.applied fleet=%s sha256=%s by=%s", name, file.sha256, actor)
    return Applied(found, tuple(started), tuple(ended))


def list_fleets(tx: Transaction) -> Sequence[AppliedFleet]:
    """The newest file of every fleet, by name."""
    return tx.fleets.all()


def applied_fleet(tx: Transaction, name: str) -> AppliedFleet:
    """The newest file of a fleet.

    Raises:
        NotFound: no file of that fleet was applied.
    """
    found = tx.fleets.get(name)
    if found is None:
        raise NotFound(f"no fleet {name!r}", "`muster fleet list` shows every fleet.")
    return found


def fleet_alerts(tx: Transaction, fleet: Fleet, now: float) -> tuple[AlertResult, ...]:
    """What its alerts say at ``now``, over the devices that it means."""
    if not fleet.alerts:
        return ()
    devices = {
        one.id: attributes(one) for one in tx.devices.all() if one.status is DeviceStatus.ACTIVE
    }
    versions: dict[str, set[int]] = {}
    for slot in tx.devices.slots():
        if slot.device in devices:
            versions.setdefault(slot.model, set()).add(slot.version)
    meant = {
        model: {
            device
            for goal in fleet.goals
            if goal.model == model
            for device, seen in devices.items()
            if matches(parse(goal.selector), seen)
        }
        for model in {one.model for one in fleet.alerts}
    }
    return tuple(
        judged(
            one,
            samples_of(
                tx,
                one.model,
                sorted(versions.get(one.model, ())),
                dict.fromkeys(sorted(meant[one.model]), now - one.over_seconds),
            ),
        )
        for one in fleet.alerts
    )


def all_alerts(tx: Transaction, now: float) -> Iterator[tuple[str, AlertResult]]:
    """What the alerts of every fleet say, by the fleet's name."""
    for applied in tx.fleets.all():
        try:
            fleet = read_fleet(applied.text, applied.name)
        except BadFleetFile as error:  # of a version of Muster that knew other keys
            log.warning("fleet.unreadable fleet=%s detail=%s", applied.name, error.detail)
            continue
        for result in fleet_alerts(tx, fleet, now):
            yield applied.name, result


def download_of(version: registry.Version) -> Download:
    """What a device fetches for a version: its files and their manifest."""
    manifest = read_manifest(version.manifest)
    whole = len(version.manifest) + sum(one.length for one in manifest.needed.values())
    step, lineage = manifest.files.get(Role.MODEL_STEP), manifest.lineage
    if step is None or not lineage.parent_model:
        return Download(whole)
    made = [Role.MODEL, *([Role.TRAIN_STEP] if lineage.parent_train_step else [])]
    spared = sum(manifest.needed[role].length for role in made if role in manifest.needed)
    return Download(whole, lineage.parent, whole - spared + step.length)


def _start(tx: Transaction, one: GoalPlan, found: FleetPlan, actor: str, now: float) -> str:
    goal = one.goal
    made = start(
        tx,
        f"{goal.model}/{one.version}",
        goal.selector,
        actor,
        now,
        # A fleet may be declared before its devices come.
        Order(goal.slot, goal.policy, found.fleet.name, allow_empty=True),
    )
    return made.id


def _versions(tx: Transaction, fleet: Fleet, file: str) -> Sequence[registry.Version]:
    found, problems = [], []
    for goal in fleet.goals:
        version = _version(tx, goal)
        if isinstance(version, Problem):
            problems.append(version)
        else:
            found.append(version)
    if problems:
        raise BadFleetFile(file, problems)
    return found


def _version(tx: Transaction, goal: Goal) -> registry.Version | Problem:
    """The version that the goal's reference means now, or why it can't be rolled out."""
    key = "[[models]] version"
    model, at, alias = goal.version.partition("@")
    if at:
        number = tx.registry.aliases(model).get(alias)
        if number is None:
            remedy = f"set it with `muster model alias {goal.version} VERSION`"
            return Problem(goal.line, key, f"there is no alias {goal.version}", remedy)
    else:
        model, number = parse_reference(goal.version)
    version = tx.registry.version(model, number)
    if version is None:
        remedy = f"`muster model show {model}` lists what there is"
        return Problem(goal.line, key, f"there is no version {model}/{number}", remedy)
    if version.state is not registry.State.PUBLISHED:
        what = f"{model}/{number} is {version.state.value}; only published versions are rolled out"
        return Problem(goal.line, key, what, "have it approved, or name another")
    return version
