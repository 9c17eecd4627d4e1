"""The table of a fleet's file that says when a model is trained anew, and how."""

from collections.abc import Iterator
from typing import Annotated, Final

from pydantic import BaseModel, Field

from controller.federated.plan import (
    AdmissionTable,
    CandidateTable,
    EvaluationTable,
    RoundTable,
    StrategyTable,
    TrainingTable,
    UpdateTable,
)
from controller.retraining.proposal import Retrain
from controller.toml_file.table import Duration, Table
from controller.toml_file.text import as_toml
from protos.limits import MODEL_NAME

RUN_TABLES: Final = (
    "strategy",
    "round",
    "training",
    "admission",
    "update",
    "evaluation",
    "candidate",
)


class RetrainingTable(Table):
    """What happens when the data of a model have changed over most of the fleet's devices.

    An incident opens, and a federated run is proposed for it, or starts. `strategy` and the tables
    behind it are as in a run file: docs/federated.md.
    """

    model: Annotated[str, Field(pattern=f"^{MODEL_NAME}$", examples=["digits"])]
    """Which of the file's models."""

    retrain: Annotated[Retrain, Field(strict=False)] = Retrain.PROPOSE
    """`propose`: the run waits for somebody to start it; `start`: it starts by itself. What comes of
    it is a candidate that approvers sign, in either case."""

    share: Annotated[float, Field(gt=0, le=1)] = 0.5
    """The data of so large a share of the devices must have moved, of all that run the version. If
    fewer have, these are broken, and training on what they see would not help."""

    after: Duration = 600.0
    """For so long it must have been so."""

    rounds: Annotated[int, Field(ge=1, le=100_000)] = 10
    """Of the run."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Of everything that the run draws."""

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

    def settings(self) -> str:
        """The tables of the run file but for ``[run]``, as TOML: what the file says, and no defaults."""
        return "\n".join(line for name in RUN_TABLES for line in _lines(name, getattr(self, name)))


def _lines(name: str, table: BaseModel) -> Iterator[str]:
    said = [
        f"{key} = {as_toml(getattr(table, key), field)}"
        for key, field in type(table).model_fields.items()
        if key in table.model_fields_set and getattr(table, key) is not None
    ]
    if said:
        yield from (f"[{name}]", *said, "")
