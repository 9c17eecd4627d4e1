"""What is true of versions and devices, which neither agents nor the controller are told.

An agent learns it as it does in life: from its self-test and from requests that fail or take long.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import msgspec

from agent.errors import AgentError, SelfTestCrashed, SelfTestMismatch, SelfTestSlow
from agent.install.record import Deployed
from controller.fleet.selector import matches
from controller.fleet.selector_parser import parse
from protos.documents import sha256
from protos.manifest import Budgets, File, Manifest, Needs, Role, Semantic, Tensor, target_path
from simulations.fleet.scenario import Behaviour, Effect, Version, Who

BASE_P99_SECONDS: Final = 0.02
BUDGET_P99_SECONDS: Final = 0.08
BASE_ERRORS: Final = 0.001
BASE_CONFIDENCE: Final = 0.9
BASE_DRIFT: Final = 0.02
"""Share of windows that are found to have moved or to be faulty though nothing is wrong."""
APPROVALS: Final = 1


@dataclass(frozen=True, slots=True)
class Conduct:
    """What a version does on a device by a certain time."""

    mismatches: bool = False
    crashes_in_self_test: bool = False
    crashes: bool = False
    slower: float = 1.0
    errors: float = BASE_ERRORS
    confidence: float = BASE_CONFIDENCE
    drift: float = BASE_DRIFT
    bad_data: float = BASE_DRIFT

    def self_test_error(self, slowness: float) -> AgentError | None:
        """What its self-test ends with on a device that is so much slower; None if it passes."""
        if self.mismatches:
            return SelfTestMismatch("output probabilities differs by 0.31; 1e-05 may")
        if self.crashes_in_self_test:
            return SelfTestCrashed("the process ended with signal SIGSEGV")
        p99 = BASE_P99_SECONDS * self.slower * slowness
        if p99 > BUDGET_P99_SECONDS:
            return SelfTestSlow(
                f"p99 is {p99 * 1e3:.3g} ms; the budget is {BUDGET_P99_SECONDS * 1e3:.3g} ms"
            )
        return None


GOOD: Final = Conduct()


@dataclass(frozen=True)
class Edition:
    """A version with its files, and on whom it does what.

    Attributes:
        afflicted: beside each behaviour, the numbers of the devices that it shows on.
    """

    version: Version
    afflicted: tuple[tuple[Behaviour, frozenset[int]], ...]

    @cached_property
    def manifest(self) -> Manifest:
        """As it was signed."""
        tensor = Tensor(name="x", dtype="FP32", shape=(-1, 64), semantic=Semantic.NUMERIC)
        name = self.version.reference
        files = {
            role: File(sha256=sha256(f"{name} {role}".encode()), length=length)
            for role, length in (
                (Role.MODEL, self.version.length),
                (Role.REFERENCE, 40_000),
                (Role.GOLDEN, 20_000),
                (Role.CARD, 4_000),
            )
        }
        return Manifest(
            model=self.version.model,
            version=self.version.number,
            release_counter=self.version.number,
            inputs=(tensor,),
            outputs=(msgspec.structs.replace(tensor, name="probabilities"),),
            files=files,
            needs=Needs(),
            budgets=Budgets(latency_p99_seconds=BUDGET_P99_SECONDS, memory_bytes=64_000_000),
        )

    @cached_property
    def encoded(self) -> bytes:
        """The manifest's bytes."""
        return self.manifest.encode()

    @cached_property
    def sha256(self) -> str:
        """Of the manifest."""
        return sha256(self.encoded)

    @cached_property
    def deployed(self) -> Deployed:
        """As a slot points at it."""
        return Deployed(
            model=self.version.model,
            version=self.version.number,
            manifest_sha256=self.sha256,
            model_sha256=self.manifest.files[Role.MODEL].sha256,
            release_counter=self.version.number,
            approvals=APPROVALS,
        )

    @cached_property
    def length(self) -> int:
        """Bytes of all its files."""
        return sum(file.length for file in self.manifest.files.values())

    @property
    def target(self) -> str:
        """Its path in the image metadata."""
        return target_path(self.version.model, self.version.number)

    def conduct(self, device: int, seconds: float) -> Conduct:
        """What it does on this device when it has been committed for so long."""
        conduct = GOOD
        for behaviour, devices in self.afflicted:
            if device in devices and seconds >= behaviour.after:
                conduct = _with(conduct, behaviour)
        return conduct


def _with(conduct: Conduct, behaviour: Behaviour) -> Conduct:
    return _CHANGES[behaviour.effect](conduct, behaviour.amount)


_CHANGES: Final[Mapping[Effect, Callable[[Conduct, float], Conduct]]] = {
    Effect.FAILS_SELF_TEST: lambda of, _: replace(of, mismatches=True),
    Effect.CRASHES_IN_SELF_TEST: lambda of, _: replace(of, crashes_in_self_test=True),
    Effect.CRASHES: lambda of, _: replace(of, crashes=True),
    Effect.SLOWS: lambda of, by: replace(of, slower=of.slower * by),
    Effect.ERRORS: lambda of, by: replace(of, errors=min(1.0, of.errors + by)),
    Effect.LOSES_CONFIDENCE: lambda of, by: replace(of, confidence=of.confidence - by),
    Effect.DRIFTS: lambda of, by: replace(of, drift=min(1.0, of.drift + by)),
    Effect.BAD_DATA: lambda of, by: replace(of, bad_data=min(1.0, of.bad_data + by)),
}


def drawn(who: Who, devices: Sequence[Mapping[str, str]], salt: str) -> Sequence[int]:
    """The numbers of the devices that are meant, given the attributes of all, ascending.

    The same ones for the same salt, and of a part those of every smaller part.
    """
    selector = parse(who.selector)
    meant = [number for number, of in enumerate(devices) if matches(selector, of)]
    if who.count is None and who.part is None:
        return meant
    count = who.count
    if count is None:
        count = round(len(meant) * (who.part or 0.0) / 100)
    lots = sorted(meant, key=lambda number: _lot(salt, devices[number]["id"]))
    return sorted(lots[:count])


def _lot(salt: str, device: str) -> bytes:
    return hashlib.sha256(f"{salt}\0{device}".encode()).digest()
