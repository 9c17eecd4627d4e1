"""The work of every state up to the switch, done when a slot's loop asks for it.

Each takes an install and returns it with what was learnt. An error says that the work could not be
done; ``agent.install.outcome`` says what follows from it.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Protocol, TypeVar
from weakref import WeakValueDictionary

from msgspec.structs import replace

from agent.errors import (
    DiskFull,
    EndlessData,
    HashMismatch,
    Incompatible,
    MalformedDocument,
    MixAndMatch,
    Refused,
    StoreError,
)
from agent.install.gates import (
    Circumstances,
    Gate,
    battery_gate,
    link_gate,
    shadow_gate,
    switch_gate,
)
from agent.install.machine import State
from agent.install.outcome import quarantine_error
from agent.install.ports import Fetcher, SelfTest, Trust
from agent.install.preflight import objections
from agent.install.reconcile import QuarantineLookup
from agent.install.record import Deployed, Install
from agent.install.slot.made import make_file, parent_of
from agent.store.blob_store import BlobStore
from protos.documents import UNCONDITIONAL, Assignment
from protos.errors import DocumentError
from protos.manifest import File, Manifest, Role, read_manifest
from protos.v1.common_pb2 import DeviceFacts

log = logging.getLogger(__name__)

T = TypeVar("T")


class Offload(Protocol):
    """Runs what waits for the disk, off the event loop: ``asyncio.to_thread``, or a twin of it."""

    def __call__(self, work: Callable[[], T], /) -> Awaitable[T]:
        """What ``work`` returns or raises."""
        ...


@dataclass(frozen=True, slots=True)
class Means:
    """What the work needs of the world.

    Attributes:
        fetching: by blob, the turn of those who want it.
        fetched: bytes by manifest and role, of installs that are fetching.
    """

    blobs: BlobStore
    trust: Trust
    fetcher: Fetcher
    self_test: SelfTest
    facts: Callable[[], DeviceFacts]
    opsets: Callable[[], Mapping[str, int]]
    quarantined: QuarantineLookup
    offload: Offload
    circumstances: Callable[[], Circumstances]
    fetching: WeakValueDictionary[str, asyncio.Lock] = field(default_factory=WeakValueDictionary)
    fetched: Counter[tuple[str, Role]] = field(default_factory=Counter)


async def bring(means: Means, sha256: str, length: int) -> None:
    """Returns when the blob is in the blob store; two slots may want the same one.

    What a power cut leaves of a partial can't be told from foreign bytes, so a mismatch is held
    against the version only if it happens again with a blob that was begun from nothing.
    """
    async with turn_of(means, sha256):
        if await means.offload(partial(means.blobs.has, sha256)):
            return
        try:
            await means.fetcher.fetch(sha256, length)
        except HashMismatch:
            log.info("install.fetch-again sha256=%s", sha256)
            await means.fetcher.fetch(sha256, length)


def turn_of(means: Means, sha256: str) -> asyncio.Lock:
    """Held by who brings the blob; gone with the last who waits for it."""
    return means.fetching.setdefault(sha256, asyncio.Lock())


async def pass_gate(means: Means, install: Install, gate: Gate) -> None:
    """Returns if the install need not wait at this gate.

    Raises:
        OutsideWindow, BatteryLow, MeteredLink: it must.
    """
    if install.conditions == UNCONDITIONAL:
        return
    reason = gate(install, await means.offload(means.circumstances))
    if reason is not None:
        raise reason


async def bring_file(means: Means, install: Install, role: Role, file: File) -> None:
    """Returns when the file is in the blob store.

    Raises:
        MeteredLink: it is not, and may not be fetched over this link.
    """
    if not await means.offload(partial(means.blobs.has, file.sha256)):
        await pass_gate(means, install, link_gate)
        await bring(means, file.sha256, file.length)
        if install.state is State.FETCHING:
            means.fetched[install.sha256, role] += file.length


async def bring_made(means: Means, install: Install, manifest: Manifest, role: Role) -> None:
    """Returns when the file is in the blob store: made of the parent's where that can be, or fetched.

    Raises:
        MeteredLink: it is not, and may not be fetched over this link.
    """
    file = manifest.files[role]
    if not await means.offload(partial(means.blobs.has, file.sha256)):
        try:
            await make(means, install, manifest, role)
        except (Refused, HashMismatch, EndlessData, MalformedDocument, StoreError) as error:
            log.warning(
                "install.not-made model=%s role=%s detail=%s",
                manifest.reference,
                role,
                error.detail,
            )
    await bring_file(means, install, role, file)


async def make(means: Means, install: Install, manifest: Manifest, role: Role) -> None:
    """Makes the file of the parent's, if it can be made so and the parent's is here."""
    parent, step = parent_of(manifest, role), manifest.files.get(Role.MODEL_STEP)
    if not parent or not await means.offload(partial(means.blobs.has, parent)):
        return
    if role is Role.MODEL and step is not None:
        await bring_file(means, install, Role.MODEL_STEP, step)
    async with turn_of(means, manifest.files[role].sha256):
        await means.offload(partial(make_file, means.blobs, manifest, role))


async def manifest_of(means: Means, install: Install) -> Manifest:
    """The install's manifest, from the blob store; fetched again if it is lost.

    Raises:
        MalformedDocument: it can't be read.
    """
    await bring(means, install.sha256, install.length)
    try:
        data = await means.offload(partial(means.blobs.read, install.sha256))
    except HashMismatch:
        await bring(means, install.sha256, install.length)
        data = await means.offload(partial(means.blobs.read, install.sha256))
    return manifest_in(data)


def manifest_in(data: bytes) -> Manifest:
    """The manifest.

    Raises:
        MalformedDocument: it can't be read.
    """
    try:
        return read_manifest(data)
    except DocumentError as error:
        raise MalformedDocument(error.detail) from error


async def verify(means: Means, install: Install) -> Install:
    """Directive and image metadata agree, and the version may run; its manifest is kept.

    Raises:
        Quarantined: it failed here before.
        MixAndMatch: the manifest is of another version than the directive says.
    """
    before = await means.offload(partial(means.quarantined, install.sha256))
    if before is not None and before.refuses(install.rollout, install.attempt):
        raise quarantine_error(before)
    verified = await means.trust.verify(
        Assignment(
            model=install.model,
            version=install.version,
            target=install.target,
            sha256=install.sha256,
            length=install.length,
            slot=install.slot,
            rollout=install.rollout,
        )
    )
    manifest = verified.manifest
    if (manifest.model, manifest.version) != (install.model, install.version):
        raise MixAndMatch(
            f"directed to {install.model}/{install.version}; {install.target} is {manifest.reference}"
        )
    await bring(means, install.sha256, install.length)
    candidate = Deployed(
        model=install.model,
        version=install.version,
        manifest_sha256=install.sha256,
        model_sha256=manifest.files[Role.MODEL].sha256,
        release_counter=manifest.release_counter,
        approvals=verified.approvals,
    )
    return replace(install, approvals=verified.approvals, candidate=candidate)


async def preflight(means: Means, install: Install) -> Install:
    """The device has what the version needs.

    Raises:
        Incompatible: it has not; names everything.
        DiskFull: it only lacks free disk space.
    """
    manifest = await manifest_of(means, install)
    present = await means.offload(partial(present_bytes, means.blobs, manifest))
    facts, opsets = await means.offload(means.facts), await means.offload(means.opsets)
    found = objections(manifest, facts, present, opsets)
    if found.lacks:
        raise Incompatible(f"{manifest.reference}: {found}")
    if found.room:
        raise DiskFull(f"{manifest.reference}: {found}")
    return install


def present_bytes(blobs: BlobStore, manifest: Manifest) -> int:
    """How many of the version's bytes are in the blob store."""
    return sum(file.length for file in manifest.needed.values() if blobs.has(file.sha256))


async def fetch(means: Means, install: Install) -> Install:
    """Every file is in the blob store.

    Raises:
        MeteredLink: one is not, and may not be fetched over this link.
    """
    manifest = await manifest_of(means, install)
    for role in manifest.needed:
        await bring_made(means, install, manifest, role)
    came = {role: means.fetched.pop((install.sha256, role), 0) for role in manifest.files}
    model = came[Role.MODEL] + came.get(Role.MODEL_STEP, 0)
    return replace(install, fetched_bytes=sum(came.values()), model_bytes=model)


async def check(means: Means, install: Install) -> Install:
    """Every file is the one that was signed for; one that the disk has lost is fetched again.

    Raises:
        HashMismatch: the disk changes it again and again.
        MixAndMatch: a file is of another length than the manifest says.
    """
    manifest = await manifest_of(means, install)
    for role, file in manifest.needed.items():
        length = await _checked_length(means, install, role, file)
        if length != file.length:
            raise MixAndMatch(
                f"{manifest.reference}: {role} has {length} bytes; the manifest says {file.length}"
            )
    return install


async def _checked_length(means: Means, install: Install, role: Role, file: File) -> int:
    try:
        return await means.offload(partial(means.blobs.verify, file.sha256))
    except (HashMismatch, StoreError) as error:
        log.warning("install.file-lost sha256=%s detail=%s", file.sha256, error.detail)
        await bring_file(means, install, role, file)
        return await means.offload(partial(means.blobs.verify, file.sha256))


async def stage(means: Means, install: Install) -> Install:
    """The files are durable: a blob has its name only when it is, and CHECKING has read it.

    Raises:
        BatteryLow: the device has not the power to test them.
    """
    await pass_gate(means, install, battery_gate)
    return install


async def self_test(means: Means, install: Install) -> Install:
    """The golden inputs gave what they must, within the budgets.

    A file that the disk has lost since CHECKING is fetched again: that is no fault of the version.

    Raises:
        BatteryLow: the device has not the power for it, since a restart has led here past STAGED.
    """
    await pass_gate(means, install, battery_gate)
    manifest = await manifest_of(means, install)
    try:
        result = await means.self_test.run(manifest)
    except HashMismatch as error:
        log.warning("install.file-lost detail=%s", error.detail)
        await check(means, install)
        result = await means.self_test.run(manifest)
    log.info(
        "install.self-tested model=%s version=%d p99=%.6f memory=%d difference=%g",
        install.model,
        install.version,
        result.p99_seconds,
        result.peak_memory_bytes,
        result.max_difference,
    )
    return install


async def shadow(_: Means, install: Install) -> Install:
    """Nothing (more) to learn beside the champion."""
    log.debug("install.shadow reason=%s", shadow_gate(install))
    return install


async def wait(means: Means, install: Install) -> Install:
    """The switch may be made now.

    Raises:
        OutsideWindow, BatteryLow: it may not.
    """
    await pass_gate(means, install, switch_gate)
    return install


WORK: Final[Mapping[State, Callable[[Means, Install], Awaitable[Install]]]] = {
    State.VERIFYING: verify,
    State.PREFLIGHT: preflight,
    State.FETCHING: fetch,
    State.CHECKING: check,
    State.STAGED: stage,
    State.SELF_TEST: self_test,
    State.SHADOW: shadow,
    State.WAITING: wait,
}
"""What each state up to the switch does."""
