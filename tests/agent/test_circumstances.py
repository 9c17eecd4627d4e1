"""What a device is in: its time zone, its battery, its link."""

from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from zoneinfo import ZoneInfo

import psutil
import pytest

from agent.circumstances import read_battery, read_circumstances
from agent.errors import ConfigError
from agent.facts import read_facts
from agent.install.gates import Battery
from agent.local_time import local_zone, zone_name

NOW = datetime(2026, 11, 21, 21, 30, tzinfo=UTC)


@pytest.fixture
def etc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A system's folder that says nothing of its time zone."""
    monkeypatch.delenv("TZ", raising=False)
    return tmp_path


def test_the_zone_that_is_named_is_taken(etc: Path) -> None:
    (etc / "timezone").write_text("Asia/Tokyo\n")

    assert local_zone("Europe/Berlin", etc) is ZoneInfo("Europe/Berlin")
    with pytest.raises(ConfigError, match="no time zone 'Mars/Base'"):
        local_zone("Mars/Base", etc)


@pytest.mark.parametrize(
    ("target", "name"),
    [
        ("/usr/share/zoneinfo/Europe/Berlin", "Europe/Berlin"),
        ("../usr/share/zoneinfo/America/Argentina/Salta", "America/Argentina/Salta"),
        ("/usr/share/zoneinfo/posix/Europe/Paris", "Europe/Paris"),
        ("/nix/store/abc-tzdata/share/zoneinfo/UTC", "UTC"),
    ],
)
def test_the_systems_zone_is_what_its_local_time_links_to(
    etc: Path, target: str, name: str
) -> None:
    (etc / "localtime").symlink_to(target)
    (etc / "timezone").write_text("Asia/Tokyo\n")

    assert zone_name(etc=etc) == name


def test_a_system_without_a_link_may_say_it_in_a_file(etc: Path) -> None:
    assert zone_name(etc=etc) == "UTC"
    (etc / "localtime").symlink_to("/somewhere/else")
    (etc / "timezone").write_text("Asia/Tokyo\n")

    assert zone_name(etc=etc) == "Asia/Tokyo"


def test_rules_without_a_name_are_followed_all_the_same(etc: Path) -> None:
    rules = resources.files("tzdata") / "zoneinfo" / "Europe" / "Berlin"
    (etc / "localtime").write_bytes(rules.read_bytes())

    assert zone_name(etc=etc) == ""
    assert NOW.astimezone(local_zone(etc=etc)).isoformat() == "2026-11-21T22:30:00+01:00"


@pytest.mark.parametrize(
    ("variable", "name"),
    [("Asia/Tokyo", "Asia/Tokyo"), (":Asia/Tokyo", "Asia/Tokyo"), ("", "UTC"), ("CET-1CEST", "")],
)
def test_the_environment_speaks_before_the_system(
    etc: Path, monkeypatch: pytest.MonkeyPatch, variable: str, name: str
) -> None:
    (etc / "localtime").symlink_to("/usr/share/zoneinfo/Europe/Berlin")
    monkeypatch.setenv("TZ", variable)

    assert zone_name(etc=etc) == (name or "Europe/Berlin")


def test_the_zone_is_a_fact_of_the_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")

    assert read_facts(tmp_path).timezone == "Asia/Tokyo"
    assert read_facts(tmp_path, "Europe/Berlin").timezone == "Europe/Berlin"


def test_circumstances_are_told_in_the_devices_own_time() -> None:
    found = read_circumstances(NOW, timezone="Europe/Berlin", metered=True)

    assert found.now.isoformat() == "2026-11-21T22:30:00+01:00"
    assert found.metered


@pytest.fixture
def supplies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where drivers tell of batteries; none does."""
    monkeypatch.setattr(psutil._pslinux, "POWER_SUPPLY_PATH", str(tmp_path))
    return tmp_path


def plug_in(supplies: Path, name: str, **files: str) -> None:
    (supplies / name).mkdir()
    for file, text in files.items():
        (supplies / name / file).write_text(f"{text}\n")


def test_a_device_without_a_battery_has_none(supplies: Path) -> None:
    plug_in(supplies, "AC", online="1")

    assert read_battery() is None


@pytest.mark.parametrize(("online", "on_mains"), [("1", True), ("0", False)])
def test_a_battery_tells_its_charge(supplies: Path, online: str, *, on_mains: bool) -> None:
    plug_in(supplies, "BAT0", energy_now="300", energy_full="1000", status="Discharging")
    plug_in(supplies, "AC0", online=online)

    assert read_battery() == Battery(30.0, on_mains)


def test_a_battery_that_says_nothing_sensible_holds_nothing_up(supplies: Path) -> None:
    plug_in(supplies, "BAT0", capacity="Unknown", status="?")

    assert read_battery() is None
