"""Whether a device has what a version needs: every objection at once."""

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from protos.manifest import Manifest
from protos.v1.common_pb2 import DeviceFacts

_ARCH: Final = {"amd64": "x86_64", "x64": "x86_64", "arm64": "aarch64", "armv8l": "aarch64"}
_NUMBER: Final = re.compile(r"\d+")
_NOTHING: Final[Mapping[str, int]] = {}


@dataclass(frozen=True, slots=True)
class Objections:
    """Why a version can't run here; ``room`` is what free disk space alone would mend."""

    lacks: tuple[str, ...] = ()
    room: str = ""

    def __str__(self) -> str:
        """All of them, for a person."""
        return "; ".join((*self.lacks, self.room) if self.room else self.lacks)


def objections(
    manifest: Manifest,
    facts: DeviceFacts,
    present_bytes: int = 0,
    opsets: Mapping[str, int] = _NOTHING,
) -> Objections:
    """What stands against the version on this device.

    ``present_bytes`` is how many of the version's bytes are on the device already; ``opsets`` is the
    highest opset by runtime, where it is known and not 0: where not, loading will tell.
    """
    needs = manifest.needs
    lacks = []
    if needs.arch and architecture(facts.arch) not in {architecture(one) for one in needs.arch}:
        lacks.append(f"needs {' or '.join(needs.arch)}; this is {facts.arch or 'unknown'}")
    if needs.memory_bytes > facts.memory_bytes:
        lacks.append(f"needs {needs.memory_bytes} bytes of memory; there are {facts.memory_bytes}")
    runtime = facts.runtimes.get(needs.runtime)
    if runtime is None:
        lacks.append(f"needs {needs.runtime}, which is not here")
    elif not at_least(runtime, needs.minimum_runtime):
        lacks.append(f"needs {needs.runtime} {needs.minimum_runtime}; here is {runtime}")
    opset = opsets.get(needs.runtime)
    if opset and needs.opset > opset:
        lacks.append(f"needs opset {needs.opset}; {needs.runtime} here goes up to {opset}")
    if not at_least(facts.agent_version, manifest.minimum_agent):
        lacks.append(f"needs agent {manifest.minimum_agent}; this is {facts.agent_version}")
    return Objections(tuple(lacks), _room(manifest, facts, present_bytes))


def _room(manifest: Manifest, facts: DeviceFacts, present_bytes: int) -> str:
    total = sum(file.length for file in manifest.files.values())
    missing = max(manifest.needs.disk_bytes, total) - present_bytes
    if missing <= facts.disk_free_bytes:
        return ""
    return f"needs {missing} bytes of disk; {facts.disk_free_bytes} are free"


def architecture(name: str) -> str:
    """One name for a machine architecture that goes by several."""
    return _ARCH.get(name.lower(), name.lower())


@functools.lru_cache(maxsize=512)
def at_least(version: str, minimum: str) -> bool:
    """Whether ``version`` is not older; by the leading number of every dotted part.

    A planner asks the same of every device of a fleet, each time it plans.
    """
    have, need = _parts(version), _parts(minimum)
    length = max(len(have), len(need))
    return _padded(have, length) >= _padded(need, length)


def _parts(version: str) -> Sequence[int]:
    public = version.split("+", maxsplit=1)[0]
    numbers = (_NUMBER.match(part) for part in public.split("."))
    return [int(number[0]) if number else 0 for number in numbers]


def _padded(parts: Sequence[int], length: int) -> tuple[int, ...]:
    return (*parts, *(0 for _ in range(length - len(parts))))
