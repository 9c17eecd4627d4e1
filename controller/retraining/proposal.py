"""Whether a model's drift over its fleet is a reason to train anew, and what is proposed then. Pure.

A few devices that see something else are broken: they are for a technician. Where most of them have
moved, and their merged data have, the world has changed, and the model must follow.
"""

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from controller.incident.story import Watched


class Retrain(StrEnum):
    """What the controller may do by itself."""

    PROPOSE = "propose"  # a run waits for somebody to start it
    START = "start"  # the run starts; its candidate still waits for the approvers


@dataclass(frozen=True, slots=True)
class RetrainPolicy:
    """What a fleet's file says of one model.

    Attributes:
        model: which.
        selector: the devices that take part.
        retrain: whether a run may start by itself.
        share: of the devices that run the version so many must have moved, from 0 to 1.
        after_seconds: for so long it must have been so.
        rounds, seed: of the run.
        settings: the run file's text but for ``[run]``; empty for the defaults.
    """

    model: str
    selector: str = "all"
    retrain: Retrain = Retrain.PROPOSE
    share: float = 0.5
    after_seconds: float = 600.0
    rounds: int = 10
    seed: int = 0
    settings: str = ""


class Why(StrEnum):
    """Why nothing is proposed."""

    QUIET = "quiet"  # the merged data are as in the reference
    UNDECIDED = "undecided"  # devices have told too little
    FEW = "few"  # most devices have not moved
    FAULTY = "faulty"  # the data are not changed but wrong: training on them would not help
    WAITING = "waiting"  # it has not been so for long enough
    OPEN = "open"  # an incident of the model is open
    NOT_TRAINABLE = "not-trainable"  # the version has no train step


@dataclass(frozen=True, slots=True)
class Situation:
    """What is known of a model when it is looked at.

    Attributes:
        watched: the version that most devices run.
        since_ms: since when its data have moved over most devices, as this controller has seen it;
            0 if they have not.
        incident_open: whether the model has an open incident.
        trainable: whether the version has a train step.
    """

    watched: Watched
    since_ms: int
    incident_open: bool
    trainable: bool


MOVED: Final = "drift"


class Act(StrEnum):
    """What the controller does."""

    NOTHING = "nothing"
    OPEN = "open"  # an incident, for people
    PROPOSE = "propose"  # an incident, and a run that somebody may start
    START = "start"  # an incident, and a run that is at work


@dataclass(frozen=True, slots=True)
class Decision:
    """What follows from a situation.

    Attributes:
        act: what the controller does.
        why: why no run is proposed; None where one is.
        reasons: for people; the first is the share of the devices.
    """

    act: Act
    why: Why | None
    reasons: tuple[str, ...] = ()


def has_moved(watched: Watched, share: float) -> Why | None:
    """None if the data of so large a share of the devices have moved, and their merged data too.

    The share is of all that run the version, so that a few that tell while the others are silent, or
    lie, decide nothing.
    """
    if watched.verdict == "insufficient_data" or watched.judged < 2:
        return Why.UNDECIDED
    if watched.verdict == "bad_data":
        return Why.FAULTY
    if watched.verdict != MOVED:
        return Why.QUIET
    devices = max(watched.judged, watched.running)
    return None if watched.moved >= share * devices and watched.moved > 1 else Why.FEW


def decided(policy: RetrainPolicy, situation: Situation, now_ms: int) -> Decision:
    """Whether an incident opens, and what is proposed."""
    watched = situation.watched
    why = has_moved(watched, policy.share)
    if why is None and situation.incident_open:
        why = Why.OPEN
    waited_ms = now_ms - situation.since_ms if situation.since_ms else -1
    if why is None and waited_ms < 1000 * policy.after_seconds:
        why = Why.WAITING
    if why is not None:
        return Decision(Act.NOTHING, why)
    share = f"{watched.moved} of {watched.judged} devices have moved together"
    reasons = (share, *watched.sentences)
    if not situation.trainable:
        hint = (
            f"{policy.model}/{watched.version} has no train step: train anew where its author did, "
            "or register it with --trainable"
        )
        return Decision(Act.OPEN, Why.NOT_TRAINABLE, (*reasons, hint))
    act = Act.START if policy.retrain is Retrain.START else Act.PROPOSE
    return Decision(act, None, reasons)


def run_file(policy: RetrainPolicy, version: int) -> str:
    """The run file of a run that is proposed, TOML."""
    head = (
        "[run]",
        f'model = "{policy.model}/{version}"',
        f"selector = {json.dumps(policy.selector)}",
        f"rounds = {policy.rounds}",
        f"seed = {policy.seed}",
        "",
    )
    return "\n".join((*head, policy.settings))
