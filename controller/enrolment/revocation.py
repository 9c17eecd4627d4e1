"""Which certificates are good no more, out of what the audit record says was issued."""

from collections.abc import Iterable, Sequence
from typing import Final

from controller.audit import Record
from controller.fleet.device import Device, DeviceStatus

ISSUING: Final = frozenset({"device.join", "device.join-again", "device.renew"})
"""The actions that give a device a certificate; their detail has its serial."""


def revoked_serials(devices: Iterable[Device], records: Iterable[Record]) -> Sequence[str]:
    """Serials (hex) of every certificate that revoked devices ever had, each once.

    Not only of the newest: an older certificate of the same key is good until it expires.
    """
    revoked = {one.id: one for one in devices if one.status is DeviceStatus.REVOKED}
    found = dict.fromkeys(one.certificate_serial for one in revoked.values())
    for record in records:
        entry = record.entry
        if entry.action in ISSUING and entry.subject in revoked:
            found[entry.detail["serial"]] = None
    return tuple(serial for serial in found if serial)
