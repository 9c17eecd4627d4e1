"""Certificates that are renewed while their device is connected, and devices that are shut out."""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from simulations.demo.stage import Device
from tests.end_to_end.conftest import MakeFleet
from tests.end_to_end.fleet import Fleet, model_file

MODEL = "ripe"
LIFETIME_SECONDS = 150.0
"""Certificates begin 5 min before they are made: two thirds of all that are over at most 38 s after."""


@pytest.fixture(scope="module")
def fleet(make_fleet: MakeFleet) -> Fleet:
    fleet = make_fleet(3, lifetime_days=LIFETIME_SECONDS / 86_400)
    fleet.appoint(MODEL)
    version = fleet.publish(MODEL, model_file(1.0))
    fleet.join(*fleet.stage.devices)
    rollouts = [fleet.start(MODEL, version, device) for device in fleet.stage.devices[:2]]
    for rollout in rollouts:
        assert fleet.ended(rollout)["state"] == "succeeded"
    return fleet


def log(device: Device) -> str:
    return device.daemon.log.read_text()


def test_a_revoked_device_is_cut_off_at_once_and_goes_on_serving(
    fleet: Fleet,
) -> None:
    revoked, other, _ = fleet.stage.devices
    fleet.online(revoked, other)
    links = log(other).count("connection.up")
    feeder = fleet.feed(revoked, MODEL)
    fleet.wait("answers", lambda: feeder.answered or None)

    fleet.stage.muster("device", "revoke", revoked.name, "--yes")
    fleet.wait("the cut", lambda: "code=device-revoked" in log(revoked) or None)
    fleet.wait("its absence", lambda: revoked.name not in fleet.present() or None)

    known = set(fleet.stored(revoked, MODEL))
    answered = feeder.answered
    fleet.wait(
        "windows that nobody takes",
        lambda: len(set(fleet.accounts(revoked, MODEL)) - known) >= 2 or None,
    )
    assert set(fleet.stored(revoked, MODEL)) == known
    assert feeder.answered > answered
    assert feeder.first_failure == ""
    assert other.name in fleet.present()
    assert log(other).count("connection.up") == links

    # Nor does it come back when it begins anew: but it serves.
    refusals = log(revoked).count("code=device-revoked")
    feeder.pause()
    revoked.daemon.kill()
    revoked.daemon.start()
    fleet.wait(
        "another refusal",
        lambda: log(revoked).count("code=device-revoked") > refusals or None,
    )
    fleet.wait("its model", lambda: fleet.ready(revoked, MODEL))
    assert revoked.name not in fleet.present()


def test_a_certificate_is_renewed_while_its_device_is_connected(
    fleet: Fleet,
) -> None:
    connected = fleet.stage.devices[1:]
    renewal = fleet.wait("a renewal", lambda: renewed_while_connected(fleet, connected))
    query = "SELECT enrolled_at, certificate_serial, certificate_expires FROM devices WHERE id = ?"
    ((enrolled_at, serial, expires),) = fleet.ask(query, renewal.device)
    assert time.time() < enrolled_at + LIFETIME_SECONDS < expires
    assert serial == renewal.new != renewal.old
    assert renewal.device in fleet.present()

    # The link that was up goes on; the next one is made with the new certificate.
    assert last_link(fleet, renewal.device) == renewal.old
    fleet.stage.controller.kill()
    fleet.stage.start_controller()
    fleet.online(*connected)
    assert last_link(fleet, renewal.device) == renewal.new
    assert fleet.audit_holds()


@dataclass(frozen=True)
class Renewal:
    """Serials of a device's certificates: of its link, and of what it was given meanwhile."""

    device: str
    old: str
    new: str


def renewed_while_connected(fleet: Fleet, devices: Sequence[Device]) -> Renewal | None:
    """The first in the controller's log."""
    links: dict[str, str] = {}
    names = {device.name for device in devices}
    for what, device, serial in told(fleet):
        if device not in names:
            continue
        if what == "session.up":
            links[device] = serial
        elif device in links:
            return Renewal(device, links[device], serial)
    return None


def last_link(fleet: Fleet, device: str) -> str:
    """The serial of the certificate that the device's newest link was made with."""
    links = [one for one in told(fleet) if one[:2] == ("session.up", device)]
    return links[-1][2]


def told(fleet: Fleet) -> list[tuple[str, str, str]]:
    """(what, device, serial) of links and renewals, as the controller has logged them."""
    line = re.compile(
        r"(session\.up|enrolment\.renewed) device=(\S+) (?:certificate|serial)=([0-9a-f]+)"
    )
    return line.findall(fleet.stage.controller.log.read_text())
