"""What every table of such a file is, and the kinds of values that stand in them."""

from typing import Annotated, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from controller.toml_file import duration

Entry = TypeVar("Entry")
# Strictness would ask for tuples, which no TOML has; what is inside is held to its own type.
Many = Annotated[tuple[Entry, ...], Field(strict=False)]
Duration = Annotated[
    float,
    BeforeValidator(duration.seconds_of),
    Field(ge=0, le=3.2e8),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": 0},
                {"type": "string", "pattern": duration.PATTERN},
            ]
        }
    ),
]
Lasting = Annotated[Duration, Field(gt=0)]
Ratio = Annotated[float, Field(ge=0)]


class Table(BaseModel):
    """A table of the file: strict, and frozen once it is read."""

    model_config = ConfigDict(
        strict=True,
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )
