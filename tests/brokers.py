"""A real Mosquitto for tests, set up by Muster's own generator, on ports of its own.

    async with mosquitto(tmp_path) as broker:
        shown = broker.certificates.device("cam-1")
        aiomqtt.Client(broker.host, broker.ports.devices, tls_context=broker.context(shown), ...)

Tests that need it fail where it is not installed; none is skipped.
"""

import asyncio
import contextlib
import getpass
import os
import shutil
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath

from cryptography import x509

from agent.identity import keys
from controller.broker import mosquitto as generator
from controller.broker.folder import Authorities, broker_files
from controller.broker.listeners import Ports
from controller.enrolment.authority import (
    KeyPair,
    check_request,
    create_authority,
    issue_client,
    issue_device,
    revocation_list,
)
from protos.mqtt.topics import CONTROLLER

HOST = "127.0.0.1"
RUNNING, TAKEN, RELOADED = " running", "Address already in use", "Reloading config"
DEADLINE = 30.0
ATTEMPTS = 5
"""How often other ports are tried: between choosing one and listening on it, anybody may take it."""

MISSING = (
    "these tests run a real Mosquitto, and there is none: `apt-get install mosquitto`, "
    "which `make test` does where it may"
)


def program() -> str:
    """Path of Mosquitto; fails the test if there is none."""
    # Debian keeps it where only root looks.
    path = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    assert path is not None, MISSING
    return path


@dataclass(frozen=True)
class Certificates:
    """Who signs whom: made once for a broker, and kept over its restarts."""

    broker_authority: KeyPair
    device_authority: KeyPair
    controller: KeyPair

    @staticmethod
    def new(now: datetime | None = None) -> "Certificates":
        now = now or datetime.now(UTC)
        broker = create_authority("broker CA", now)
        return Certificates(
            broker, create_authority("device CA", now), issue_client(broker, CONTROLLER, now)
        )

    def device(self, name: str, key_pem: bytes | None = None) -> KeyPair:
        """A device's certificate, for the key if one is given."""
        key_pem = key_pem or keys.generate_key()
        request = check_request(keys.certificate_request(key_pem, name))
        issued = issue_device(self.device_authority, request, name, datetime.now(UTC))
        return KeyPair(issued.certificate_pem, key_pem)


@dataclass
class Broker:
    """A Mosquitto that runs in a folder."""

    folder: Path
    certificates: Certificates
    ports: Ports
    made: datetime
    revoked: tuple[str, ...] = ()
    host: str = HOST
    lines: list[str] = field(default_factory=list)
    _process: asyncio.subprocess.Process | None = None
    _reading: asyncio.Task[None] | None = None
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    @property
    def log(self) -> str:
        """What the broker has said, all its lives together."""
        return "\n".join(self.lines)

    @property
    def pid(self) -> int:
        """The process that runs now."""
        assert self._process is not None
        return self._process.pid

    @property
    def devices(self) -> str:
        """HOST:PORT for devices."""
        return f"{self.host}:{self.ports.devices}"

    @property
    def controllers(self) -> str:
        """HOST:PORT for controllers."""
        return f"{self.host}:{self.ports.controllers}"

    @property
    def strangers(self) -> str:
        """HOST:PORT for machines without a certificate."""
        return f"{self.host}:{self.ports.strangers}"

    def context(self, shown: KeyPair | None = None) -> ssl.SSLContext:
        """TLS for a client that trusts this broker's CA, and shows a certificate if given one."""
        context = ssl.create_default_context(
            cadata=self.certificates.broker_authority.certificate_pem.decode()
        )
        if shown is not None:
            path = self.folder / f"shown-{os.urandom(4).hex()}.pem"
            path.write_bytes(shown.key_pem + shown.certificate_pem)
            context.load_cert_chain(path)
            path.unlink()
        return context

    async def start(self) -> None:
        """Returns once it listens on all of its ports.

        Raises:
            OSError: another process has one of them.
        """
        begun = len(self.lines)
        self._process = await asyncio.create_subprocess_exec(
            program(), "-c", self.folder / generator.CONFIGURATION,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        self._reading = asyncio.create_task(self._read(self._process))
        await self.until(lambda: self._said_since(begun, RUNNING) or self._reading is None)
        if self._said_since(begun, TAKEN):
            raise OSError(f"Mosquitto did not get its ports:\n{self.log}")
        assert self._reading is not None, f"Mosquitto did not start:\n{self.log}"
        # A signal between the line in its log and its first turn is lost.
        async with asyncio.timeout(DEADLINE):
            _, writer = await asyncio.open_connection(
                self.host, self.ports.strangers, ssl=self.context()
            )
            writer.transport.abort()

    async def stop(self) -> None:
        """Ends it as an operator does: it saves what it keeps."""
        await self._end(signal.SIGTERM)

    async def kill(self) -> None:
        """Ends it as a power cut does."""
        await self._end(signal.SIGKILL)

    async def restart(self) -> None:
        """The same broker again, on the same ports and with what it has kept."""
        await self.stop()
        await self.start()

    async def revoke(self, *shown: KeyPair) -> None:
        """Has the broker turn these certificates away, as an operator does: a new list, and SIGHUP.

        What is connected already stays connected.
        """
        self.revoked += tuple(serial(one) for one in shown)
        # OpenSSL takes the newer of two lists, and counts in seconds.
        made = self.made + timedelta(seconds=len(self.revoked))
        path = self.folder / generator.REVOKED
        path.write_bytes(revocation_list(self.certificates.device_authority, self.revoked, made))
        begun = len(self.lines)
        os.kill(self.pid, signal.SIGHUP)
        await self.until(lambda: self._said_since(begun, RELOADED))

    async def until(self, happened: Callable[[], bool]) -> None:
        """Returns once it is so; looks whenever the broker says something, and when it ends."""
        async with asyncio.timeout(DEADLINE), self._changed:
            await self._changed.wait_for(happened)

    def _said_since(self, begun: int, what: str) -> bool:
        return any(what in line for line in self.lines[begun:])

    async def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        if self._process.returncode is None:
            self._process.send_signal(how)
        await self._process.wait()
        await self.until(lambda: self._reading is None)
        self._process = None

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None
        async for line in process.stderr:
            async with self._changed:
                self.lines.append(line.decode("utf-8", "replace").rstrip())
                self._changed.notify_all()
        async with self._changed:
            self._reading = None
            self._changed.notify_all()


def serial(shown: KeyPair) -> str:
    """The certificate's serial number, as lists of revoked ones have it."""
    return f"{x509.load_pem_x509_certificate(shown.certificate_pem).serial_number:x}"


def free_ports() -> Ports:
    """Three ports that nobody has just now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(3)]
        for one in sockets:
            one.bind((HOST, 0))
        return Ports(*(int(one.getsockname()[1]) for one in sockets))


def write_folder(folder: Path, certificates: Certificates, ports: Ports, now: datetime) -> None:
    """What ``muster mqtt setup`` writes."""
    place = generator.Place(
        PurePosixPath(folder), PurePosixPath(folder), ports, HOST, getpass.getuser()
    )
    authorities = Authorities(certificates.broker_authority, certificates.device_authority)
    for one in broker_files(place, authorities, [HOST, "localhost"], (), now):
        (folder / one.name).write_bytes(one.data)
        (folder / one.name).chmod(0o600)


@asynccontextmanager
async def mosquitto(
    tmp_path: Path, certificates: Certificates | None = None
) -> AsyncIterator[Broker]:
    """A broker that runs; its log is in what a failing test prints."""
    folder = tmp_path / f"broker-{os.urandom(4).hex()}"
    folder.mkdir(mode=0o700)
    made = datetime.now(UTC) - timedelta(days=1)
    certificates = certificates or Certificates.new()
    for attempt in range(ATTEMPTS):
        broker = Broker(folder, certificates, free_ports(), made)
        write_folder(folder, certificates, broker.ports, made)
        try:
            await broker.start()
            break
        except BaseException as error:
            await broker.kill()
            if not isinstance(error, OSError) or attempt == ATTEMPTS - 1:
                raise
    try:
        yield broker
    finally:
        await broker.kill()  # nobody needs what it would keep, and to save it takes its time
        print(broker.log)  # noqa: T201 - pytest shows it where a test fails
