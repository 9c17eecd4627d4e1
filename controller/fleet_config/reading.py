"""Reads a fleet's file: the fleet, or everything that is wrong with it at once."""

from collections.abc import Mapping
from typing import Any, Final

from pydantic import ValidationError

from controller.fleet_config.document import MAX_BYTES, FleetFile
from controller.fleet_config.fleet import MOVED, Fleet, fleet_of, place_in_file, policy_of
from controller.toml_file import search
from controller.toml_file.problems import BadFile
from controller.toml_file.search import Kind, Search

_STAND_INS: Final[Mapping[str, Any]] = {
    "fleet": {"name": "x", "selector": "all"},
    "models": [{"name": "x", "version": "x/1"}],
    "name": "x",
    "version": "x/1",
    "selector": "all",
    "metric": "drift",
    "holds": "stage.devices > 0",
    "when": "fleet.devices > 0",
    "model": "x",
    "start": "00:00",
    "duration": 3600,
}
"""For keys that must be there."""


class BadFleetFile(BadFile):
    """A fleet's file can't be used."""

    code = "fleet-file"
    remedy = "Correct what is named; `muster fleet check FILE` looks again and changes nothing."


_KIND: Final = Kind(
    FleetFile, BadFleetFile, MAX_BYTES, "make several fleets of it", _STAND_INS, MOVED
)


def decode(data: bytes, file: str) -> str:
    """The text of a file's bytes.

    Raises:
        BadFleetFile: too many bytes, or not UTF-8.
    """
    return search.decode(data, file, _KIND)


def read_fleet(text: str, file: str) -> Fleet:
    """The fleet that ``text`` declares; ``file`` is what messages call it.

    Raises:
        BadFleetFile: not TOML, unknown keys, wrong types or impossible values: all of them.
    """
    look = Search(text, file, _KIND)
    found = look.document()
    if found is not None:
        _try_policies(look, found)
    if look.problems or found is None:
        raise BadFleetFile(file, look.problems)
    return fleet_of(found, look.lines)


def _try_policies(look: Search[FleetFile], document: FleetFile) -> None:
    """Finds what the keys of a policy say together and can't."""
    for number, model in enumerate(document.models):
        try:
            policy_of(document, model)
        except ValidationError as error:
            for one in error.errors(include_url=False):
                place = place_in_file(one["loc"])
                own = ("models", number, *place)
                # A table's keys are the model's or the file's each; a list is, as a whole.
                look.tell(one, own if own[:4] in look.lines else place)
