"""A fleet's whole image side, made by the controller's own code, and a device that trusts it.

The tests play the attacker: they hold whatever keys they have stolen, and serve what they like.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from agent.errors import AgentError, Refused
from agent.install.record import Deployed
from agent.store.device_store import DeviceStore, Identity
from agent.trust.actions import ImageTrust
from agent.trust.verify import VerifiedVersion
from controller.registry.version import Change, State, Version
from controller.signing import actions, approval, repository
from controller.signing import directive as directives
from controller.signing.actions import Accepted, Act, Founders, OnlineSigners
from controller.signing.publication import publish, publish_timestamp
from controller.signing.roles import DEFAULT_LIFETIMES
from protos.documents import Assignment, Directive
from protos.envelope import seal
from protos.keys import CryptoSigner, Signer
from protos.manifest import REQUIRED_FILES, Budgets, File, Manifest, Needs, role_name
from protos.tuf import Metadata
from simulations.memory_device_store import MemoryDeviceStore
from simulations.memory_store.store import MemoryStore

DEVICE = "press-7"


@dataclass
class ManualClock:
    """Stands still until it is moved."""

    time: datetime = field(default_factory=lambda: datetime.now(UTC))
    moved: asyncio.Event = field(default_factory=asyncio.Event)

    def now(self) -> datetime:
        return self.time

    def monotonic(self) -> float:
        return self.time.timestamp()

    async def sleep(self, seconds: float) -> None:
        until = self.time + timedelta(seconds=seconds)
        while self.time < until:
            await self.moved.wait()
            self.moved.clear()

    def advance(self, **parts: float) -> datetime:
        self.time += timedelta(**parts)
        self.moved.set()
        return self.time


@dataclass
class Keys:
    """Everybody's keys."""

    root: tuple[CryptoSigner, ...]
    targets: CryptoSigner
    online: OnlineSigners
    director: CryptoSigner
    approvers: Mapping[str, tuple[CryptoSigner, ...]]


def new_key() -> CryptoSigner:
    return CryptoSigner.generate_ed25519()


def new_keys() -> Keys:
    return Keys(
        root=(new_key(), new_key(), new_key()),
        targets=new_key(),
        online=OnlineSigners(new_key(), new_key()),
        director=new_key(),
        approvers={"digits": (new_key(), new_key(), new_key()), "other": (new_key(),)},
    )


def manifest(model: str, version: int, counter: int | None = None, agent: str = "") -> Manifest:
    files = {role: File(sha256=f"{version:064x}", length=1000) for role in REQUIRED_FILES}
    return Manifest(
        model=model,
        version=version,
        release_counter=version if counter is None else counter,
        inputs=(),
        outputs=(),
        files=files,
        needs=Needs(),
        budgets=Budgets(latency_p99_seconds=0.1, memory_bytes=1 << 20),
        minimum_agent=agent,
    )


class World:
    """The controller with its keys, and what it serves. ``digits`` needs 2 of 3, ``other`` 1 of 1."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.keys = new_keys()
        self.store = MemoryStore()
        self.blobs: dict[str, bytes] = {}
        self.forged: dict[str, bytes | Exception] = {}
        self.asked: list[str] = []
        self.on_ask: Callable[[str], None] | None = None
        founders = Founders(
            root=self.keys.root,
            root_threshold=2,
            targets=[self.keys.targets],
            targets_threshold=1,
            director=[self.keys.director.public_key],
        )
        with self.store.begin() as tx:
            self.root = actions.create_repository(tx, founders, self.keys.online, self.act())
        self.delegate("digits", self.keys.approvers["digits"], 2)
        self.delegate("other", self.keys.approvers["other"], 1)

    def act(self, by: str = "ada") -> Act:
        return Act(by, self.clock.now())

    def delegate(self, model: str, approvers: Iterable[Signer], threshold: int) -> None:
        with self.store.begin() as tx:
            named = [
                repository.named(signer.public_key, f"{model}-{number}")
                for number, signer in enumerate(approvers)
            ]
            pending = actions.propose_delegation(tx, model, named, threshold, self.act())
            signature = self.keys.targets.sign(Metadata.from_bytes(pending).signed_bytes)
            signed = actions.add_signature(
                pending, self.keys.targets.public_key, bytes.fromhex(signature.signature)
            )
            actions.accept_targets(tx, signed, self.keys.online, self.act())

    def register(self, made: Manifest) -> Version:
        data = made.encode()
        version = Version(
            model=made.model,
            version=made.version,
            state=State.VALIDATED,
            manifest=data,
            manifest_sha256=made.digest,
            registered_at=self.clock.now().timestamp(),
            registered_by="ada",
        )
        self.blobs[made.digest] = data
        with self.store.begin() as tx:
            tx.registry.put_version(version)
        return version

    def propose(self, model: str, version: int) -> None:
        with self.store.begin() as tx:
            actions.propose_version(tx, model, version, self.act())

    def approve(self, model: str, version: int, signer: Signer) -> Accepted:
        with self.store.begin() as tx:
            pending = tx.registry.pending(model, version)
            found = tx.registry.version(model, version)
            assert pending is not None
            assert found is not None
            floor = pending_floor(pending.metadata) if pending.change is Change.RECALL else 0
            shown = approval.Shown(model, version, pending.change, found.manifest, floor)
            checked = approval.check_version(
                self.trusted_image(model), pending.metadata, shown, self.clock.now()
            )
            signature = approval.sign(checked, signer)
            return actions.accept_signature(
                tx,
                model,
                version,
                signature.keyid,
                bytes.fromhex(signature.signature),
                self.keys.online,
                self.act(),
            )

    def trusted_image(self, model: str) -> approval.TrustedImage:
        tables = self.store._tables
        targets = tables.metadata.current("targets")
        assert targets is not None
        newer: list[bytes] = []
        while (data := tables.metadata.get(f"{len(newer) + 2}.root.json")) is not None:
            newer.append(data)
        role = tables.metadata.current(role_name(model))
        version = Metadata.from_bytes(targets).signed.version
        older = (tables.metadata.get(f"{one}.targets.json") for one in range(version - 1, 0, -1))
        former = [data for data in older if data is not None]
        return approval.trusted_image(self.root, newer, targets, role, model, former)

    def publish(self, made: Manifest) -> Version:
        version = self.register(made)
        self.propose(made.model, made.version)
        self.sign_enough(made.model, made.version)
        return version

    def sign_enough(self, model: str, version: int) -> None:
        for signer in self.keys.approvers[model]:
            if self.approve(model, version, signer).published:
                return
        raise AssertionError("not enough approvers")

    def recall(self, model: str, version: int, floor: int = 0) -> None:
        with self.store.begin() as tx:
            actions.propose_recall(tx, model, version, self.act(), floor)
        self.sign_enough(model, version)

    def resign(self) -> None:
        with self.store.begin() as tx:
            actions.resign_online(tx, self.keys.online, self.act())

    def new_timestamp(self) -> None:
        with self.store.begin() as tx:
            snapshot = tx.metadata.current("snapshot")
            assert snapshot is not None
            publish_timestamp(tx, snapshot, self.keys.online, self.act())

    def force(self, role: str, metadata: Metadata[Any], signers: Iterable[Signer]) -> None:
        """What whoever holds the online keys can do: make any bytes current."""
        data = resigned(metadata, signers)
        with self.store.begin() as tx:
            publish(tx, {role: (metadata.signed.version, data)}, self.keys.online, self.act())

    def rotate_root(self, online: OnlineSigners | None = None, **keys: Any) -> None:
        """The next root, signed by two of the keys of both."""
        with self.store.begin() as tx:
            current = tx.metadata.current("root")
            assert current is not None
            before = Metadata.from_bytes(current).signed
            after = replace(repository.top_level_keys(before), **keys)
            if online is not None:
                after = replace(
                    after,
                    snapshot=online.snapshot.public_key,
                    timestamp=online.timestamp.public_key,
                )
            following = repository.next_root(before, after, self.clock.now(), DEFAULT_LIFETIMES)
            data = resigned(Metadata(following), self.keys.root)
            self.keys.online = online or self.keys.online
            actions.accept_root(tx, data, self.keys.online, self.act())

    def current(self, role: str) -> Metadata[Any]:
        data = self.store._tables.metadata.current(role)
        assert data is not None
        return Metadata.from_bytes(data)

    def fetch(self, name: str) -> bytes:
        """What the device's link does: the forged file if there is one, or the real one."""
        self.asked.append(name)
        if self.on_ask is not None:
            self.on_ask(name)
        found = self.forged.get(name)
        if isinstance(found, Exception):
            raise found
        if found is None:
            found = self.store._tables.metadata.get(name)
        if found is None:
            raise Refused("not-found", f"no metadata {name}", "")
        return found

    async def read_manifest(self, sha256: str, length: int) -> bytes:
        assert length > 0
        return self.blobs[sha256]

    def assignment(self, model: str, version: int) -> Assignment:
        found = self.store._tables.registry.version(model, version)
        assert found is not None
        return directives.assignment(found)

    def directive(self, generation: int, *assignments: Assignment, device: str = DEVICE) -> bytes:
        document = directives.directive(device, generation, assignments, self.clock.now())
        return directives.signed(document, self.keys.director)


class DeviceUnderAttack:
    """A device that was enrolled with the root of a world."""

    def __init__(self, world: World, store: DeviceStore | None = None) -> None:
        self.world = world
        self.store: DeviceStore = store or MemoryDeviceStore()
        self.store.identity.save(
            Identity(
                device=DEVICE,
                certificate_pem=b"",
                server_ca_pem=b"",
                session_address="",
                enrolment_address="",
                root_metadata=world.root,
            )
        )
        self.trust = ImageTrust(self.store, world.clock, "1.4.0")

    async def refresh(self, *models: str) -> Any:
        return await self.trust.refresh(self.world.fetch, models)

    async def verify(self, assignment: Assignment) -> VerifiedVersion:
        return await self.trust.verify(assignment, self.world.fetch, self.world.read_manifest)

    def versions(self) -> dict[str, int]:
        return {
            name: Metadata.from_bytes(data).signed.version
            for name, data in self.store.trust.load().metadata.items()
            if name != "seal.json"
        }


def deployed(made: Manifest) -> Deployed:
    return Deployed(made.model, made.version, made.digest, "", made.release_counter, 2)


def resigned(metadata: Metadata[Any], signers: Iterable[Signer]) -> bytes:
    """Signed by these and nobody else."""
    metadata.signatures.clear()
    for signer in signers:
        metadata.sign(signer, append=True)
    return metadata.to_bytes()


def pending_floor(metadata: bytes) -> int:
    fields = Metadata.from_bytes(metadata).signed.unrecognized_fields
    floor = fields["x-muster"]["release_floor"]
    assert isinstance(floor, int)
    return floor


def sealed(document: Directive, signer: Signer) -> bytes:
    return seal(document, signer)


async def outcome(attempt: Awaitable[object]) -> str:
    """The code of the refusal, or "accepted"."""
    try:
        await attempt
    except AgentError as error:
        return error.code
    return "accepted"
