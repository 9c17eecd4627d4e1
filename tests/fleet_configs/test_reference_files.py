"""The files that document every key do so, and can be used as they are."""

import shutil
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from agent.config import AgentConfig
from agent.config import read_config as read_agent_config
from controller.config import ControllerConfig
from controller.config import read_config as read_controller_config
from controller.fleet_config.reading import read_fleet

FOLDER = Path(__file__).parents[2] / "fleet_configs"


def keys(table: dict[str, object], prefix: str = "") -> Iterator[str]:
    for name, value in table.items():
        if isinstance(value, dict):
            yield from keys(value, f"{prefix}{name}.")
        else:
            yield prefix + name


@pytest.mark.parametrize(
    ("name", "read", "defaults"),
    [
        ("agent.toml", read_agent_config, AgentConfig()),
        ("controller.toml", read_controller_config, ControllerConfig()),
    ],
)
def test_a_reference_file_holds_every_key_with_its_default(
    name: str, read: Callable[[Path], object], defaults: object, tmp_path: Path
) -> None:
    shutil.copy(FOLDER / name, tmp_path / name)

    assert read(tmp_path) == defaults

    written = set(keys(tomllib.loads((FOLDER / name).read_text())))
    assert written == set(keys(msgspec.to_builtins(defaults)))


@pytest.mark.parametrize(("name", "models"), [("meters.toml", 2), ("small.toml", 1)])
def test_a_fleet_s_file_is_in_order(name: str, models: int) -> None:
    text = (FOLDER / name).read_text()
    fleet = read_fleet(text, name)

    assert fleet.name == name.removesuffix(".toml")
    assert len(fleet.goals) == models
    assert text.startswith("#:schema fleet.schema.json\n")


def test_there_are_no_other_files() -> None:
    assert {path.name for path in FOLDER.iterdir()} == {
        "agent.toml",
        "controller.toml",
        "meters.toml",
        "small.toml",
        "fleet.schema.json",
        "federated.toml",
        "federated.schema.json",
    }
