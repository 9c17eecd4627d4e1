"""A device that runs a version, and the states that an install of the next one goes through."""

from agent.install.machine import State
from tests.agent.install.outside import Outside, bundle
from tests.agent.install.world import Device

ONE, TWO, THREE = (bundle(version=number) for number in (1, 2, 3))


async def running_one(outside: Outside) -> Device:
    """A device that has committed version 1."""
    device = Device(outside)
    device.direct(1, ONE.assignment())
    await device.settle()
    assert device.versions() == (1, 1)
    return device.restarted()


def seen(device: Device, state: State) -> bool:
    return any(
        change.name == f"install.{state}" and change.version == 2 for change in device.changes
    )
