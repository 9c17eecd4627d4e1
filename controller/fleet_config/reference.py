"""What describes a fleet's file, made from the classes that read it: the reference, the schema."""

from collections.abc import Iterator, Sequence
from enum import StrEnum
from types import NoneType
from typing import Any, Final, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from controller.fleet_config.document import FleetFile, ModelTable, Rules
from controller.toml_file.keys import keys_of, shown_key, table_of
from controller.toml_file.schema import schema_text
from controller.toml_file.text import as_toml, is_duration

SCHEMA_NAME: Final = "fleet.schema.json"

_PLAIN: Final[dict[Any, str]] = {
    bool: "true or false",
    int: "whole number",
    float: "number",
    str: "text",
}
_BOUNDS: Final = {"ge": "from", "gt": "above", "le": "to", "lt": "below"}
_NO_BOUND: Final = 1e9
"""Nobody comes near it."""


def fleet_schema() -> str:
    """The schema for editors, as a file's text."""
    return schema_text(FleetFile, "A fleet of Muster")


def reference_text() -> str:
    """Markdown: a section for each kind of table, in the order in which people write them."""
    kinds: dict[type[BaseModel], list[tuple[tuple[str, ...], FieldInfo]]] = {}
    _collect(FleetFile, (), kinds)
    return "\n".join(line for table, found in kinds.items() for line in _section(table, found))


def _collect(
    table: type[BaseModel],
    path: tuple[str, ...],
    kinds: dict[type[BaseModel], list[tuple[tuple[str, ...], FieldInfo]]],
) -> None:
    for name, field in keys_of(table).items():
        inner = table_of(field.annotation)
        if inner is not None and not (table is ModelTable and name in Rules.model_fields):
            kinds.setdefault(inner, []).append(((*path, name), field))
            _collect(inner, (*path, name), kinds)


def _section(
    table: type[BaseModel], found: Sequence[tuple[tuple[str, ...], FieldInfo]]
) -> Iterator[str]:
    yield f"### {', '.join(f'`{shown_key(path, FleetFile)}`' for path, _ in found)}\n"
    yield f"{_sentence(table.__doc__)}\n"
    yield "| key | value | default | meaning |\n|---|---|---|---|"
    for name, field in keys_of(table).items():
        if table_of(field.annotation) is None:
            yield _row(name, field)
    yield ""
    for path, field in found:
        if isinstance(field.default, tuple) and field.default:
            yield f"A file without `{shown_key(path, FleetFile)}` has these:\n\n```toml"
            yield from _defaults(shown_key(path, FleetFile), field.default)
            yield "```\n"


def _defaults(header: str, rows: Sequence[BaseModel]) -> Iterator[str]:
    for number, row in enumerate(rows):
        if number:
            yield ""
        yield header
        for name in keys_of(type(row)):
            if name in row.model_fields_set:
                field = type(row).model_fields[name]
                yield f"{name} = {as_toml(getattr(row, name), field)}"


def _row(name: str, field: FieldInfo) -> str:
    default = "**needed**" if field.is_required() else "none"
    if not field.is_required() and field.default not in (None, "", ()):
        default = f"`{as_toml(field.default, field)}`"
    meaning = _sentence(field.description)
    if field.examples:
        meaning += f" Such as `{as_toml(field.examples[0], field)}`."
    return f"| `{name}` | {_kind(field)} | {default} | {meaning} |"


def _kind(field: FieldInfo) -> str:
    if is_duration(field):
        return "duration"
    kind = field.annotation
    inner = [one for one in get_args(kind) if one not in (NoneType, Ellipsis)]
    if inner:
        kind = inner[0]
        kind = get_args(kind)[0] if get_args(kind) else kind
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        said = " or ".join(f"`{one.value}`" for one in kind)
    else:
        said = _PLAIN.get(kind, "date and time")
    if field.annotation is not None and getattr(field.annotation, "__origin__", None) is tuple:
        return f"list of {said}"
    return f"{said}{_bounds(field)}"


def _bounds(field: FieldInfo) -> str:
    said = [
        f"{word} {limit:,g}" if limit < 1e6 else f"{word} {limit:,.0f}"
        for name, word in _BOUNDS.items()
        for one in field.metadata
        if (limit := getattr(one, name, None)) is not None and limit < _NO_BOUND
    ]
    return f", {' '.join(said)}" if said else ""


def _sentence(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")
