"""`muster fleet`: a fleet as a file, from its first look to what became of it."""

from pathlib import Path

import pytest

from controller.fleet_config.schema import schema_text
from tests.controller.cli.office import Muster

SHIPPED = Path(__file__).parents[3] / "fleet_configs"


def test_a_file_is_checked_without_a_controller(muster: Muster, tmp_path: Path) -> None:
    nowhere = tmp_path / "no-profile.toml"
    done = muster.ok("fleet", "check", SHIPPED / "meters.toml", profile=nowhere)
    assert done.lines == [
        "meters.toml: fleet meters is in order: 2 models",
        "  load@champion (champion), theft/3 (champion)",
    ]
    seen = muster.ok("fleet", "check", SHIPPED / "small.toml", "-o", "json").json
    assert seen["fleet"] == "small"
    assert seen["models"][0]["policy"]["stages"][0]["soak_seconds"] == 300


def test_all_that_is_wrong_with_a_file_is_told(muster: Muster, tmp_path: Path) -> None:
    file = tmp_path / "f.toml"
    file.write_text('[fleet]\nname = "f"\nselektor = "all"\n[pace]\nper_site = -1\n')

    told = muster.refused("fleet", "check", file).splitlines()

    assert told[0] == "error: f.toml: 4 problems [fleet-file]"
    assert [line.partition(";")[0] for line in told[1:-1]] == [
        "f.toml:1: [[models]]: is missing",
        "f.toml:1: [fleet] selector: is missing",
        "f.toml:3: [fleet] selektor: there is no such key",
        "f.toml:5: [pace] per_site: must be at least 0, and is -1",
    ]
    assert told[-1].startswith("  what to do: Correct what is named")


def test_what_is_no_file_is_refused(muster: Muster, tmp_path: Path) -> None:
    assert "[bad-input]" in muster.refused("fleet", "check", tmp_path / "none.toml")
    assert "a device or a pipe" in muster.refused("fleet", "check", "/dev/zero")
    assert "Is a directory" in muster.refused("fleet", "check", tmp_path)


def test_the_schema_is_printed_or_written(
    muster: Muster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert muster.ok("fleet", "schema").out == schema_text()

    monkeypatch.chdir(tmp_path)
    assert muster.ok("fleet", "schema", "--write").out == "fleet.schema.json is written\n"
    assert (tmp_path / "fleet.schema.json").read_text() == schema_text()
    (tmp_path / "fleet.schema.json").unlink()
    (tmp_path / "fleet.schema.json").mkdir()
    assert "[output]" in muster.refused("fleet", "schema", "--write")
