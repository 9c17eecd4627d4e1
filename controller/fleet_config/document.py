"""What stands in a fleet's file: its tables and keys, with what they mean and their defaults.

What a file leaves out is as in ``controller.rollout.policy.STAGED``. The editors' schema and the
reference in ``docs/`` are made from these classes: a docstring here is what operators read.
"""

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Annotated, Final, TypeVar

from pydantic import (
    AwareDatetime,
    ConfigDict,
    Field,
    PlainSerializer,
    model_validator,
)

from controller.fleet_config.alert_table import AlertTable
from controller.fleet_config.conditions_table import ConditionsTable
from controller.fleet_config.monitor_table import MonitorTable
from controller.fleet_config.retraining_table import RetrainingTable
from controller.rollout.policy import (
    STAGED,
    Breach,
    Devices,
    ExpressionText,
    Metric,
    Name,
    Objection,
    Percent,
    Share,
    Stage,
    Sure,
    Whole,
    refuse,
)
from controller.toml_file.table import Duration, Lasting, Many, Ratio, Table
from protos.limits import MODEL_NAME

MAX_BYTES: Final = 1024 * 1024
MAX_MODELS: Final = 50

Value = TypeVar("Value")
SIZES: Final = ("percent", "count", "selector")
BOUNDS: Final = ("margin", "margin_ratio", "limit")


class Slot(StrEnum):
    """Where a version runs on a device."""

    CHAMPION = "champion"
    CHALLENGER = "challenger"


class FleetTable(Table):
    """Which devices."""

    name: Annotated[Name, Field(examples=["meters"])]
    """The fleet's name: what its rollouts bear, and what a later file of this name replaces."""

    selector: Annotated[Devices, Field(examples=["kind=meter and site in (berlin, munich)"])]
    """The devices that are meant, by labels and facts; `all` is every device."""

    description: Annotated[str, Field(max_length=1000, examples=["Household meters"])] = ""
    """For people."""


class GateTable(Table):
    """Holds a stage that does worse on one metric. Needs `margin`, `margin_ratio` or `limit`."""

    model_config = ConfigDict(json_schema_extra={"anyOf": [{"required": [one]} for one in BOUNDS]})

    metric: Annotated[Metric, Field(strict=False, examples=["error-rate"])]
    """What is compared: of each device, over the time that it has run the version."""

    margin: Annotated[Ratio | None, Field(examples=[0.01])] = None
    """How much worse than the control group the stage may do, in the metric's own unit."""

    margin_ratio: Annotated[Ratio | None, Field(examples=[0.5])] = None
    """Likewise, as a share of what the control group does; of both, the wider holds."""

    limit: Annotated[Ratio | None, Field(examples=[0.25])] = None
    """What the metric may come to at all; if more of it is better, at least this."""

    @model_validator(mode="after")
    def _bounded(self) -> "GateTable":
        if not self.model_fields_set & set(BOUNDS):
            refuse(
                "gate", [((), "is held to nothing; give it margin, margin_ratio or limit", BOUNDS)]
            )
        return self


class ExpressionTable(Table):
    """A gate of one's own."""

    name: Annotated[Name, Field(examples=["errors"])]
    """What the reasons call it."""

    holds: Annotated[
        ExpressionText,
        Field(examples=["stage.error_rate <= 2 * control.error_rate + 0.001"]),
    ]
    """What must be true of the stage, and of the control group that it is compared with."""


class StageTable(Table):
    """One step: so many devices more, and what they must show. In order; the last is 100 percent.

    Just one of `percent`, `count` and `selector` says how many devices have the version when the
    stage ends.
    """

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": [one]} for one in SIZES]})

    name: Annotated[Name, Field(examples=["canary"])]
    """What plans and reasons call it."""

    percent: Annotated[Percent | None, Field(examples=[10])] = None
    """Of the devices that match, those of earlier stages included."""

    count: Annotated[int | None, Field(ge=1, examples=[5])] = None
    """Of devices, those of earlier stages included."""

    selector: Annotated[Devices, Field(examples=["ring=early"])] = ""
    """All devices that match this, beside those of earlier stages."""

    not_before: Annotated[
        AwareDatetime | None,
        Field(examples=["2027-01-11T09:00:00+01:00"]),
        PlainSerializer(lambda moment: moment.timestamp() if moment else 0.0),
    ] = None
    """The stage does not begin before: a date and time, with its offset and without quotes."""

    approval: bool = False
    """Somebody must approve before the stage begins."""

    soak: Annotated[Duration, Field(serialization_alias="soak_seconds")] = Stage.model_fields[
        "soak_seconds"
    ].default
    """For so long a device must have run the version, proven and without a restart, before it counts.
    It measures that itself and says so, signed; no clock that is set ends or lengthens it. One that
    has not said it when the deadline and the soak are over, in online time, is unreachable."""

    deadline: Annotated[Lasting, Field(serialization_alias="deadline_seconds")] = (
        Stage.model_fields["deadline_seconds"].default
    )
    """Of online time, in which a device must prove that it runs the version; waits on purpose, as
    for a window, take nothing from it. So long by the clock a stage waits for devices that do so,
    and, if all are away, for the first of them, and pauses if none comes."""

    on_breach: Annotated[Breach, Field(strict=False)] = Breach.PAUSE
    """What happens when the stage breaks its budget or a gate: `pause` holds the rollout;
    `rollback-stage` puts the stage's devices back, then holds; `rollback-all` ends it, and puts
    all of its devices back."""

    gates: Annotated[Many[GateTable], Field(max_length=50)] = ()
    """Beside those of the whole rollout."""

    expressions: Annotated[Many[ExpressionTable], Field(max_length=50)] = ()
    """Beside those of the whole rollout."""

    @model_validator(mode="after")
    def _sized_once(self) -> "StageTable":
        said = [one for one in SIZES if one in self.model_fields_set]
        if not said:
            refuse("stage", [((), "says of no devices; give it percent, count or selector", SIZES)])
        if len(said) > 1:
            text = f"{' and '.join(said)} can't both be; keep one of them"
            refuse("stage", [((said[-1],), text, SIZES)])
        return self


class ControlTable(Table):
    """The control group: devices that keep what they run until every stage has passed."""

    percent: Annotated[float, Field(ge=0, le=50)] = STAGED.control_percent
    """Of the devices that match; 0 is none, and gates then compare with nobody."""

    stratify_by: Annotated[
        Many[Annotated[str, Field(min_length=1, max_length=63)]],
        Field(max_length=4, examples=[["site", "arch"]]),
    ] = STAGED.stratify_by
    """Labels or facts: every stage and the control group gets its share of each combination."""


class PaceTable(Table):
    """How fast devices are released within a stage."""

    per_minute: Ratio = STAGED.pace.per_minute
    """At most so many devices a minute; 0 is no limit."""

    growth: Annotated[float, Field(ge=1, le=10)] = STAGED.pace.growth
    """The limit grows by this factor ..."""

    growth_after: Whole = STAGED.pace.growth_after
    """... each time so many devices more have succeeded; 0 never grows."""

    site_label: Name = STAGED.pace.site_label
    """The label that names a device's site."""

    per_site: Whole = STAGED.pace.per_site
    """At most so many devices of a site install at once; 0 is no limit."""


class BudgetTable(Table):
    """How many of a stage's devices may be lost before it is a breach, as shares from 0 to 1."""

    failed: Share = STAGED.budget.failed
    """Devices that have proven not to run the version."""

    unreachable: Share = STAGED.budget.unreachable
    """Devices that were told, and are silent since or have run out of online time."""

    confidence: Sure = STAGED.budget.confidence
    """How sure it must be that the budget is broken before a stage ends (Clopper and Pearson)."""

    silence: Lasting = STAGED.silence_seconds
    """A device that was told and is offline for so long is unreachable."""


class ProofTable(Table):
    """What a stage must show before the next begins. A stage that can't show it yet grows."""

    minimum_devices: Annotated[int, Field(ge=1)] = STAGED.proof.minimum_devices
    """Devices that are decided."""

    minimum_inferences: Whole = STAGED.proof.minimum_inferences
    """Requests that the version has answered in the stage."""

    failing_below: Share = STAGED.proof.failing_below
    """The true share of failing devices is below this, with `confidence`; 1.0 asks for nothing."""

    confidence: Sure = STAGED.proof.confidence
    """See `failing_below`."""


class Rules(Table):
    """How carefully: of the whole file, or of one of its models."""

    stages: Annotated[Many[StageTable], Field(min_length=1, max_length=50)] = tuple(
        StageTable(name=one.name, percent=one.percent) for one in STAGED.stages
    )
    """Steps, in order. A stage begins when the one before it has passed."""

    control: ControlTable = ControlTable()
    """The control group."""

    pace: PaceTable = PaceTable()
    """How fast."""

    budget: BudgetTable = BudgetTable()
    """How many devices may be lost."""

    proof: ProofTable = ProofTable()
    """What a stage must show."""

    gates: Annotated[Many[GateTable], Field(max_length=50)] = tuple(
        GateTable.model_validate(one.model_dump(exclude_none=True)) for one in STAGED.gates
    )
    """What every stage is held to, on one metric each; `gates = []` asks for none."""

    expressions: Annotated[Many[ExpressionTable], Field(max_length=50)] = ()
    """Gates of one's own."""

    conditions: ConditionsTable = ConditionsTable()
    """What devices wait for before they switch."""


class ModelTable(Rules):
    """A model that the fleet runs. Tables under it, such as `[models.pace]`, hold for it alone.

    Their keys go before those of the whole file; a list, such as `[[models.stages]]`, replaces the
    file's.
    """

    name: Annotated[str, Field(pattern=f"^{MODEL_NAME}$", examples=["digits"])]
    """The model."""

    version: Annotated[
        str,
        Field(
            pattern=rf"^{MODEL_NAME}(/[1-9][0-9]{{0,8}}|@{MODEL_NAME})$",
            examples=["digits/3", "digits@champion"],
        ),
    ]
    """Which version: by number, or by an alias that is looked up when the file is applied."""

    slot: Annotated[Slot, Field(strict=False)] = Slot.CHAMPION
    """`champion` answers; `challenger` runs on the same inputs in its shadow."""

    selector: Annotated[Devices, Field(examples=["hw!=pi3"])] = ""
    """Which of the fleet's devices; none is all of them."""

    @model_validator(mode="after")
    def _one_model(self) -> "ModelTable":
        if not self.version.startswith((f"{self.name}/", f"{self.name}@")):
            text = f"is of another model than `name`, which is {self.name!r}; make them agree"
            refuse("model", [(("version",), text, ("name", "version"))])
        return self


class FleetFile(Rules):
    """A fleet: which devices, which models, and how carefully new versions get there."""

    fleet: FleetTable
    """Which devices."""

    models: Annotated[Many[ModelTable], Field(min_length=1, max_length=MAX_MODELS)]
    """What they run."""

    monitors: Annotated[Many[MonitorTable], Field(max_length=MAX_MODELS)] = ()
    """How devices watch them."""

    alerts: Annotated[Many[AlertTable], Field(max_length=MAX_MODELS)] = ()
    """What people want to know of."""

    retraining: Annotated[Many[RetrainingTable], Field(max_length=MAX_MODELS)] = ()
    """What happens when their data change."""

    @model_validator(mode="after")
    def _each_once(self) -> "FleetFile":
        wrong = [*self._twice(), *self._of_no_model()]
        if wrong:
            refuse("fleet", wrong)
        return self

    def _twice(self) -> Iterable[Objection]:
        places = [(one.name, one.slot) for one in self.models]
        for number, (name, slot) in _repeated(places):
            text = (
                f"{name!r} is there twice for the slot {slot}; put one of them into another fleet"
            )
            yield ("models", number), text, ("models", "name", "slot")
        for number, alert in _repeated([one.name for one in self.alerts]):
            text = f"two alerts bear the name {alert!r}; rename one"
            yield ("alerts", number, "name"), text, ("alerts", "name")
        for key, what in (("monitors", "a monitor"), ("retraining", "retraining")):
            for number, model in _repeated([one.model for one in getattr(self, key)]):
                text = f"{model!r} has {what} already; make one of them"
                yield (key, number, "model"), text, (key, "model")

    def _of_no_model(self) -> Iterable[Objection]:
        known = [one.name for one in self.models]
        for key in ("monitors", "alerts", "retraining"):
            for number, one in enumerate(getattr(self, key)):
                if one.model not in known:
                    text = (
                        f"{one.model!r} is none of the file's models; name one of "
                        f"{', '.join(known)}"
                    )
                    yield (key, number, "model"), text, ("models", "model")


def _repeated(values: Sequence[Value]) -> Iterable[tuple[int, Value]]:
    return [(number, one) for number, one in enumerate(values) if one in values[:number]]
