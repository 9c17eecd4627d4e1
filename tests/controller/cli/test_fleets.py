"""`muster fleet`: a fleet as a file, from its first look to what became of it."""

from pathlib import Path

import pytest

from controller.fleet_config.reference import fleet_schema
from tests.controller.cli.office import Muster, Office

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
    assert muster.ok("fleet", "schema").out == fleet_schema()

    monkeypatch.chdir(tmp_path)
    assert muster.ok("fleet", "schema", "--write").out == "fleet.schema.json is written\n"
    assert (tmp_path / "fleet.schema.json").read_text() == fleet_schema()
    (tmp_path / "fleet.schema.json").unlink()
    (tmp_path / "fleet.schema.json").mkdir()
    assert "[output]" in muster.refused("fleet", "schema", "--write")


FILE = """
[fleet]
name = "cams"
selector = "site=berlin"
[[models]]
name = "digits"
version = "digits/1"
[control]
percent = 0
"""


@pytest.fixture(scope="module", autouse=True)
def devices(office: Office) -> None:
    office.listed(1, 2)
    office.enrolled("cam-1", "cam-2", site="berlin")


def test_a_fleet_is_planned_applied_listed_and_shown(
    muster: Muster, office: Office, tmp_path: Path
) -> None:
    file = tmp_path / "cams.toml"
    file.write_text(FILE)
    assert muster.ok("fleet", "list").out == "no fleets: apply a file with `muster fleet apply`\n"

    plan = muster.ok("fleet", "plan", file).lines
    assert plan[0] == "fleet cams: 1 rollout would start"
    assert "  2 devices match and can run it" in plan
    seen = muster.ok("fleet", "plan", file, "-o", "json").json
    assert (seen["changes"], seen["models"][0]["rollout"]) == (True, "digits-1-1")
    assert muster.ok("rollout", "list", "-o", "json").json == []

    begun = "digits-1-1 has begun: `muster rollout watch digits-1-1`\n"
    assert muster.ok("fleet", "apply", file).out == begun
    assert muster.ok("fleet", "apply", file).out == "nothing to do\n"
    assert muster.ok("fleet", "plan", file).lines[0] == "fleet cams: nothing to start"

    header, row = muster.ok("fleet", "list").lines
    assert (header.split()[0], row.split()[0]) == ("fleet", "cams")
    shown = muster.ok("fleet", "show", "cams").lines
    assert shown[0].startswith("applied ")
    assert shown[2] == "digits/1: unchanged (digits-1-1, running)"
    assert muster.ok("fleet", "show", "cams", "--text").out.strip() == FILE.strip()
    assert muster.ok("fleet", "show", "cams", "-o", "json").json["plan"]["changes"] is False


def test_what_a_file_no_longer_asks_for_is_ended_only_on_request(
    muster: Muster, tmp_path: Path
) -> None:
    file = tmp_path / "cams.toml"
    file.write_text(
        FILE.replace("digits/1", "digits/2").replace('"digits"', '"digits"\nslot = "challenger"')
    )

    done = muster.ok("fleet", "apply", file).lines
    assert done[0].startswith("digits-2-1 has begun")
    assert done[1].startswith("digits-1-1 (digits/1 to site=berlin, running) is no longer asked")
    assert muster.ok("fleet", "apply", file, "--prune").lines == [
        "digits-1-1 is ended; its devices keep what they run"
    ]
    assert muster.ok("rollout", "abort", "digits-2-1").status == 0
    assert muster.ok("fleet", "apply", file).out == "nothing to do\n"
    again = muster.ok("fleet", "apply", file, "--again", "-o", "json").json
    assert again["started"] == ["digits-2-2"]


def test_a_file_that_the_controller_refuses_is_told_by_line(muster: Muster, tmp_path: Path) -> None:
    file = tmp_path / "cams.toml"
    file.write_text(FILE.replace("digits/1", "digits/7"))

    told = muster.refused("fleet", "plan", file).splitlines()

    assert told[0] == "error: cams.toml: 1 problem [fleet-file]"
    assert told[1].startswith("cams.toml:7: [[models]] version: there is no version digits/7; ")
    assert "[not-found]" in muster.refused("fleet", "show", "none")
