"""Somebody who has stolen the controller: its disk, its online keys, its certificate.

What no thief has are the approvers' keys and the devices'. Everything here is done with the
controller's own code, on its own files, so that nothing is easier to refuse than it would really be.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

from agent.clock import SystemClock
from controller.config import read_config
from controller.errors import NotFound, StoreError
from controller.home import Home
from controller.registry.version import State
from controller.rollout.loop import directive_command
from controller.rollout.rollout import SignedDirective
from controller.signing.metadata import parse
from controller.signing.publication import Act, publish
from controller.store.certificate_files import open_certificates
from controller.store.store import Store, Transaction
from controller.transport.dispatch import Dispatch
from controller.transport.grpc.server import GrpcServer
from controller.transport.mqtt.loop import Posts
from controller.transport.sessions import Sessions
from controller.transports import bridge_of
from protos.manifest import Role, read_manifest, role_name
from protos.methods import FACTS, METHODS
from protos.tuf import Targets


class Thief:
    """Works on the stolen folder of a controller."""

    def __init__(self, home: Path) -> None:
        self._home = Home(home)

    @contextmanager
    def tampered_model(self, model: str, version: int) -> Iterator[None]:
        """While the block runs, one bit of the version's model file is another."""
        with self._transaction() as tx:
            found = tx.registry.version(model, version)
        if found is None:
            raise NotFound(f"no version {model}/{version}")
        digest = read_manifest(found.manifest).files[Role.MODEL].sha256
        path = next(self._home.blobs.rglob(digest))
        honest = path.read_bytes()
        path.write_bytes(honest[:-1] + bytes([honest[-1] ^ 1]))
        try:
            yield
        finally:
            path.write_bytes(honest)

    def publish_anyway(self, model: str, version: int) -> None:
        """Makes pending metadata current, whoever has signed it, with honest online signatures."""
        act = Act("thief", datetime.now(UTC))
        with self._transaction() as tx:
            pending = tx.registry.pending(model, version)
            found = tx.registry.version(model, version)
            if pending is None or found is None:
                raise NotFound(f"nothing of {model}/{version} waits")
            number = parse(pending.metadata, Targets, "the pending metadata").signed.version
            changed = {role_name(model): (number, pending.metadata)}
            publish(tx, changed, self._home.online_signers(), act)
            tx.registry.put_version(replace(found, state=State.PUBLISHED))

    def put_back(self, model: str, version: int) -> None:
        """Takes out what only ``publish_anyway`` put there, as restoring the row would.

        The store itself never replaces or removes published metadata, so this goes past it. Snapshot
        and timestamp stay: they only ever count upwards.
        """
        with self._transaction() as tx:
            pending = tx.registry.pending(model, version)
            found = tx.registry.version(model, version)
            if pending is None or found is None:
                raise NotFound(f"nothing of {model}/{version} waits")
            number = parse(pending.metadata, Targets, "the pending metadata").signed.version
            tx.registry.put_version(replace(found, state=State.VALIDATED))
        with closing(sqlite3.connect(self._home.database, timeout=30)) as database, database:
            database.execute(
                "DELETE FROM image_metadata WHERE role = ? AND version = ?",
                (role_name(model), number),
            )

    def first_directive(self, device: str) -> SignedDirective:
        """What the device was first told, as it was honestly signed."""
        with self._transaction() as tx:
            return tx.rollouts.directives(device)[-1]

    async def replay(self, directive: SignedDirective, seconds: float = 6.0) -> bool:
        """Answers in the controller's place and sends the directive; whether the device came."""
        config = read_config(self._home.path)
        certificates = open_certificates(self._home.certificates, config.names, datetime.now(UTC))
        came = asyncio.Event()

        async def arrived(device: str) -> None:
            if device == directive.device:
                await sessions.send(device, directive_command(directive))
                came.set()

        deaf = dict.fromkeys(METHODS, _no_answer)
        dispatch = Dispatch(deaf, {FACTS: _ignore}, _admit, arrived, _departed, _no_blobs)
        sessions = Sessions(dispatch)
        device_ca_pem = certificates.device_authority.certificate_pem
        server = GrpcServer(dispatch, sessions, certificates.server, device_ca_pem)
        await server.start(f"127.0.0.1:{config.listening.session_port}")
        bridge = bridge_of(
            self._home, config, certificates, dispatch, sessions, _nothing, SystemClock()
        )
        at_broker = [asyncio.create_task(bridge.run())] if bridge else []
        try:
            async with asyncio.timeout(seconds):
                await came.wait()
            await asyncio.sleep(1.0)  # the device reads it, and decides
        except TimeoutError:
            return False
        finally:
            await _ended(at_broker)
            await server.stop()
        return True

    @contextmanager
    def _transaction(self) -> Iterator[Transaction]:
        store: Store = self._home.open_store()
        try:
            with store.begin() as tx:
                yield tx
        finally:
            store.close()


async def _ended(tasks: Sequence[asyncio.Task[NoReturn]]) -> None:
    """Cancels the tasks; returns when they have ended."""
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)


async def _nothing() -> Posts:
    """The thief leaves nothing at the broker but what it replays."""
    if ():
        yield ()


async def _no_answer(device: str, request: bytes) -> bytes:
    raise StoreError(f"{len(request)} bytes of {device} go nowhere")


async def _admit(device: str, certificate_serial: str) -> None:
    del device, certificate_serial


async def _departed(device: str) -> None:
    del device


async def _ignore(device: str, payload: bytes) -> None:
    del device, payload


async def _no_blobs(
    device: str, sha256: str, offset: int, have: Sequence[str]
) -> AsyncIterator[bytes]:
    del device, offset, have
    raise NotFound(f"no blob {sha256}")
    yield b""  # an async generator, as transports expect
