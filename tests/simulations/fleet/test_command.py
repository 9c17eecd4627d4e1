from pathlib import Path

import pytest

from controller.cli.output import CommandFailed
from simulations.fleet.command import Study, simulate
from simulations.fleet.phrases import COMMANDS
from simulations.fleet.scenario import Effect
from simulations.fleet.scenario_file import names
from simulations.fleet.scenario_parser import HEADER

DOCS = Path(__file__).resolve().parents[3] / "docs" / "simulation.md"
SHORT = """\
fleet 8 devices
version digits/1
version digits/2
running digits/1
policy at-once
at 0m rollout start digits/2 to all
until 1h
expect rollout digits-2-1 {state}
"""


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    path = tmp_path / "short.txt"
    path.write_text(SHORT.format(state="succeeded"))
    return path


def test_a_scenario_is_played_and_its_page_is_written(
    scenario: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    simulate(str(scenario), html=tmp_path / "page.html")

    told = capsys.readouterr()
    assert "8 devices commit digits/2" in told.out
    assert "as expected: rollout digits-2-1 succeeded" in told.out
    assert "8 devices, 0.0417 days, seed 1" in told.err
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")


def test_what_is_not_as_expected_is_a_failure(
    scenario: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scenario.write_text(SHORT.format(state="paused"))

    with pytest.raises(CommandFailed, match="it is succeeded"):
        simulate(str(scenario), quiet=True)

    assert "commit" not in capsys.readouterr().out


def test_other_devices_and_seeds_than_the_scenario_says(
    scenario: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    simulate(str(scenario), devices=5, seed=9)

    assert "5 devices commit digits/2" in capsys.readouterr().out


def test_scenarios_are_listed_with_their_titles(capsys: pytest.CaptureFixture[str]) -> None:
    simulate()

    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(names())


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("none.txt", None, "there is no scenario"),
        ("bad.txt", "fleet\n", "bad.txt:1:"),
        ("binary.txt", "\udcff", "this is no text"),
    ],
)
def test_what_cannot_be_read_is_told(
    tmp_path: Path, name: str, text: str | None, said: str
) -> None:
    if text is not None:
        (tmp_path / name).write_bytes(text.encode(errors="surrogateescape"))

    with pytest.raises(CommandFailed, match=said):
        simulate(str(tmp_path / name))


def test_a_page_that_cannot_be_written_is_told(scenario: Path, tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match="Is a directory"):
        simulate(str(scenario), html=tmp_path, quiet=True)


def test_a_study_compares_the_rules(capsys: pytest.CaptureFixture[str]) -> None:
    simulate(study=Study.DECISIONS, devices=6, seeds=1)

    told = capsys.readouterr().out
    assert "6 devices, 1 seeds each" in told
    assert "fails on 10 % of devices" in told
    assert "50 % / 50 %" in told


def test_the_page_of_the_docs_has_every_phrase() -> None:
    text = DOCS.read_text().replace("\\|", "|")

    usages = [usage for usage in COMMANDS if f"`{usage}`" not in text]
    lines = [usage for _, usage, _ in HEADER.values() if f"`{usage}`" not in text]
    effects = [effect for effect in Effect if f"`{effect}" not in text]
    assert (usages, lines, effects) == ([], [], [])
