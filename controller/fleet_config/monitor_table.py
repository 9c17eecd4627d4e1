"""The table of a fleet's file that says how devices watch a model."""

from typing import Annotated

from pydantic import Field, model_validator

from agent.monitor.reference import MIN_ROWS
from controller.rollout.policy import refuse
from controller.toml_file.table import Duration, Table
from protos.limits import MODEL_NAME


class MonitorTable(Table):
    """How often devices judge the data of a model, where its bundle's monitor says otherwise.

    It goes through the stages as a version does. What a device's own `agent.toml` says goes before.
    """

    model: Annotated[str, Field(pattern=f"^{MODEL_NAME}$", examples=["digits"])]
    """Which of the file's models."""

    rows: Annotated[int | None, Field(ge=MIN_ROWS, le=10_000_000, examples=[500])] = None
    """Rows that a window needs to be judged; left out, as the bundle says."""

    window: Annotated[Duration | None, Field(examples=["10m"])] = None
    """How long a window is open at least; left out, as the bundle says."""

    @model_validator(mode="after")
    def _says_something(self) -> "MonitorTable":
        if not self.rows and not self.window:
            keys = ("rows", "window")
            refuse("monitor", [((), "changes nothing; give it rows, window or both", keys)])
        return self
