"""`muster rollout pause|resume|approve|retry|abort`: what changes a rollout that goes on."""

from typing import Annotated

import typer

from controller.cli.client import ApiClient, place
from controller.cli.output import Output, OutputOption, counted, say, show_json
from controller.cli.rollout import RolloutArgument


def abort(
    rollout: RolloutArgument,
    revert: Annotated[
        bool, typer.Option("--revert", help="Bring devices back to what they have proven before.")
    ] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """End a rollout; what was assigned stays, unless --revert.

    With --revert it ends when every device that has a link has proven that it is back.

    A rollout that has succeeded goes on for devices that come to match later: this ends it, too.

    ```
    muster rollout abort digits-2-1
    muster rollout abort digits-2-1 --revert
    ```
    """
    with ApiClient() as api:
        done = api.post(
            place("rollouts", rollout, "abort"), {"how": "revert" if revert else "keep"}
        )
    if output is Output.JSON:
        show_json(done)
        return
    back = len(done["restored"])
    say(
        f"{rollout} is {done['rollout']['state'].replace('-', ' ')}; {counted(back, 'device')} {'goes' if back == 1 else 'go'} back"
    )
    for device in done["left"]:
        say(f"  {device} keeps the version: it has proven no earlier one")


def pause(
    rollout: RolloutArgument,
    reason: Annotated[str, typer.Option(help="For whoever looks next.")] = "",
) -> None:
    """Release no more devices; those that were go on and are counted."""
    with ApiClient() as api:
        api.post(place("rollouts", rollout, "pause"), {"reason": reason})
    say(f"{rollout} is paused; `muster rollout resume {rollout}` goes on")


def resume(rollout: RolloutArgument) -> None:
    """Go on with a rollout that is paused.

    What has failed so far, and gates that were breached, are accepted: only more counts. A stage that
    was put back is tried again on the same devices.
    """
    with ApiClient() as api:
        api.post(place("rollouts", rollout, "resume"), {})
    say(f"{rollout} goes on")


def approve(rollout: RolloutArgument) -> None:
    """Let the stage begin that waits for approval."""
    with ApiClient() as api:
        api.post(place("rollouts", rollout, "approve"), {})
    say(f"{rollout}: approved")


def retry(
    rollout: RolloutArgument,
    device: Annotated[
        list[str] | None, typer.Option(help="Only this device; may be given again.")
    ] = None,
) -> None:
    """Ask devices again that have failed or are unreachable; a paused rollout goes on.

    A device that keeps the version out since it failed there tries it again.
    """
    with ApiClient() as api:
        asked = api.post(place("rollouts", rollout, "retry"), {"devices": device or []})
    say(f"{rollout} asks {counted(len(asked), 'device')} again: {', '.join(asked)}")


COMMANDS = (pause, resume, approve, retry, abort)
