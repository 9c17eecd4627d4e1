"""Who takes part: devices of sites and kinds of hardware, and what all of them run at the beginning."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, overload

import msgspec
import numpy as np

from agent.install.machine import State as InstallState
from agent.install.record import Install, Slot
from agent.install.report import report
from agent.install.soak import Answering
from controller.fleet.device import Device as Enrolled
from controller.registry.version import Model, State, Version
from controller.rollout.actions import release_of
from controller.rollout.assignments import assignments
from controller.rollout.rollout import SignedDirective, Wanted
from controller.store.store import Transaction
from controller.telemetry.report import VerifiedReport, checked_report
from protos.documents import Directive
from simulations.fleet.device import Birth, Device, World
from simulations.fleet.ground import unsigned
from simulations.fleet.intake import UNKEPT
from simulations.fleet.line import AGENT_VERSION
from simulations.fleet.queue import EPOCH
from simulations.fleet.scenario import Scenario, Share
from simulations.fleet.tally import Doing, Part
from simulations.fleet.truth import Edition, drawn

CHAMPION: Final = "champion"
MEMORY_BYTES: Final = 1 << 30
ANYBODY: Final = "anybody"


@dataclass(frozen=True, slots=True)
class Cast:
    """The devices by number."""

    births: tuple[Birth, ...]

    @property
    def attributes(self) -> Sequence[Mapping[str, str]]:
        """What selectors see of each."""
        return _Attributes(self.births)


@dataclass(frozen=True, slots=True)
class _Attributes(Sequence[Mapping[str, str]]):
    """Made as they are looked at: all at once would take more room than the devices."""

    births: tuple[Birth, ...]

    @overload
    def __getitem__(self, at: int) -> Mapping[str, str]: ...

    @overload
    def __getitem__(self, at: slice) -> Sequence[Mapping[str, str]]: ...

    def __getitem__(self, at: int | slice) -> Mapping[str, str] | Sequence[Mapping[str, str]]:
        if isinstance(at, slice):
            return _Attributes(self.births[at])
        birth = self.births[at]
        return {**birth.labels, **birth.facts, "id": birth.id}

    def __len__(self) -> int:
        return len(self.births)


def cast(scenario: Scenario, count: int, seed: int) -> Cast:
    """Devices, each of one site and one kind of hardware, mixed by chance in just those shares."""
    rng = random.Random(f"{seed} cast")  # noqa: S311 - nothing secret
    sites = _dealt(scenario.sites, count, rng)
    kinds = _dealt(scenario.hardware, count, rng)
    width = max(3, len(str(count)))
    births: list[Birth] = []
    shared: dict[tuple[str, str], Mapping[str, str]] = {}
    facts = {
        "arch": "aarch64",
        "memory_bytes": str(MEMORY_BYTES),
        "agent_version": AGENT_VERSION,
        "runtimes.onnxruntime": "1.24.0",
    }
    for number in range(count):
        site, kind = sites[number], kinds[number]
        labels = shared.setdefault((site.name, kind.name), {"site": site.name, "hw": kind.name})
        name = f"device-{number + 1:0{width}}"
        births.append(Birth(name, labels, facts, site.offset))
    return Cast(tuple(births))


def _dealt(shares: Sequence[Share], count: int, rng: random.Random) -> Sequence[Share]:
    total, sum_so_far = sum(one.part for one in shares), 0.0
    dealt: list[Share] = []
    for one in shares:
        sum_so_far += one.part
        dealt += [one] * (round(count * sum_so_far / total) - len(dealt))
    rng.shuffle(dealt)
    return dealt


def editions(scenario: Scenario, members: Cast, seed: int) -> Mapping[str, Edition]:
    """The versions, each with the devices that it does something on."""
    return {
        version.reference: Edition(
            version,
            tuple(
                (
                    behaviour,
                    frozenset(
                        drawn(behaviour.who, members.attributes, f"{seed} {version.reference} {at}")
                    ),
                )
                for at, behaviour in enumerate(version.behaviours)
            ),
        )
        for version in scenario.versions
    }


def numbers(seed: int) -> np.random.Generator:
    """Chance, for counts."""
    return np.random.Generator(np.random.PCG64(seed))


def publish(tx: Transaction, known: Mapping[str, Edition]) -> None:
    """Puts the versions into the registry, as approved and published."""
    for edition in known.values():
        version = edition.version
        if tx.registry.model(version.model) is None:
            tx.registry.put_model(Model(version.model, EPOCH, 1))
        tx.registry.put_version(
            Version(
                version.model,
                version.number,
                State.PUBLISHED,
                edition.encoded,
                edition.sha256,
                EPOCH,
                "ada",
            )
        )


def enrol(tx: Transaction, devices: Sequence[Device], births: Sequence[Birth]) -> None:
    """Enrols the devices, each with a live link."""
    for device, birth in zip(devices, births, strict=True):
        tx.devices.put(
            Enrolled(
                device.id,
                EPOCH - 86_400,
                b"",
                "01",
                EPOCH + 1e9,
                labels=birth.labels,
                facts=birth.facts,
                last_seen=EPOCH,
                connected=True,
                connected_since=EPOCH,
            )
        )
        device.linked = True


def settle(tx: Transaction, ground: World, devices: Sequence[Device], edition: Edition) -> None:
    """Every device has proven this version before the beginning, and was told so."""
    version = edition.version
    found = tx.registry.version(version.model, version.number)
    if found is None:
        raise ValueError(f"{version.reference} is not registered")
    releases = {(version.model, version.number): release_of(found)}
    asked = assignments([_wanted(ANYBODY, edition)], releases, {})
    slot, install, count = _proven(edition)
    told = _told(edition, slot, install)
    part = Part(Doing.RUNS, version.reference)
    for device in devices:
        tx.rollouts.put_wanted(_wanted(device.id, edition))
        directive = Directive(
            device=device.id, generation=1, issued_at=int(EPOCH) - 3600, assignments=asked
        )
        tx.rollouts.put_directive(
            SignedDirective(device.id, 1, unsigned(directive), directive.issued_at)
        )
        device.directive = directive
        device.slots, device.installs = ground.shared((slot,)), (install,)
        device.counts = ((slot.key, count),)
        device.counter = told.stored.counter
        slots = [msgspec.structs.replace(one, device=device.id) for one in told.slots]
        tx.devices.replace_slots(device.id, slots)
        tx.telemetry.add_report(msgspec.structs.replace(told.stored, device=device.id))
        device.part = part
    ground.tally.parts[part] += len(devices)


def _wanted(device: str, edition: Edition) -> Wanted:
    version = edition.version
    return Wanted(device, version.model, CHAMPION, version.number, "", EPOCH - 3600)


def _proven(edition: Edition) -> tuple[Slot, Install, Answering]:
    """What a device has once it has proven the version: the same on each."""
    version, deployed = edition.version, edition.deployed
    slot = Slot(version.model, CHAMPION, active=deployed, committed=deployed)
    install = Install(
        model=version.model,
        slot=CHAMPION,
        version=version.number,
        generation=1,
        target=edition.target,
        sha256=edition.sha256,
        length=len(edition.encoded),
        state=InstallState.COMMITTED,
        since=EPOCH - 3600,
        approvals=deployed.approvals,
        candidate=deployed,
    )
    return slot, install, Answering(deployed, -3600.0)


def _told(edition: Edition, slot: Slot, install: Install) -> VerifiedReport:
    """What a device has reported of it: the same from each."""
    said = report(
        device=ANYBODY,
        counter=1,
        generation=1,
        reported_at=int(EPOCH) - 3600,
        agent_version=AGENT_VERSION,
        slots=(slot,),
        installs=(install,),
        loaded={slot.key: edition.deployed.model_sha256},
    )
    return checked_report(ANYBODY, said, UNKEPT, 0, EPOCH)
