"""What somebody who holds keys can make of the world's metadata."""

from typing import Any

import msgspec

from agent.errors import TransportError
from protos.documents import Assignment
from protos.tuf import Metadata, TargetFile
from tests.attacks.world import DeviceUnderAttack, World, outcome


async def accept(device: DeviceUnderAttack, envelope: bytes) -> str:
    return await outcome(device.trust.accept_directive(envelope, device.world.fetch))


def but(assignment: Assignment, **fields: Any) -> Assignment:
    return msgspec.structs.replace(assignment, **fields)


def forged_role(world: World, *targets: TargetFile) -> Metadata[Any]:
    """The model's next role, as somebody would like it."""
    role = world.current("models-digits")
    role.signed.version += 1
    role.signed.targets |= {target.path: target for target in targets}
    return role


def cut_off(world: World) -> None:
    def cut(name: str) -> None:
        raise TransportError(f"no answer for {name}")

    world.on_ask = cut


def republish(world: World, role: str, metadata: Metadata[Any]) -> None:
    """Makes these very bytes current, signatures and all, under a new version of the snapshot."""
    snapshot, timestamp = world.current("snapshot"), world.current("timestamp")
    data = metadata.to_bytes()
    world.forged[f"{metadata.signed.version}.{role}.json"] = data
    meta = snapshot.signed.meta[f"{role}.json"]
    meta.version, meta.length, meta.hashes = metadata.signed.version, None, None
    snapshot.signed.version += 1
    snapshot.sign(world.keys.online.snapshot)
    world.forged[f"{snapshot.signed.version}.snapshot.json"] = snapshot.to_bytes()
    meta = timestamp.signed.snapshot_meta
    meta.version, meta.length, meta.hashes = snapshot.signed.version, None, None
    timestamp.signed.version += 1
    timestamp.sign(world.keys.online.timestamp)
    world.forged["timestamp.json"] = timestamp.to_bytes()
