"""`muster simulate`."""

import gc
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from controller.cli.output import CommandFailed, console, say

if TYPE_CHECKING:
    from simulations.fleet.simulation import Simulation

STUDY_DEVICES: Final = 200


class Study(StrEnum):
    """``--study``."""

    DECISIONS = "decisions"


def simulate(
    scenario: Annotated[
        str, typer.Argument(help="A scenario's file, or the name of one that comes with Muster.")
    ] = "",
    devices: Annotated[
        int | None, typer.Option(min=1, max=1_000_000, help="How many, instead of the scenario's.")
    ] = None,
    seed: Annotated[int, typer.Option(help="All chance comes from it.")] = 1,
    html: Annotated[
        Path | None, typer.Option(help="Write a report with plots to this file.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Leave the transcript out.")] = False,
    study: Annotated[
        Study | None, typer.Option(help="Play many rollouts instead, and count wrong decisions.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds a study plays.")] = 100,
) -> None:
    """Play a scenario: the real controller's and agents' decisions in virtual time, and a bad network.

    The same scenario, devices and seed give the same transcript. Status 0 only if everything has come
    out as the scenario expects. Without a scenario, those that come with Muster are listed.

    ```
    muster simulate one_bad_canary
    muster simulate my_fleet.txt --devices 5000 --seed 7 --quiet --html report.html
    muster simulate --study decisions --devices 200 --seeds 300
    ```
    """
    if study is not None:
        _study(devices or STUDY_DEVICES, seeds, seed)
    elif not scenario:
        _list()
    else:
        _play(scenario, devices, seed, html, quiet=quiet)


def _list() -> None:
    from simulations.fleet.scenario_file import names, read  # noqa: PLC0415 - a quick --help

    for name in names():
        say(f"{name:26}{read(name).title}")


def _study(devices: int, seeds: int, first: int) -> None:
    from simulations.fleet import study  # noqa: PLC0415

    say(study.table(list(study.study([devices], seeds, first))))


def _play(scenario: str, devices: int | None, seed: int, html: Path | None, *, quiet: bool) -> None:
    from controller.errors import ControllerError  # noqa: PLC0415
    from simulations.fleet.page import page  # noqa: PLC0415
    from simulations.fleet.plot import sized  # noqa: PLC0415
    from simulations.fleet.scenario_file import read  # noqa: PLC0415
    from simulations.fleet.simulation import Simulation  # noqa: PLC0415

    gc.disable()  # nothing here is a cycle, and looking for some takes a quarter of the time
    try:
        simulation = Simulation(read(scenario), seed, devices)
        cost = simulation.run()
    except ControllerError as error:
        raise CommandFailed(error.code, error.detail, error.remedy) from error
    finally:
        gc.enable()
    findings = simulation.findings()
    if not quiet:
        _write(simulation, [str(finding) for finding in findings])
    if html is not None:
        _save(html, page(simulation, cost, findings))
    console(error=True).print(
        f"{len(simulation.devices)} devices, {simulation.scenario.until / 86_400:.3g} days, seed "
        f"{seed}: {cost.events} events and {cost.turns} plans in {cost.seconds:.1f} s, "
        f"{sized(cost.peak_bytes)} at most"
    )
    missed = [finding for finding in findings if not finding.holds]
    if missed:
        raise CommandFailed(
            "not-as-expected",
            "; ".join(f"{one.expectation.text} ({one.found})" for one in missed),
            "Read the transcript: it says what was decided, and why.",
        )


def _write(simulation: "Simulation", findings: Sequence[str]) -> None:
    for line in (*simulation.transcript.lines, *findings):
        say(str(line))


def _save(path: Path, text: str) -> None:
    try:
        path.write_text(text)
    except OSError as error:
        raise CommandFailed(
            "not-written", f"{path}: {error.strerror}", "Name a file that can be written."
        ) from error
