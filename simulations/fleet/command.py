"""`muster simulate`."""

from pathlib import Path
from typing import Annotated

import typer

from controller.cli.output import CommandFailed, console, say


def simulate(
    scenario: Annotated[
        str, typer.Argument(help="A scenario's file, or the name of one that comes with Muster.")
    ],
    devices: Annotated[
        int | None, typer.Option(min=1, max=1_000_000, help="How many, instead of the scenario's.")
    ] = None,
    seed: Annotated[int, typer.Option(help="All chance comes from it.")] = 1,
    html: Annotated[
        Path | None, typer.Option(help="Write a report with plots to this file.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Leave the transcript out.")] = False,
) -> None:
    """Play a scenario: the real controller's and agents' decisions in virtual time, and a bad network.

    The same scenario, devices and seed give the same transcript. Status 0 only if everything has come
    out as the scenario expects.

    ```
    muster simulate one_bad_canary
    muster simulate my_fleet.txt --devices 5000 --seed 7 --quiet --html report.html
    ```
    """
    from controller.errors import ControllerError  # noqa: PLC0415 - a quick --help
    from simulations.fleet.page import page  # noqa: PLC0415
    from simulations.fleet.plot import sized  # noqa: PLC0415
    from simulations.fleet.scenario_file import read  # noqa: PLC0415
    from simulations.fleet.simulation import Simulation  # noqa: PLC0415

    try:
        simulation = Simulation(read(scenario), seed, devices)
    except ControllerError as error:
        raise CommandFailed(error.code, error.detail, error.remedy) from error
    cost = simulation.run()
    findings = simulation.findings()
    if not quiet:
        for line in simulation.transcript.lines:
            say(str(line))
    for finding in findings:
        say(str(finding))
    if html is not None:
        try:
            html.write_text(page(simulation, cost, findings))
        except OSError as error:
            raise CommandFailed(
                "not-written", f"{html}: {error.strerror}", "Name a file that can be written."
            ) from error
    console(error=True).print(
        f"{len(simulation.devices)} devices, {simulation.scenario.until / 86_400:.3g} days, seed "
        f"{seed}: {cost.events} events and {cost.turns} plans in {cost.seconds:.1f} s, "
        f"{sized(cost.peak_bytes)} at most"
    )
    if not all(finding.holds for finding in findings):
        raise CommandFailed(
            "not-as-expected", "it did not come out as the scenario expects", "Read the transcript."
        )
