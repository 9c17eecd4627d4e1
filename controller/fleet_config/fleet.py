"""A fleet, read: what shall run where, and by which policy. Frozen values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from controller.fleet.selector import All, And, Selector
from controller.fleet.selector_parser import parse
from controller.fleet_config.document import FleetFile, ModelTable, Rules
from controller.fleet_config.retraining_table import RetrainingTable
from controller.retraining.proposal import RetrainPolicy
from controller.rollout.policy import STAGED, Policy
from controller.toml_file.lines import Path, line_of

RULES: Final = tuple(Rules.model_fields)
MOVED: Final = {
    "control_percent": ("control", "percent"),
    "stratify_by": ("control", "stratify_by"),
    "silence_seconds": ("budget", "silence"),
}
"""Where a file has what a policy has by itself."""
_WATCHING: Final[Mapping[str | int, str]] = {"window_rows": "rows", "window_seconds": "window"}
_RENAMED: Final = {"soak_seconds": "soak", "deadline_seconds": "deadline", "minutes": "duration"}


@dataclass(frozen=True, slots=True)
class Goal:
    """What the file wants of one model.

    Attributes:
        version: ``digits/3`` or ``digits@champion``.
        selector: the fleet's, narrowed by the model's own.
        line: in which the file names the version.
    """

    model: str
    version: str
    slot: str
    selector: str
    policy: Policy
    line: int = field(default=1, compare=False)


@dataclass(frozen=True, slots=True)
class Alert:
    """Something that people want to know of.

    Attributes:
        when: an expression over ``fleet.`` quantities.
        over_seconds: of what devices told in so long a time.
    """

    name: str
    model: str
    when: str
    over_seconds: float
    severity: str


@dataclass(frozen=True, slots=True)
class Fleet:
    """A fleet's file, read."""

    name: str
    description: str
    selector: str
    goals: tuple[Goal, ...]
    alerts: tuple[Alert, ...] = ()
    retraining: tuple[RetrainPolicy, ...] = ()


def fleet_of(document: FleetFile, lines: Mapping[Path, int]) -> Fleet:
    """What the document says; ``lines`` of its keys.

    Raises:
        pydantic.ValidationError: a policy that can't be; ``policy_of`` says of which model.
    """
    return Fleet(
        name=document.fleet.name,
        description=document.fleet.description,
        selector=document.fleet.selector,
        goals=tuple(
            Goal(
                model=one.name,
                version=one.version,
                slot=one.slot.value,
                selector=narrowed(document.fleet.selector, one.selector),
                policy=policy_of(document, one),
                line=line_of(lines, ("models", number, "version")),
            )
            for number, one in enumerate(document.models)
        ),
        alerts=tuple(
            Alert(one.name, one.model, one.when, one.over, one.severity.value)
            for one in document.alerts
        ),
        retraining=tuple(_retraining(document, one) for one in document.retraining),
    )


def _retraining(document: FleetFile, table: RetrainingTable) -> RetrainPolicy:
    champion = next(one for one in document.models if one.name == table.model)
    return RetrainPolicy(
        model=table.model,
        selector=narrowed(document.fleet.selector, champion.selector),
        retrain=table.retrain,
        share=table.share,
        after_seconds=table.after,
        rounds=table.rounds,
        seed=table.seed,
        settings=table.settings(),
    )


def policy_of(document: FleetFile, model: ModelTable) -> Policy:
    """The model's policy: what it says itself, else what the file says, else ``STAGED``.

    Raises:
        pydantic.ValidationError: it can't be; the places are a policy's.
    """
    said = STAGED.model_dump()
    for rules in (document, model):
        for key, value in _policy_keys(rules).items():
            table = isinstance(value, Mapping)
            said[key] = {**said[key], **value} if table else value
    for one in document.monitors:
        if one.model == model.name:
            said["watching"] = {
                "window_rows": one.rows or 0,
                "window_seconds": one.window or 0.0,
            }
    return Policy.model_validate(said)


def place_in_file(place: Path) -> Path:
    """Where a file has what stands at ``place`` in a policy."""
    if place and place[0] == "watching":
        return ("monitors", *(_WATCHING.get(one, one) for one in place[1:]))
    if place and isinstance(place[0], str) and place[0] in MOVED:
        return (*MOVED[place[0]], *place[1:])
    return tuple(_RENAMED.get(one, one) if isinstance(one, str) else one for one in place)


def narrowed(fleet: str, own: str) -> str:
    """The devices that both selectors match; an empty ``own`` is all of them."""
    parts = [part for text in (fleet, own or "all") for part in _parts(parse(text))]
    if not parts:
        return str(All())
    return str(parts[0] if len(parts) == 1 else And(tuple(parts)))


def _parts(selector: Selector) -> Sequence[Selector]:
    match selector:
        case All():
            return ()
        case And(parts):
            return parts
        case _:
            return (selector,)


def _policy_keys(rules: Rules) -> dict[str, Any]:
    """What the file says of a policy, by the policy's own names."""
    said = rules.model_dump(by_alias=True, exclude_unset=True, include=set(RULES))
    for key, (table, name) in MOVED.items():
        if name in said.get(table, {}):
            said[key] = said[table].pop(name)
    said.pop("control", None)
    return said
