"""Which device has changed when, by number. What was rolled back stays noted: it misleads nobody."""

from collections.abc import Collection


class Noted:
    """The newest change of each device.

    Attributes:
        revision: of the newest one.
    """

    def __init__(self) -> None:
        self.revision = 0
        self._devices: dict[str, int] = {}  # last changed last

    def note(self, device: str) -> None:
        """Something of the device has changed."""
        self.revision += 1
        self._devices.pop(device, None)
        self._devices[device] = self.revision

    def since(self, revision: int) -> Collection[str]:
        """The devices that have changed since then, last changed first."""
        found = []
        for device, at in reversed(self._devices.items()):
            if at <= revision:
                break
            found.append(device)
        return found
