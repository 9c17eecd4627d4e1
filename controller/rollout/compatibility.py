"""Whether a device has what a version needs, by the facts that it published.

The device checks again, and more, before it installs; here it spares devices the attempt. Versions
and architectures compare as they do there. What is not known of a device is no objection.
"""

from agent.install.preflight import architecture, at_least
from controller.fleet.device import Device
from controller.fleet.selector import number
from controller.rollout.facts import Release

MIB = 1024 * 1024


def objections(release: Release, device: Device) -> tuple[str, ...]:
    """Every reason why the device can't run the version; empty if it can."""
    needs, facts = release.needs, device.facts
    found = []
    arch = facts.get("arch", "")
    if needs.arch and arch and architecture(arch) not in map(architecture, needs.arch):
        found.append(f"needs {' or '.join(needs.arch)}, is {arch}")
    memory = number(facts.get("memory_bytes", ""))
    if memory is not None and memory < needs.memory_bytes:
        found.append(
            f"needs {needs.memory_bytes // MIB} MiB of memory, has {int(memory) // MIB} MiB"
        )
    found += _runtime(release, device)
    agent = facts.get("agent_version", "")
    if agent and not at_least(agent, release.minimum_agent):
        found.append(f"needs agent {release.minimum_agent}, has {agent}")
    return tuple(found)


class Compatibility:
    """``objections`` to one release, remembered by the facts that they come from."""

    def __init__(self, release: Release) -> None:
        self._release = release
        self._runtime = f"runtimes.{release.needs.runtime}"
        self._known: dict[tuple[str | bool, ...], tuple[str, ...]] = {}

    def objections(self, device: Device) -> tuple[str, ...]:
        """As the function of that name."""
        facts = device.facts
        have = facts.get(self._runtime, "")
        key = (
            facts.get("arch", ""),
            facts.get("memory_bytes", ""),
            facts.get("agent_version", ""),
            have or _told(device),
        )
        if key not in self._known:
            self._known[key] = objections(self._release, device)
        return self._known[key]


def _told(device: Device) -> bool:
    return any(name.startswith("runtimes.") for name in device.facts)


def _runtime(release: Release, device: Device) -> list[str]:
    needs, facts = release.needs, device.facts
    have = facts.get(f"runtimes.{needs.runtime}", "")
    if not have and _told(device):
        return [f"needs {needs.runtime}, has none"]
    if have and not at_least(have, needs.minimum_runtime):
        return [f"needs {needs.runtime} {needs.minimum_runtime}, has {have}"]
    return []
