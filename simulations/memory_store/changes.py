"""Which devices have changed, in memory."""

from collections.abc import Collection


class MemoryChanges:
    """``controller.store.store.Changes``. What was rolled back stays noted: nobody is misled by it."""

    def __init__(self) -> None:
        self._devices: list[str] = []

    def note(self, device: str) -> None:
        """Something of the device has changed."""
        self._devices.append(device)

    def since(self, revision: int) -> tuple[Collection[str], int]:  # noqa: D102 - see the Protocol
        return set(self._devices[revision:]), len(self._devices)
