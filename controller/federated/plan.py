"""What stands in a run file: how a federated run goes. The tables are the plan, frozen once read.

What a file leaves out has the defaults here; the editors' schema is made from these classes, so a
docstring here is what operators read. fleet_configs/federated.toml has every key. Names are Flower's
where Flower has one.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Annotated, Final

from pydantic import Field, model_validator

from controller.federated.task import Encoding
from controller.rollout.policy import Devices, Objection, Share, refuse
from controller.toml_file.table import Duration, Lasting, Ratio, Table
from protos.limits import MODEL_NAME

MAX_BYTES: Final = 64 * 1024

FEWEST_TOLD: Final = 2

Count = Annotated[int, Field(ge=1, le=1_000_000_000)]
Above = Annotated[float, Field(gt=0)]
Below1 = Annotated[float, Field(ge=0, lt=1)]


class StrategyName(StrEnum):
    """Flower's strategies, by the names of their classes."""

    FED_AVG = "FedAvg"
    FED_PROX = "FedProx"
    FED_AVG_M = "FedAvgM"
    FED_ADAM = "FedAdam"
    FED_YOGI = "FedYogi"
    FED_ADAGRAD = "FedAdagrad"
    TRIMMED_MEAN = "FedTrimmedAvg"
    MEDIAN = "FedMedian"
    KRUM = "Krum"
    MULTI_KRUM = "MultiKrum"
    BULYAN = "Bulyan"


class Mode(StrEnum):
    """When updates are aggregated."""

    SYNCHRONOUS = "synchronous"  # round by round
    BUFFERED = "buffered"  # whenever enough have come, of whatever age: FedBuff


class Update(StrEnum):
    """How devices send what they have learnt."""

    INT8 = "int8"
    FLOAT32 = "float32"


ADAPTIVE: Final = ("eta", "eta_l", "tau")
PARAMETERS: Final[Mapping[StrategyName, tuple[str, ...]]] = {
    StrategyName.FED_AVG: (),
    StrategyName.FED_PROX: (),
    StrategyName.FED_AVG_M: ("server_learning_rate", "server_momentum"),
    StrategyName.FED_ADAM: (*ADAPTIVE, "beta_1", "beta_2"),
    StrategyName.FED_YOGI: (*ADAPTIVE, "beta_1", "beta_2"),
    StrategyName.FED_ADAGRAD: ADAPTIVE,
    StrategyName.TRIMMED_MEAN: ("beta",),
    StrategyName.MEDIAN: (),
    StrategyName.KRUM: ("num_malicious_nodes",),
    StrategyName.MULTI_KRUM: ("num_malicious_nodes", "num_nodes_to_select"),
    StrategyName.BULYAN: ("num_malicious_nodes",),
}
"""What each strategy takes, as Flower calls it. FedProx's proximal_mu is ``training.proximal``."""

OWN: Final = ("name", "fraction", "average_last")
"""Keys of ``[strategy]`` that are the same for all."""


def refuse_any(what: str, objections: Iterable[Objection]) -> None:
    """Raises ``ValidationError`` of all of them, if there are any."""
    found = list(objections)
    if found:
        refuse(what, found)


class RunTable(Table):
    """What is trained, by whom, for how long."""

    name: Annotated[str, Field(max_length=200, examples=["After the lamps were changed"])] = ""
    """For people."""

    model: Annotated[
        str,
        Field(
            pattern=rf"^{MODEL_NAME}(/[1-9][0-9]{{0,8}}|@{MODEL_NAME})$",
            examples=["digits/3", "digits@champion"],
        ),
    ]
    """The version to start from, with its train step; an alias is looked up when the run starts."""

    selector: Annotated[Devices, Field(examples=["kind=camera and site!=lab"])] = "all"
    """Which devices may take part, of those that run the version."""

    rounds: Annotated[int, Field(ge=1, le=100_000)] = 10
    """Rounds, or with `mode = "buffered"` new global models."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Of everything that is drawn: the same seed and the same replies give the same parameters."""


class StrategyTable(Table):
    """How updates become the next global model: one of Flower's strategies.

    The other keys are Flower's, and only those that the strategy takes may stand here; left out,
    they are as Flower has them.
    """

    name: Annotated[StrategyName, Field(strict=False)] = StrategyName.FED_AVG
    """The strategy: `FedAvg`, `FedProx`, `FedAvgM`, `FedAdam`, `FedYogi`, `FedAdagrad`,
    `FedTrimmedAvg`, `FedMedian`, `Krum`, `MultiKrum` or `Bulyan`."""

    fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Of the devices that are ready, each round wants this share."""

    average_last: Annotated[float, Field(ge=0, le=1, examples=[0.1])] = 0.0
    """What comes of the run is the mean of the global models of its last rounds, this share of all; 0 is
    the last model alone. It is steadier where devices differ and `rotation` is off or can't be kept. An
    app of one's own decides for itself."""

    server_learning_rate: Annotated[Above | None, Field(examples=[1.0])] = None
    """FedAvgM."""

    server_momentum: Annotated[Below1 | None, Field(examples=[0.9])] = None
    """FedAvgM."""

    eta: Annotated[Above | None, Field(examples=[0.1])] = None
    """FedAdam, FedYogi, FedAdagrad: the server's learning rate."""

    eta_l: Annotated[Above | None, Field(examples=[0.1])] = None
    """FedAdam, FedYogi, FedAdagrad."""

    tau: Annotated[Above | None, Field(examples=[0.001])] = None
    """FedAdam, FedYogi, FedAdagrad: how little adapting there is."""

    beta_1: Annotated[Below1 | None, Field(examples=[0.9])] = None
    """FedAdam, FedYogi."""

    beta_2: Annotated[Below1 | None, Field(examples=[0.99])] = None
    """FedAdam, FedYogi."""

    beta: Annotated[float | None, Field(ge=0, lt=0.5, examples=[0.2])] = None
    """FedTrimmedAvg: the share that is cut off at each end."""

    num_malicious_nodes: Annotated[int | None, Field(ge=0, examples=[2])] = None
    """Krum, MultiKrum, Bulyan: how many it withstands."""

    num_nodes_to_select: Annotated[int | None, Field(ge=1, examples=[5])] = None
    """MultiKrum: how many it averages."""

    @model_validator(mode="after")
    def _takes_them(self) -> "StrategyTable":
        known = PARAMETERS[self.name]
        refuse_any("strategy", self._foreign(known))
        return self

    def _foreign(self, known: tuple[str, ...]) -> Iterable[Objection]:
        has = f"it takes {', '.join(known)}" if known else "it takes no parameter"
        for key in sorted(self.model_fields_set - {*OWN, *known}):
            yield (key,), f"is no parameter of {self.name}; {has}", (key, "name")

    def parameters(self) -> dict[str, float | int]:
        """What the file says of the strategy's own parameters, as Flower calls them."""
        said = {key: getattr(self, key) for key in PARAMETERS[self.name]}
        return {key: value for key, value in said.items() if value is not None}


class RoundTable(Table):
    """Whom a round asks, and when it is over."""

    mode: Annotated[Mode, Field(strict=False)] = Mode.SYNCHRONOUS
    """`synchronous` goes round by round; `buffered` aggregates whenever `buffer` updates have come
    (FedBuff), so that slow devices hold nobody up."""

    minimum_cohort: Count = 2
    """Fewer good replies are not aggregated: the round is tried again, and after five times the run has
    failed. Nor does it begin before so many devices are ready."""

    over_selection: Annotated[float, Field(ge=1, le=10)] = 1.3
    """So many times the devices that a round wants are asked, as far as there are any."""

    rotation: bool = True
    """Nobody is asked again before all others that are ready have been; `false` draws anew each round."""

    quorum: Annotated[float, Field(gt=0, le=1)] = 1.0
    """The round ends when this share of the devices that it wants have replied well; what comes after
    that is surplus."""

    deadline: Annotated[Lasting, Field(le=30 * 86_400)] = 600.0
    """So long after it began it ends with what has come."""

    patience: Annotated[Duration, Field(le=30 * 86_400)] = 60.0
    """A round does not wait for its deadline for devices whose links have been down for so long, once
    `minimum_cohort` have replied well and all others have answered. Who is back before that counts.
    With `buffered` they make place for others."""

    rest: Annotated[Duration, Field(le=30 * 86_400)] = 0.0
    """A device that has replied takes no other task for so long, and a random part of that more."""

    buffer: Count = 10
    """`buffered`: updates that make a new global model."""

    concurrency: Count = 20
    """`buffered`: devices that are at work at once."""

    staleness: Annotated[int, Field(ge=0, le=1_000)] = 10
    """`buffered`: an update to a global model older than so many others is refused."""


class TrainingTable(Table):
    """What each device does in a round, with the version's signed train step."""

    epochs: Annotated[int, Field(ge=1, le=10_000)] = 1
    """Passes over its examples."""

    batch_size: Annotated[int, Field(ge=1, le=100_000)] = 32
    """Examples of a step."""

    learning_rate: Annotated[float, Field(gt=0, le=1_000)] = 0.1
    """Of the devices' steps."""

    momentum: Below1 = 0.0
    """Needs a train step with momentum."""

    proximal: Ratio = 0.0
    """How strongly devices are held to the global model (FedProx); needs a train step that has it."""

    max_steps: Annotated[int, Field(ge=1, le=10_000_000)] = 10_000
    """A device with many examples stops after so many steps. Its own budget goes before."""


class AdmissionTable(Table):
    """What a reply must be like to count."""

    most_examples: Count = 10_000
    """A reply weighs as its examples, and no more than so many."""

    norm_bound: Ratio = 0.0
    """An update whose Euclidean norm over all parameters is larger is refused; 0 is no bound."""

    norm_ratio: Annotated[float, Field(ge=0)] = 10.0
    """An update whose norm is more than so many times the median of its round's is refused; 0 is no
    bound. In `buffered` the median is of those that make the new model and of the fifty that counted
    last. From three updates on: of two nobody can say which is out of the way."""

    reply_bytes: Annotated[int, Field(ge=0, le=2**31)] = 0
    """The most that a reply may have; 0 is what the model's parameters can take."""


class UpdateTable(Table):
    """How updates travel."""

    encoding: Annotated[Update, Field(strict=False)] = Update.INT8
    """`int8`: the difference to the global model, a quarter of the bytes, what is rounded away goes
    into the next one; `float32`: as it is."""

    @property
    def wire(self) -> Encoding:
        """As tasks have it."""
        return Encoding.INT8_STEP if self.encoding is Update.INT8 else Encoding.FLOAT32


class EvaluationTable(Table):
    """How good the global model is on what devices hold out; they send counts only."""

    before: bool = True
    """The parent, before the first round."""

    after: bool = True
    """What came of it, after the last round."""

    every: Annotated[int, Field(ge=0, le=100_000)] = 0
    """After every so many rounds; 0 is never in between."""

    fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Of the devices that are ready, this share is asked; those first that were asked before."""

    minimum_cohort: Annotated[int | None, Field(ge=1, le=1_000_000_000, examples=[2])] = None
    """What fewer devices tell is not believed: then nothing is known. Left out, it is 2, or 1 where
    `[round]` has 1. From three on, no single one decides: none counts for more than twice the examples of the middle one, and what a fifth of them says
    counts for no more than what the next one says."""


class CandidateTable(Table):
    """What becomes of the parameters in the end."""

    registered: bool = True
    """A version is registered, as parent and step. Approvers sign it as any other."""

    at_least: Annotated[
        Mapping[str, float], Field(max_length=20, examples=[{"accuracy": 0.9}])
    ] = {}
    """What the last evaluation must have come to, by metric; else the version is registered as
    rejected, and nobody can sign it."""

    at_most: Annotated[Mapping[str, float], Field(max_length=20, examples=[{"loss": 0.5}])] = {}
    """Likewise, for what is better if smaller."""

    most_worse: Annotated[Share | None, Field(examples=[0.01])] = None
    """By how much `accuracy` may be below what it was before; `mae` and `rmse` may be above by this share.
    Left out, it is 0.01, where there is an evaluation before. What is worse is registered as rejected."""


class Plan(Table):
    """A federated run: who trains what, and what becomes of it."""

    run: RunTable
    """What is trained."""

    strategy: StrategyTable = StrategyTable()
    """How updates become the next global model."""

    round: RoundTable = RoundTable()
    """Whom a round asks, and when it is over."""

    training: TrainingTable = TrainingTable()
    """What each device does."""

    admission: AdmissionTable = AdmissionTable()
    """What a reply must be like."""

    update: UpdateTable = UpdateTable()
    """How updates travel."""

    evaluation: EvaluationTable = EvaluationTable()
    """How good it is."""

    candidate: CandidateTable = CandidateTable()
    """What becomes of it."""

    config: Annotated[
        Mapping[str, bool | int | float | str], Field(max_length=100, examples=[{"num-rounds": 3}])
    ] = {}
    """For an app of one's own (`--app`): what it reads as `context.run_config`."""

    @model_validator(mode="after")
    def _agrees(self) -> "Plan":
        refuse_any("plan", self._disagreements())
        return self

    def _disagreements(self) -> Iterable[Objection]:
        if self.strategy.name is StrategyName.FED_PROX and not self.training.proximal:
            text = "must be more than 0 with FedProx, which is FedAvg without it"
            yield ("training", "proximal"), text, ("strategy", "name", "training", "proximal")
        if self.round.mode is Mode.BUFFERED:
            if self.strategy.name is not StrategyName.FED_AVG:
                text = "buffered goes with FedAvg only"
                yield ("round", "mode"), text, ("strategy", "name", "round", "mode")
            if self.round.buffer > self.round.concurrency:
                text = f"is more than concurrency, {self.round.concurrency}: it would never fill"
                yield ("round", "buffer"), text, ("round", "buffer", "concurrency")
            if self.strategy.average_last:
                text = "is a share of rounds, and buffered has none: leave it out"
                where = ("strategy", "average_last", "round", "mode")
                yield ("strategy", "average_last"), text, where
        if self._compares() and not self.evaluation.after:
            text = "compares with an evaluation that [evaluation] after = false leaves out"
            yield ("candidate",), text, ("candidate", "evaluation", "after")
        if self.candidate.most_worse is not None and not self.evaluation.before:
            text = "compares with an evaluation that [evaluation] before = false leaves out"
            yield ("candidate", "most_worse"), text, ("candidate", "evaluation", "before")

    @property
    def fewest_told(self) -> int:
        """What so many devices tell of the global model is believed."""
        said = self.evaluation.minimum_cohort
        return min(FEWEST_TOLD, self.round.minimum_cohort) if said is None else said

    def _compares(self) -> bool:
        one = self.candidate
        return bool(one.at_least or one.at_most or one.most_worse is not None)
