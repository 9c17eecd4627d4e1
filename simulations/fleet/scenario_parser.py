"""Reads scenarios: strictly, and every mistake at once, each with its line and its remedy."""

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from pydantic import ValidationError

from controller.errors import ControllerError, InvalidInput
from controller.fleet_config.fleet import Fleet
from controller.rollout.policy import AT_ONCE, STAGED, Policy
from simulations.fleet import duration, phrases
from simulations.fleet.phrases import Unreadable
from simulations.fleet.scenario import (
    EVERYONE,
    ONE_KIND,
    ONE_SITE,
    Ask,
    Behaviour,
    Command,
    Effect,
    Quality,
    Scenario,
    Share,
    Verb,
    Version,
)

_SIZES: Final = {"kB": 1_000, "MB": 1_000_000, "GB": 1_000_000_000}
_RATES: Final = {"second": 1.0, "minute": 60.0, "hour": 3_600.0, "day": 86_400.0}
_FACTORS: Final = frozenset({Effect.SLOWS})
_SHARES: Final = frozenset({Effect.ERRORS, Effect.LOSES_CONFIDENCE, Effect.DRIFTS, Effect.BAD_DATA})
POLICIES: Final[Mapping[str, Policy]] = {"default": STAGED, "at-once": AT_ONCE}


class BadScenario(InvalidInput):
    """A scenario can't be read; the message has every mistake, each with its line."""

    code = "bad-scenario"
    remedy = "Correct these lines; the scenarios in simulations/scenarios show every phrase."


@dataclass(slots=True)
class _Draft:
    """What was read so far; ``wrong`` are the mistakes."""

    scenario: Scenario
    fleet: Callable[[str], Fleet]
    wrong: list[str] = field(default_factory=list)
    policy: list[str] = field(default_factory=list)
    policy_line: int = 0
    ended: bool = False


def no_file(path: str) -> Fleet:
    """There are no fleets' files.

    Raises:
        InvalidInput: always.
    """
    raise InvalidInput(f"{path}: there is no such file here")


def parse(name: str, text: str, fleet: Callable[[str], Fleet] = no_file) -> Scenario:
    """The scenario of that name; ``fleet`` reads a fleet's file that it names.

    Raises:
        BadScenario: it can't be read; names every line that is wrong.
    """
    lines = text.splitlines()
    title = next((line.lstrip("# ") for line in lines if line.startswith("#")), name)
    draft = _Draft(Scenario(name=name, title=title.rstrip(".:"), until=0.0), fleet)
    block = ""
    for number, line in enumerate(lines, start=1):
        words = line if block == "policy" else line.split("#", 1)[0].rstrip()
        if not words.strip() or words.startswith("#"):
            continue
        try:
            if line[0].isspace():
                _continue(draft, block, words.strip())
            else:
                block = words.split()[0]
                _take(draft, number, re.sub(r"\s+", " ", words.split(" #", 1)[0].strip()))
        except Unreadable as error:
            draft.wrong.append(f"{name}:{number}: {error}. {error.remedy}")
    _finish(draft, name)
    if draft.wrong:
        raise BadScenario("\n".join(draft.wrong))
    return draft.scenario


def _take(draft: _Draft, number: int, text: str) -> None:
    verb, _, rest = text.partition(" ")
    if verb == "at":
        draft.scenario = _at(draft.scenario, number, text, rest)
    elif verb == "expect":
        made = phrases.expectation(number, rest)
        draft.scenario = replace(draft.scenario, expectations=(*draft.scenario.expectations, made))
    elif verb == "policy":
        _policy(draft, number, rest)
    elif verb in HEADER:
        pattern, usage, made_of = HEADER[verb]
        found = re.fullmatch(pattern, rest)
        if found is None:
            raise Unreadable(f"{text!r} is not complete", f"Write it as: {usage}.")
        draft.scenario = made_of(draft.scenario, found)
    else:
        known = ", ".join((*HEADER, "policy", "at", "expect"))
        raise Unreadable(f"{verb!r} begins no line", f"Lines begin with {known}.")


def _at(scenario: Scenario, number: int, text: str, rest: str) -> Scenario:
    when, _, what = rest.partition(" ")
    try:
        at = duration.seconds(when)
    except ValueError as error:
        raise Unreadable(str(error), duration.REMEDY) from error
    if not what:
        raise Unreadable(f"{text!r} says nothing", "Write at TIME and what happens.")
    command = Command(number, at, what, phrases.command(what))
    return replace(scenario, commands=(*scenario.commands, command))


def _policy(draft: _Draft, number: int, rest: str) -> None:
    draft.policy_line = number
    if rest.startswith("file "):
        policy = _policy_in(draft, rest.removeprefix("file "))
    elif rest in POLICIES:
        policy = POLICIES[rest]
    else:
        raise Unreadable(
            f"there is no policy {rest!r}",
            "Write policy default, policy at-once or policy file PATH; lines below it, indented, "
            "change its fields.",
        )
    draft.scenario = replace(draft.scenario, policy=policy)


def _policy_in(draft: _Draft, words: str) -> Policy:
    """What a fleet's file says of a model: the one that is named, or the file's first."""
    path, _, model = words.partition(" for ")
    try:
        goals = draft.fleet(path).goals
    except ControllerError as error:
        raise Unreadable(error.detail, error.remedy) from error
    meant = [one for one in goals if model in {"", one.model}]
    if not meant:
        models = ", ".join(one.model for one in goals)
        raise Unreadable(f"{path} has no model {model}", f"It has {models}.")
    return meant[0].policy


def _continue(draft: _Draft, block: str, text: str) -> None:
    if block == "policy":
        draft.policy.append(text)
    elif block == "version" and draft.scenario.versions:
        *others, version = draft.scenario.versions
        changed = replace(version, behaviours=(*version.behaviours, behaviour(text)))
        draft.scenario = replace(draft.scenario, versions=(*others, changed))
    else:
        raise Unreadable(
            "an indented line belongs to a version or a policy above it", "Begin it at the margin."
        )


def behaviour(text: str) -> Behaviour:
    """``errors 3% on hw=pi3 after 6h``.

    Raises:
        Unreadable: it is no such phrase.
    """
    found = re.fullmatch(
        rf"(?P<effect>[a-z-]+)(?: (?P<amount>[0-9.]+)(?P<unit>[%x]))?"
        rf"(?: on (?P<who>.+?))?(?: after (?P<after>{duration.PATTERN}))?",
        text,
    )
    known = ", ".join(Effect)
    if found is None or found["effect"] not in set(Effect):
        raise Unreadable(
            f"{text!r} is nothing that a version does",
            f"Write EFFECT [AMOUNT] [on WHO] [after TIME]; effects are {known}.",
        )
    effect = Effect(found["effect"])
    unit = "x" if effect in _FACTORS else "%" if effect in _SHARES else None
    if found["unit"] != unit:
        example = {"x": " 2x", "%": " 5%", None: ""}[unit]
        raise Unreadable(f"{text!r} has not the amount it needs", f"Write {effect}{example}.")
    amount = float(found["amount"] or 0)
    who = phrases.who(found["who"]) if found["who"] else EVERYONE
    after = phrases.length(found["after"])
    return Behaviour(effect, amount / 100 if unit == "%" else amount, who, after)


def _finish(draft: _Draft, name: str) -> None:
    scenario = draft.scenario
    if draft.policy:
        try:
            draft.scenario = replace(scenario, policy=changed(scenario.policy, draft.policy))
        except Unreadable as error:
            draft.wrong.append(f"{name}:{draft.policy_line}: {error}. {error.remedy}")
    known = {one.reference for one in scenario.versions}
    for line, reference in _references(scenario):
        if reference not in known:
            draft.wrong.append(
                f"{name}:{line}: there is no version {reference}. Add a line: version {reference}."
            )
    late = [one for one in scenario.commands if one.at > scenario.until > 0]
    draft.wrong += [
        f"{name}:{one.line}: this is after the end. Move it, or the line until." for one in late
    ]
    if not scenario.until and not draft.wrong:
        draft.wrong.append(f"{name}: it never ends. Add a line such as: until 2d.")


def _references(scenario: Scenario) -> list[tuple[int, str]]:
    asked = [
        (one.line, one.does.subject)
        for one in scenario.commands
        if isinstance(one.does, Ask) and one.does.verb in {Verb.START, Verb.RECALL}
    ]
    expected = [(one.line, one.subject) for one in scenario.expectations if "/" in one.subject]
    running = [(1, scenario.running)] if scenario.running else []
    return [*asked, *expected, *running]


def changed(policy: Policy, lines: list[str]) -> Policy:
    """The policy with the fields that these lines of TOML say.

    Raises:
        Unreadable: it is no TOML, or no policy.
    """
    try:
        said = tomllib.loads("\n".join(lines))
        return Policy.model_validate(_merged(policy.model_dump(mode="json"), said))
    except tomllib.TOMLDecodeError as error:
        raise Unreadable(
            f"policy: {error}", "Write fields as in fleet files: name = value."
        ) from error
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(map(str, one['loc'])) or 'policy'}: {one['msg']}" for one in error.errors()
        )
        raise Unreadable(wrong, "Correct these fields.") from error


def _merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    both = {
        key: _merged(under[key], value)
        for key, value in over.items()
        if isinstance(value, dict) and isinstance(under.get(key), dict)
    }
    return {**under, **over, **both}


def _share(found: re.Match[str]) -> Share:
    part = phrases.percent(found["part"]) / 100 if found["part"] else 1.0
    zone = found.groupdict().get("zone")
    return Share(found["name"], part, int(zone) * 3600 if zone else 0)


def _with_site(scenario: Scenario, found: re.Match[str]) -> Scenario:
    before = () if scenario.sites is ONE_SITE else scenario.sites
    return replace(scenario, sites=(*before, _share(found)))


def _with_hardware(scenario: Scenario, found: re.Match[str]) -> Scenario:
    before = () if scenario.hardware is ONE_KIND else scenario.hardware
    return replace(scenario, hardware=(*before, _share(found)))


def _with_version(scenario: Scenario, found: re.Match[str]) -> Scenario:
    model, number = found["reference"].split("/")
    if any(one.reference == found["reference"] for one in scenario.versions):
        raise Unreadable(f"{found['reference']} is there already", "Give it another number.")
    size = int(float(found["size"]) * _SIZES[found["unit"]]) if found["size"] else 2_000_000
    return replace(scenario, versions=(*scenario.versions, Version(model, int(number), size)))


def _with_link(scenario: Scenario, found: re.Match[str]) -> Scenario:
    quality = Quality()
    if found["delay"]:
        quality = replace(quality, delay=duration.seconds(found["delay"]))
    if found["loss"]:
        quality = replace(quality, loss=phrases.percent(found["loss"]) / 100)
    if found["duplication"]:
        quality = replace(quality, duplication=phrases.percent(found["duplication"]) / 100)
    if found["speed"]:
        quality = replace(quality, speed=float(found["speed"]) * _SIZES[found["unit"]])
    return replace(scenario, quality=quality)


_PART: Final = r"(?P<name>[a-z0-9][a-z0-9_-]*)(?: (?P<part>[0-9.]+)%)?"
_SIZE: Final = "(?P<unit>kB|MB|GB)"
_LINK: Final = (
    rf"(?:delay (?P<delay>{duration.PATTERN}) ?)?(?:loss (?P<loss>[0-9.]+)% ?)?"
    rf"(?:duplication (?P<duplication>[0-9.]+)% ?)?(?:speed (?P<speed>[0-9.]+){_SIZE})?"
)
_REF: Final = r"(?P<reference>[a-z][a-z0-9_-]*/[1-9][0-9]*)"

HEADER: Final[Mapping[str, tuple[str, str, Callable[[Scenario, re.Match[str]], Scenario]]]] = {
    "fleet": (
        r"(?P<n>[1-9][0-9]*) devices?",
        "fleet N devices",
        lambda scenario, found: replace(scenario, devices=int(found["n"])),
    ),
    "site": (
        rf"{_PART}(?: utc(?P<zone>[+-][0-9]{{1,2}}))?",
        "site NAME SHARE% [utc+H]",
        _with_site,
    ),
    "hardware": (_PART, "hardware NAME SHARE%", _with_hardware),
    "traffic": (
        r"(?P<n>[0-9.]+) per (?P<unit>second|minute|hour|day)",
        "traffic N per second|minute|hour|day",
        lambda scenario, found: replace(
            scenario, requests_per_second=float(found["n"]) / _RATES[found["unit"]]
        ),
    ),
    "link": (
        _LINK,
        "link [delay TIME] [loss SHARE%] [duplication SHARE%] [speed 1MB]",
        _with_link,
    ),
    "version": (rf"{_REF}(?: (?P<size>[0-9.]+){_SIZE})?", "version MODEL/N [20MB]", _with_version),
    "running": (
        _REF,
        "running MODEL/N",
        lambda scenario, found: replace(scenario, running=found["reference"]),
    ),
    "until": (
        rf"(?P<end>{duration.PATTERN})",
        "until TIME",
        lambda scenario, found: replace(scenario, until=duration.seconds(found["end"])),
    ),
}
"""How each line of the header is written, beside its usage and what it changes."""
