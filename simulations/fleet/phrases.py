"""The phrases of scenarios: how each command and expectation is written, and read.

Every phrase stands in one of two tables with its usage, so that whoever mistypes one is shown how it goes.
"""

import re
from collections.abc import Callable, Mapping
from typing import Final

from controller.errors import BadSelector, InvalidInput
from controller.fleet.attributes import check_labels
from controller.fleet.selector_parser import parse as parse_selector
from controller.rollout.rollout import State as RolloutState
from simulations.fleet import duration
from simulations.fleet.scenario import Ask, Expectation, Fault, Kind, Moment, Verb, Who


class Unreadable(Exception):
    """A line can't be read; ``remedy`` says how it is written."""

    def __init__(self, detail: str, remedy: str) -> None:
        super().__init__(detail)
        self.remedy = remedy


Words = Mapping[str, str]
_WHO: Final = r"(?P<who>.+?)"
_FOR: Final = rf"(?: for (?P<for>{duration.PATTERN}))?"
_REF: Final = r"[a-z][a-z0-9_-]*/[1-9][0-9]*"
_REFERENCE: Final = rf"(?P<reference>{_REF})"
_ID: Final = r"(?P<id>[a-z0-9][a-z0-9_.-]*)"
_HOW: Final = r"(?: as (?P<slot>challenger))?(?: under (?P<policy>at-once|default))?"
_STATES: Final = "verifying|fetching|self-test|waiting|switching|probation"


def who(text: str) -> Who:
    """``all``, ``site=berlin``, ``10% of devices``, ``3 of hw=pi3``.

    Raises:
        Unreadable: it is none of these.
    """
    drawn = re.fullmatch(r"(?:(?P<n>[0-9]+)|(?P<part>[0-9.]+)%) of (?P<kind>.+)", text)
    kind = drawn["kind"] if drawn else text
    selector = "all" if kind in {"devices", "all devices"} else kind
    try:
        parse_selector(selector)
    except BadSelector as error:
        raise Unreadable(
            f"{kind!r} names no devices: {error.detail}",
            "Write all, a selector such as site=berlin, or a part: 10% of devices, 3 of hw=pi3.",
        ) from error
    if drawn is None:
        return Who(selector)
    if drawn["n"]:
        return Who(selector, count=int(drawn["n"]))
    return Who(selector, part=percent(drawn["part"]))


def percent(text: str) -> float:
    """From 0 to 100.

    Raises:
        Unreadable: it is not.
    """
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 100:
        raise Unreadable(f"{text}% is no share", "Write a share from 0% to 100%.")
    return value


def length(text: str | None) -> float:
    """Seconds; 0 of nothing."""
    return duration.seconds(text) if text else 0.0


def _start(words: Words) -> Ask:
    chosen = who(words["who"])
    if chosen.count is not None or chosen.part is not None:
        raise Unreadable(
            "a rollout goes to a selector", "The policy's stages say how many devices come first."
        )
    under = f"under {words['policy']}" if words["policy"] else ""
    how = " ".join(filter(None, (words["slot"], under)))
    return Ask(Verb.START, words["reference"], chosen, how)


def _label(words: Words) -> Ask:
    key, value = words["label"].split("=", 1)
    try:
        check_labels({key: value})
    except InvalidInput as error:
        raise Unreadable(error.detail, error.remedy) from error
    return Ask(Verb.LABEL, words["label"], who(words["who"]))


def _fault(kind: Kind) -> Callable[[Words], Fault]:
    def made(words: Words) -> Fault:
        amount = 0.0
        if words.get("share"):
            amount = percent(words["share"]) / 100
        elif words.get("by"):
            amount = length(words["by"].lstrip("-")) * (-1 if words["by"][0] == "-" else 1)
        elif words.get("factor"):
            amount = float(words["factor"])
        elif words.get("times"):
            amount = float(words["times"])
        return Fault(
            kind,
            who(words["who"]) if words.get("who") else who("all"),
            amount,
            length(words.get("for")),
            words.get("how") or "",
        )

    return made


_BY: Final = rf"(?P<by>-?{duration.PATTERN})"
_MOMENTS: Final = "|".join(Moment)

COMMANDS: Final[Mapping[str, tuple[str, Callable[[Words], Ask | Fault]]]] = {
    "rollout start MODEL/VERSION to SELECTOR [as challenger] [under at-once|default]": (
        rf"rollout start {_REFERENCE} to {_WHO}{_HOW}",
        _start,
    ),
    "rollout pause|resume|retry|approve|show ID": (
        rf"rollout (?P<verb>pause|resume|retry|approve|show) {_ID}",
        lambda words: Ask(Verb(words["verb"]), words["id"]),
    ),
    "rollout abort ID [keep|revert]": (
        rf"rollout abort {_ID}(?: (?P<how>keep|revert))?",
        lambda words: Ask(Verb.ABORT, words["id"], how=words["how"] or "keep"),
    ),
    "recall MODEL/VERSION": (
        f"recall {_REFERENCE}",
        lambda words: Ask(Verb.RECALL, words["reference"]),
    ),
    "label KEY=VALUE on WHO": (r"label (?P<label>[^= ]+=[^ ]+) on " + _WHO, _label),
    "revoke WHO": (rf"revoke {_WHO}", lambda words: Ask(Verb.REVOKE, "", who(words["who"]))),
    "partition WHO [for TIME]": (rf"partition {_WHO}{_FOR}", _fault(Kind.PARTITION)),
    "offline WHO [for TIME]": (rf"offline {_WHO}{_FOR}", _fault(Kind.OFFLINE)),
    "loss SHARE% on WHO [for TIME]": (
        rf"loss (?P<share>[0-9.]+)% on {_WHO}{_FOR}",
        _fault(Kind.LOSS),
    ),
    "delay TIME on WHO [for TIME]": (rf"delay {_BY} on {_WHO}{_FOR}", _fault(Kind.DELAY)),
    "duplication SHARE% on WHO [for TIME]": (
        rf"duplication (?P<share>[0-9.]+)% on {_WHO}{_FOR}",
        _fault(Kind.DUPLICATION),
    ),
    f"power-cut WHO [at {_STATES}] [N times]": (
        rf"power-cut {_WHO}(?: at (?P<how>{_STATES}))?(?: (?P<times>[1-9][0-9]?) times)?",
        _fault(Kind.POWER_CUT),
    ),
    "disk-full WHO [for TIME]": (rf"disk-full {_WHO}{_FOR}", _fault(Kind.DISK_FULL)),
    "clock-skew WHO by TIME [for TIME]": (
        rf"clock-skew {_WHO} by {_BY}{_FOR}",
        _fault(Kind.CLOCK_SKEW),
    ),
    "slow WHO by FACTORx [for TIME]": (
        rf"slow {_WHO} by (?P<factor>[0-9.]+)x{_FOR}",
        _fault(Kind.SLOW),
    ),
    "lies WHO about MODEL/VERSION|its digest": (
        rf"lies {_WHO} about (?P<how>its digest|{_REF})",
        _fault(Kind.LIES),
    ),
    "replays WHO": (rf"replays {_WHO}", _fault(Kind.REPLAYS)),
    f"crash controller [{_MOMENTS}] [for TIME]": (
        rf"crash controller(?: (?P<how>{_MOMENTS}))?{_FOR}",
        _fault(Kind.CRASH),
    ),
    "clock-jump controller by TIME": (
        rf"clock-jump controller by {_BY}",
        _fault(Kind.CLOCK_JUMP),
    ),
}
"""How each command is written, beside the pattern and what it makes."""

DID: Final = ("ran", "run", "committed", "failed")
"""What expectations ask of devices: that they ever answered with a version, do at the end, have ever
proven it, have ever refused it."""
_BOUND: Final = {"at-most": (False, True), "at-least": (True, False), "exactly": (True, True)}


def command(text: str) -> Ask | Fault:
    """What the phrase says.

    Raises:
        Unreadable: it is no such phrase.
    """
    for pattern, made in COMMANDS.values():
        found = re.fullmatch(pattern, text)
        if found:
            try:
                return made(found.groupdict())
            except ValueError as error:
                raise Unreadable(str(error), duration.REMEDY) from error
    verb = " ".join(text.split()[:2])
    near = [usage for usage in COMMANDS if usage.split()[:2] == text.split()[:2]]
    first = text.split(maxsplit=1)[0]
    near = near or [usage for usage in COMMANDS if usage.split(maxsplit=1)[0] == first]
    if near:
        raise Unreadable(f"{text!r} is not complete", f"Write it as: {' or '.join(near)}.")
    verbs = ", ".join(dict.fromkeys(usage.split()[0] for usage in COMMANDS))
    raise Unreadable(f"{verb!r} is no command", f"Commands begin with {verbs}.")


def expectation(line: int, text: str) -> Expectation:
    """What the phrase after ``expect`` says.

    Raises:
        Unreadable: it is no such phrase.
    """
    states = "|".join(RolloutState)
    found = re.fullmatch(rf"rollout {_ID} (?P<state>{states})", text)
    if found:
        return Expectation(line, text, found["id"], found["state"])
    found = re.fullmatch(rf"stage {_ID} (?P<stage>[a-z0-9_-]+) (?P<state>[a-z]+)", text)
    if found:
        return Expectation(line, text, found["id"], found["state"], stage=found["stage"])
    found = re.fullmatch(
        rf"(?P<bound>at-most|at-least|exactly) (?P<n>[0-9]+) devices? "
        rf"(?P<did>{'|'.join(DID)}) {_REFERENCE}",
        text,
    )
    if found is None:
        raise Unreadable(
            f"{text!r} is nothing to expect",
            f"Write expect rollout ID {states}; expect stage ID NAME STATE; or expect "
            f"at-most|at-least|exactly N devices {'|'.join(DID)} MODEL/VERSION.",
        )
    below, above = _BOUND[found["bound"]]
    number = int(found["n"])
    return Expectation(
        line,
        text,
        found["reference"],
        found["did"],
        least=number if below else 0,
        most=number if above else 1_000_000_000,
    )
