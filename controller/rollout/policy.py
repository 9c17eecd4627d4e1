"""What a rollout is held to: stages, control group, pace, budgets, proof and gates. Frozen values.

A policy is stored with its rollout as JSON and never changes: another policy is another rollout.
Whoever makes one, from a fleet's file, a request or a stored row, is told everything that is wrong
with it at once, each with its field. Shares are from 0 to 1, times in seconds.
"""

import math
from collections.abc import Iterable, Sequence
from enum import StrEnum
from itertools import pairwise
from typing import Annotated, Final, NoReturn

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from controller.errors import BadExpression, BadSelector
from controller.fleet.selector_parser import parse
from controller.rollout.conditions import Conditions
from controller.rollout.gate import expression_parser


class Breach(StrEnum):
    """What happens when a stage breaks its budget or a gate."""

    PAUSE = "pause"
    ROLLBACK_STAGE = "rollback-stage"  # its devices go back to what they ran; then a pause
    ROLLBACK_ALL = "rollback-all"  # all devices of the rollout go back, and it ends


class Metric(StrEnum):
    """What gates compare: of each device, over the time that it has run the version."""

    ERROR_RATE = "error-rate"  # share of the requests that the runtime failed
    LATENCY_P99 = "latency-p99"  # seconds
    DATA_QUALITY = "data-quality"  # share of the windows whose data are faulty
    DRIFT = "drift"  # share of the windows whose data have moved
    CONFIDENCE = "confidence"  # mean of the highest class probability
    ESTIMATED_ACCURACY = "estimated-accuracy"


HIGHER_IS_BETTER: Final = frozenset({Metric.CONFIDENCE, Metric.ESTIMATED_ACCURACY})


def _readable(selector: str) -> str:
    try:
        return str(parse(selector)) if selector else ""
    except BadSelector as error:
        raise ValueError(error.detail) from error


def _decidable(expression: str) -> str:
    try:
        return str(expression_parser.parse(expression))
    except BadExpression as error:
        raise ValueError(error.detail) from error


Name = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9][a-z0-9_-]*$")]
Percent = Annotated[float, Field(gt=0, le=100)]
Share = Annotated[float, Field(ge=0, le=1)]
Sure = Annotated[float, Field(ge=0.5, lt=1)]
Seconds = Annotated[float, Field(ge=0, le=3.2e8)]
Whole = Annotated[int, Field(ge=0, le=1_000_000_000)]
SelectorText = Annotated[str, AfterValidator(_readable)]
Devices = Annotated[SelectorText, Field(min_length=1)]
ExpressionText = Annotated[str, AfterValidator(_decidable)]


Objection = tuple[tuple[str | int, ...], str, Sequence[str]]
"""Where something is wrong, what, and which keys it follows from."""


def refuse(what: str, objections: Iterable[Objection]) -> NoReturn:
    """Raises all that is wrong with a value as one whole, for a validator of it.

    Raises:
        ValidationError: of each objection its place, its text, and the keys as ``ctx["about"]``.
    """
    raise ValidationError.from_exception_data(
        what,
        [
            InitErrorDetails(
                type=PydanticCustomError("policy", "{text}", {"text": text, "about": list(about)}),
                loc=place,
                input=None,
            )
            for place, text, about in objections
        ],
    )


class Part(BaseModel):
    """A frozen value that refuses what it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Gate(Part):
    """Holds a stage that does worse on one metric.

    Attributes:
        margin: how much worse than the control group it may do, in the metric's own unit; None
            compares with nobody.
        margin_ratio: likewise, as a share of what the control group does; of both, the wider holds.
        limit: what it may come to at all; of a metric of which more is better, at least.
    """

    metric: Metric
    margin: Annotated[float, Field(ge=0)] | None = None
    margin_ratio: Annotated[float, Field(ge=0)] | None = None
    limit: Annotated[float, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _bounded(self) -> "Gate":
        if self.margin is None and self.margin_ratio is None and self.limit is None:
            raise ValueError("needs margin, margin_ratio or limit")
        return self


class Expression(Part):
    """A gate of one's own, such as ``stage.error_rate <= 2 * control.error_rate + 0.001``."""

    name: Name
    holds: ExpressionText


class Budget(Part):
    """Shares of a stage's devices that may be lost before it is a breach.

    A stage breaks its budget when the share is above it with ``confidence`` (Clopper & Pearson
    1934), so that one of three does not; and at its end, when nothing more can be learnt.

    Attributes:
        failed: proven not to run the version.
        unreachable: were told, and are silent since, or ran out of online time.
    """

    failed: Share = 0.02
    unreachable: Share = 0.1
    confidence: Sure = 0.95


class Proof(Part):
    """What a stage must show before the next one begins.

    A stage that can't show it yet grows, up to the size of the next one.

    Attributes:
        minimum_devices: that are decided.
        minimum_inferences: that the version has answered in the stage.
        failing_below: the true share of failing devices is below this with ``confidence``, so that
            none of three does not bless; 1.0 asks for nothing.
    """

    minimum_devices: Annotated[int, Field(ge=1)] = 1
    minimum_inferences: Whole = 0
    failing_below: Share = 1.0
    confidence: Sure = 0.99


class Stage(Part):
    """One step: so many devices more, and what they must show.

    Just one of ``percent``, ``count`` and ``selector`` says how many devices have the version when
    the stage ends.

    Attributes:
        percent: of the devices that match, those of earlier stages included.
        count: of devices, likewise.
        selector: all devices that match this, too.
        not_before: Unix time before which it does not begin.
        approval: somebody must approve before it begins.
        soak_seconds: a device must have said that it has run the version for so long at a stretch.
        deadline_seconds: of *online* time in which a device must prove that it runs the version. So
            long by the clock the stage waits for those that are deferred, or if all are away.
        gates, expressions: beside the policy's own.
    """

    name: Name
    percent: Percent | None = None
    count: Annotated[int, Field(ge=1)] | None = None
    selector: SelectorText = ""
    not_before: Annotated[float, Field(ge=0)] = 0.0
    approval: bool = False
    soak_seconds: Seconds = 1800.0
    deadline_seconds: Annotated[float, Field(gt=0)] = 86_400.0
    on_breach: Breach = Breach.PAUSE
    gates: tuple[Gate, ...] = ()
    expressions: tuple[Expression, ...] = ()

    @model_validator(mode="after")
    def _sized_once(self) -> "Stage":
        said = (self.percent is not None) + (self.count is not None) + bool(self.selector)
        if said != 1:
            raise ValueError("needs just one of percent, count and selector")
        return self


class Pace(Part):
    """How fast devices are released within a stage.

    Attributes:
        per_minute: at most so many; 0 is no limit.
        growth: the limit times this ...
        growth_after: ... each time so many devices more have succeeded; 0 never grows.
        site_label: a label that names a device's site.
        per_site: at most so many devices of a site install at once; 0 is no limit.
    """

    per_minute: Annotated[float, Field(ge=0)] = 0.0
    growth: Annotated[float, Field(ge=1, le=10)] = 1.0
    growth_after: Whole = 0
    site_label: Name = "site"
    per_site: Whole = 0


class Watching(Part):
    """How often devices judge their data while they run the version; 0 keeps what its bundle says.

    Attributes:
        window_rows: that a window needs to be judged.
        window_seconds: that it is open at least.
    """

    window_rows: Annotated[int, Field(ge=0, le=10_000_000)] = 0
    window_seconds: Annotated[float, Field(ge=0, le=366 * 86_400)] = 0.0


class Policy(Part):
    """All of it.

    Attributes:
        control_percent: of the devices that match, held back until every stage has passed: what
            gates compare with.
        stratify_by: labels or facts; every stage and the control group has its share of each
            combination of their values.
        silence_seconds: a device that was told and is offline for so long is unreachable.
        conditions: what devices wait for before they switch.
        watching: how devices watch the version once they run it.
    """

    stages: Annotated[tuple[Stage, ...], Field(min_length=1, max_length=50)]
    control_percent: Annotated[float, Field(ge=0, le=50)] = 0.0
    stratify_by: Annotated[tuple[str, ...], Field(max_length=4)] = ()
    pace: Pace = Pace()
    budget: Budget = Budget()
    proof: Proof = Proof()
    gates: tuple[Gate, ...] = ()
    expressions: tuple[Expression, ...] = ()
    silence_seconds: Annotated[float, Field(gt=0)] = 86_400.0
    conditions: Conditions = Conditions()
    watching: Watching = Watching()

    @model_validator(mode="after")
    def _goes_on(self) -> "Policy":
        wrong = [*_stages_in_order(self.stages)]
        if self.proof.failing_below <= self.budget.failed:
            text = (
                f"must be above budget.failed, which is {self.budget.failed:g}, or a version that "
                "just keeps the budget could never pass"
            )
            wrong.append((("proof", "failing_below"), text, ("failing_below", "failed")))
        if wrong:
            refuse("policy", wrong)
        return self


def _stages_in_order(stages: Sequence[Stage]) -> Iterable[Objection]:
    about = ("stages", "name", "percent", "count", "selector")
    seen: set[str] = set()
    for number, one in enumerate(stages):
        if one.name in seen:
            yield (
                ("stages", number, "name"),
                f"two stages bear the name {one.name!r}; rename one",
                about,
            )
        seen.add(one.name)
    for key in ("percent", "count"):
        sized = [
            (number, size)
            for number, one in enumerate(stages)
            if (size := getattr(one, key)) is not None
        ]
        for (_, earlier), (number, later) in pairwise(sized):
            if later <= earlier:
                text = f"counts the stages before it, and must be above their {earlier:g}"
                yield ("stages", number, key), text, about
    if stages[-1].percent != 100.0:
        text = "devices would be left out; the last stage must have percent = 100"
        yield ("stages", len(stages) - 1, "percent"), text, about


def soak_asked(policy: Policy, stage: int) -> int:
    """For how many whole seconds a device of that stage must say that it has run the version.

    Who comes after the last stage, as the control group does, is held to the last one.
    """
    return math.ceil(policy.stages[min(stage, len(policy.stages) - 1)].soak_seconds)


AT_ONCE: Final = Policy(stages=(Stage(name="all", percent=100.0, soak_seconds=0.0),))
"""Every device at once: for small fleets that somebody watches, and for emergencies."""

GATES: Final = (
    Gate(metric=Metric.ERROR_RATE, margin=0.01),
    Gate(metric=Metric.LATENCY_P99, margin_ratio=0.5),
    Gate(metric=Metric.DATA_QUALITY, margin=0.1),
    Gate(metric=Metric.DRIFT, margin=0.2),
    Gate(metric=Metric.CONFIDENCE, margin=0.05),
)

STAGED: Final = Policy(
    stages=(
        Stage(name="canary", percent=10.0),
        Stage(name="half", percent=50.0),
        Stage(name="all", percent=100.0),
    ),
    control_percent=10.0,
    proof=Proof(minimum_devices=5, failing_below=0.1),
    gates=GATES,
)
"""The default: a canary, half, then all, against a control group."""
