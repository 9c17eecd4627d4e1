"""`muster demo`."""

import shutil
import tempfile
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from controller.cli.output import CommandFailed, console


class Transport(StrEnum):
    """``--transport``."""

    GRPC = "grpc"
    MQTT = "mqtt"  # through a Mosquitto


def demo(
    devices: Annotated[int, typer.Option(min=5, max=12, help="How many devices.")] = 5,
    transport: Annotated[
        Transport, typer.Option(help="What devices and controller talk over.")
    ] = Transport.GRPC,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the evidence to this file.")
    ] = None,
    keep: Annotated[
        Path | None, typer.Option(help="Leave everything in this folder, ready to run on.")
    ] = None,
) -> None:
    """Run a controller and devices on this machine, from joining to refused attacks.

    They are separate processes that talk over real TLS. Status 0 only if everything that must be
    observed was observed.
    """
    if keep is not None and keep.exists() and any(keep.iterdir()):
        raise CommandFailed("conflict", f"{keep} is not empty", "Name another folder with --keep.")
    console().print(
        f"A controller and {devices} devices, each a process on this machine. A line with ✓ was "
        "observed: asked of the controller or the devices."
    )
    from simulations.demo.processes import ProcessFailed  # noqa: PLC0415 - a quick --help
    from simulations.demo.stage import Stage  # noqa: PLC0415
    from simulations.demo.story import Story  # noqa: PLC0415
    from simulations.demo.timeline import Timeline  # noqa: PLC0415

    folder = (keep or Path(tempfile.mkdtemp(prefix="muster-demo-"))).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    timeline = Timeline(console())
    stage = Stage(folder, devices, transports=(transport.value,))
    story = Story(stage, timeline)
    try:
        story.tell()
        evidence = story.evidence()
    except ProcessFailed as error:
        raise CommandFailed("demo", str(error), f"The logs are in {folder}.") from error
    finally:
        story.stop()
        with timeline.waiting("ending every process"):
            stage.stop()
    if json_file is not None:
        json_file.write_bytes(evidence.encode())
    if keep is None:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        console().print(f"\n{stage.how_to_go_on()}")
    if not evidence.passed:
        missed = "; ".join(moment.line for moment in timeline.failed())
        raise CommandFailed("demo", f"not as it must be: {missed}")
    console().print(f"\n[bold green]All of it was observed, in {evidence.seconds:.0f} s.[/]")
    if keep is None:
        console().print(
            "README.md has all of it by hand; --keep FOLDER leaves the fleet to go on with."
        )
