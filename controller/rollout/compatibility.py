"""Whether a device has what a version needs, by the facts that it published.

The device checks again, and more, before it installs; here it spares devices the attempt. What is
not known of a device is no objection.
"""

from controller.fleet.device import Device
from controller.fleet.selector import number, version_key
from controller.rollout.facts import Release

MIB = 1024 * 1024


def objections(release: Release, device: Device) -> tuple[str, ...]:
    """Every reason why the device can't run the version; empty if it can."""
    needs, facts = release.needs, device.facts
    found = []
    arch = facts.get("arch", "")
    if needs.arch and arch and arch not in needs.arch:
        found.append(f"needs {' or '.join(needs.arch)}, is {arch}")
    memory = number(facts.get("memory_bytes", ""))
    if memory is not None and memory < needs.memory_bytes:
        found.append(
            f"needs {needs.memory_bytes // MIB} MiB of memory, has {int(memory) // MIB} MiB"
        )
    found += _runtime(release, device)
    agent = facts.get("agent_version", "")
    if _older(agent, release.minimum_agent):
        found.append(f"needs agent {release.minimum_agent}, has {agent}")
    return tuple(found)


def _runtime(release: Release, device: Device) -> list[str]:
    needs, facts = release.needs, device.facts
    told = any(name.startswith("runtimes.") for name in facts)
    have = facts.get(f"runtimes.{needs.runtime}", "")
    if told and not have:
        return [f"needs {needs.runtime}, has none"]
    if _older(have, needs.minimum_runtime):
        return [f"needs {needs.runtime} {needs.minimum_runtime}, has {have}"]
    return []


def _older(have: str, need: str) -> bool:
    """Whether both are dotted versions and ``have`` is the lower; missing parts are zeros."""
    left, right = version_key(have), version_key(need)
    if left is None or right is None:
        return False
    width = max(len(left), len(right))
    return left + (0,) * (width - len(left)) < right + (0,) * (width - len(right))
