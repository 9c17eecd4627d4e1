"""The JSON Schema of files that people write: editors complete and check with it as one types."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from pydantic import BaseModel

from controller.toml_file.duration import written
from controller.toml_file.keys import keys_of, table_of
from controller.toml_file.text import is_duration

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def schema_text(root: type[BaseModel], title: str) -> str:
    """The schema, as a file's text, of files in which ``root`` stands."""
    found = root.model_json_schema()
    _make_plain(found, root)
    for table in tables_within(root):
        _make_plain(found["$defs"][table.__name__], table)
    kept = {"$schema": _DIALECT, "title": title, **_plain(found)}
    return json.dumps(kept, indent=2) + "\n"


def tables_within(table: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """Every kind of table that stands in ``table``, each once, in the order of their keys."""
    seen: list[type[BaseModel]] = []
    waiting = [table]
    while waiting:
        inner = [table_of(field.annotation) for field in keys_of(waiting.pop(0)).values()]
        new = [one for one in inner if one is not None and one not in seen]
        seen += new
        waiting += new
    yield from dict.fromkeys(seen)


def _make_plain(schema: dict[str, Any], table: type[BaseModel]) -> None:
    """What people write: durations as text; no default that is a whole table."""
    properties = schema["properties"]
    for name, field in keys_of(table).items():
        one = properties.pop(name)
        properties[name] = one  # in the order in which people read
        if table_of(field.annotation) is not None or one.get("default") in (None, ""):
            one.pop("default", None)
        elif is_duration(field) and "default" in one:
            one["default"] = written(one["default"])


def _plain(value: Any) -> Any:
    """Without titles, which repeat the keys, and without null, which TOML does not have."""
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if not isinstance(value, Mapping):
        return value
    kept = {key: _plain(one) for key, one in value.items() if not _is_title(key, one)}
    if isinstance(kept.get("description"), str):
        kept["description"] = " ".join(kept["description"].split())
    choices = kept.get("anyOf")
    if isinstance(choices, list) and {"type": "null"} in choices:
        rest = [one for one in choices if one != {"type": "null"}]
        del kept["anyOf"]
        kept = {**kept, **(rest[0] if len(rest) == 1 else {"anyOf": rest})}
    return kept


def _is_title(key: str, value: object) -> bool:
    return key == "title" and isinstance(value, str)
