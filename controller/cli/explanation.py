"""What people see who ask why a selector matches a device, or so many."""

from typing import Any

from controller.cli.client import ApiClient, place
from controller.cli.output import Output, counted, say, show_json


def explain(api: ApiClient, selector: str, device: str | None, output: Output) -> None:
    """Shows why ``selector`` matches the device or not; without one, what each of its parts matches.

    Raises:
        CommandFailed: the selector can't be read, or there is no such device.
    """
    path = "/matching" if device is None else place("devices", device, "matching")
    found = api.get(path, selector=selector)
    if output is Output.JSON:
        show_json(found)
    elif device is None:
        _show_tally(found)
    else:
        _show_verdict(found, device)


def _show_tally(found: dict[str, Any]) -> None:
    matching, devices, revoked = found["matching"], found["devices"], found["revoked"]
    say(f"{matching:,} of {counted(devices, 'device')} {'matches' if matching == 1 else 'match'}")
    for line in found["lines"]:
        say(line)
    if revoked:
        say(f"{counted(revoked, 'revoked device')} would match: rollouts leave revoked devices out")


def _show_verdict(found: dict[str, Any], device: str) -> None:
    say(f"{device} {'matches' if found['matches'] else 'does not match'}")
    for line in found["lines"]:
        say(line)
    if found["status"] == "revoked":
        say(f"{device} is revoked: rollouts leave it out")
