"""The keys of a file that people write: which table they stand in, and how people find them.

``root`` is what stands in the whole file.
"""

import json
from collections.abc import Mapping
from types import UnionType
from typing import Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from controller.toml_file.lines import Path
from controller.toml_file.text import BARE, as_toml, in_short


def shown_key(path: Path, root: type[BaseModel]) -> str:
    """``("stages", 1, "soak")`` as ``[[stages]] soak``."""
    table = root
    header, names = "", ""
    for part in path:
        if isinstance(part, int):
            continue
        field = table.model_fields.get(part)
        inner = table_of(field.annotation) if field else None
        if field is None or inner is None:
            return f"{header} {named(part)}".strip()
        table = inner
        names = f"{names}.{part}" if names else part
        header = f"[{names}]" if isinstance(field.annotation, type) else f"[[{names}]]"
    return header


def described(path: Path, root: type[BaseModel]) -> tuple[type[BaseModel], FieldInfo | None]:
    """The table that ``path`` leads into, and its key; None where that is the table itself."""
    table = root
    field: FieldInfo | None = None
    for part in path:
        if isinstance(part, int):
            continue
        if field is not None:
            inner = table_of(field.annotation)
            if inner is None:
                return table, field
            table = inner
        field = table.model_fields.get(part)
        if field is None:
            return table, None
    if field is not None and (inner := table_of(field.annotation)) is not None:
        return inner, None
    return table, field


def table_of(annotation: object) -> type[BaseModel] | None:
    """The kind of table that a key holds, one or a list of them; None if it holds a plain value."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in {tuple, Union, UnionType}:
        return next((found for one in get_args(annotation) if (found := table_of(one))), None)
    return None


def example(name: str, field: FieldInfo) -> str:
    """``soak = "30m"``: the key with a value that may stand there."""
    return f"{name} = {as_toml(field.examples[0] if field.examples else field.default, field)}"


def keys_of(table: type[BaseModel]) -> Mapping[str, FieldInfo]:
    """The keys of a table, its own before those that it shares with others."""
    own = table.__annotations__
    return dict(sorted(table.model_fields.items(), key=lambda one: one[0] not in own))


def named(part: str) -> str:
    """A key as a file bears it, in short."""
    return part if BARE.fullmatch(part) else in_short(json.dumps(part, ensure_ascii=False))
