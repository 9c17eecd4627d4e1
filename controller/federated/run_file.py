"""Reads a run file: the plan of a federated run, or everything that is wrong with it at once."""

from functools import lru_cache
from typing import Final

from controller.federated.plan import MAX_BYTES, Plan
from controller.toml_file import search
from controller.toml_file.problems import BadFile
from controller.toml_file.search import Kind, Search


class BadRunFile(BadFile):
    """A run file can't be used."""

    code = "run-file"
    remedy = "Correct what is named; fleet_configs/federated.toml in the source has every key."


_KIND: Final = Kind(
    Plan,
    BadRunFile,
    MAX_BYTES,
    "leave out what is no run",
    {"run": {"model": "x/1"}, "model": "x/1"},
)


def decode(data: bytes, file: str) -> str:
    """The text of a file's bytes.

    Raises:
        BadRunFile: too many bytes, or not UTF-8.
    """
    return search.decode(data, file, _KIND)


def read_plan(text: str, file: str) -> Plan:
    """The plan that ``text`` declares; ``file`` is what messages call it.

    Raises:
        BadRunFile: not TOML, unknown keys, wrong types or impossible values: all of them.
    """
    look = Search(text, file, _KIND)
    found = look.document()
    if look.problems or found is None:
        raise BadRunFile(file, look.problems)
    return found


@lru_cache(maxsize=64)
def stored_plan(text: str) -> Plan:
    """The plan of a run file that was read before, when its run began; read once."""
    return read_plan(text, "run file")
