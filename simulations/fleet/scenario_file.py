"""Scenarios as files: those that come with Muster are found by name."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

from controller.errors import InvalidInput, NotFound
from controller.fleet_config.fleet import Fleet
from controller.fleet_config.reading import decode, read_fleet
from simulations.fleet.scenario import Scenario
from simulations.fleet.scenario_parser import parse

FOLDER: Final = Path(__file__).resolve().parents[1] / "scenarios"
MOST_BYTES: Final = 1_000_000


def names() -> Sequence[str]:
    """The scenarios that come with Muster."""
    return sorted(path.stem for path in FOLDER.glob("*.txt"))


def read(name: str) -> Scenario:
    """The scenario of that name, or in that file.

    Raises:
        NotFound: there is none.
        BadScenario: it can't be read; names every line that is wrong.
        InvalidInput: it is no text, or the file can't be read.
    """
    own = FOLDER / f"{name}.txt"
    path = own if name in names() else Path(name)
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise InvalidInput(f"{path}: more than {MOST_BYTES} bytes is no scenario")
        name = path.stem if path == own else str(path)
        return parse(name, data.decode(), partial(_fleet, path.parent))
    except FileNotFoundError as error:
        known = ", ".join(names())
        raise NotFound(
            f"there is no scenario {name!r}", f"Name a file, or one of these: {known}."
        ) from error
    except OSError as error:
        raise InvalidInput(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path}: this is no text") from error


def _fleet(folder: Path, name: str) -> Fleet:
    """The fleet's file of that name, beside the scenario.

    Raises:
        InvalidInput: there is none, or it can't be read.
        BadFleetFile: it is no fleet's file.
    """
    try:
        data = (folder / name).read_bytes()
    except OSError as error:
        raise InvalidInput(f"{folder / name}: {error.strerror}") from error
    return read_fleet(decode(data, name), name)
