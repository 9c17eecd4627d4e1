"""The controller's folder: what stands where, and how one is made."""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from controller.access import actions as access
from controller.access.operator import Role
from controller.config import FILE_NAME, ControllerConfig
from controller.enrolment.terms import BrokerTerms, Terms
from controller.errors import ConfigError, Conflict, InvalidInput
from controller.signing import actions as signing
from controller.store.certificate_files import Certificates, open_certificates
from controller.store.key_files import KeyFiles
from controller.store.sql.sql_store import SqlStore

ADMINISTRATOR: Final = "admin"
_OTHER_FOLDER: Final = (
    "Name a folder that is empty or missing. If a controller is in this one, run it with "
    "`muster serve --home`."
)
MOST_AUTHORITY_BYTES: Final = 3 * 1024
"""Of the broker's CAs together, as DER: they stand in join tokens, which people carry."""

ONLINE_KEYS: Final = ("snapshot", "timestamp", "director")


@dataclass(frozen=True, slots=True)
class Home:
    """Paths below the controller's folder."""

    path: Path

    @property
    def database(self) -> Path:
        """SQLite; its journals stand beside it."""
        return self.path / "muster.db"

    @property
    def blobs(self) -> Path:
        """Bundles' files, by digest."""
        return self.path / "blobs"

    @property
    def replies(self) -> Path:
        """Replies of devices in federated runs, until their phase is closed."""
        return self.path / "replies"

    @property
    def federated(self) -> Path:
        """What the coordinators of federated runs log, by run."""
        return self.path / "federated"

    @property
    def certificates(self) -> Path:
        """The two CAs and the controller's own certificate."""
        return self.path / "certificates"

    @property
    def keys(self) -> Path:
        """The online keys: snapshot, timestamp, director."""
        return self.path / "keys"

    @property
    def sealing_key(self) -> Path:
        """Opens what devices say through a broker; made when there is first one."""
        return self.keys / "sealing.pem"

    @property
    def offline(self) -> Path:
        """Root's and targets' keys, where ``muster init`` makes them: to be carried away."""
        return self.path / "offline"

    @property
    def ca(self) -> Path:
        """The certificate that operators and devices check the controller against; public."""
        return self.path / "server-ca.crt"

    @property
    def root(self) -> Path:
        """The first TUF root, which approvers and devices pin; public."""
        return self.path / "root.json"

    def require_whole(self) -> None:
        """Returns if everything is there that ``found`` makes and that nothing could replace.

        A database or an authority that is made anew in its place would shut every device out.

        Raises:
            ConfigError: something is missing; names it.
        """
        keys = [self.keys / f"{name}.json" for name in ONLINE_KEYS]
        for path in (self.database, self.certificates, self.root, self.ca, *keys):
            if not path.exists():
                raise ConfigError(
                    f"{path} is missing: bring it back from a copy, or make another controller "
                    "with `muster init`"
                )

    @contextlib.contextmanager
    def claim(self) -> Iterator[None]:
        """Holds the folder for this process; the kernel lets go of it when the process dies.

        Raises:
            Conflict: another controller runs in it.
            ConfigError: it can't be written.
        """
        path = self.path / "controller.lock"
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            lock = os.open(path, flags, 0o600)
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror}") from error
        try:
            self._hold(lock)
            yield
        finally:
            os.close(lock)

    def _hold(self, lock: int) -> None:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(lock, 0)
            os.pwrite(lock, str(os.getpid()).encode(), 0)
        except BlockingIOError as error:
            holder = os.pread(lock, 20, 0).decode("ascii", "replace").strip() or "unknown"
            raise Conflict(
                f"{self.path}: a controller runs in it already, as process {holder}",
                "Leave it running, or end that process first; another controller needs a folder of "
                "its own.",
            ) from error
        except OSError as error:
            raise ConfigError(f"{self.path}: {error.strerror}") from error

    def open_store(self) -> SqlStore:
        """The database, brought up to date.

        Raises:
            StoreError: it can't be opened.
        """
        return SqlStore.open(f"sqlite:///{self.database.absolute()}")

    def online_signers(self) -> signing.OnlineSigners:
        """The online keys of the image side.

        Raises:
            ConfigError, NotFound: one can't be used.
        """
        files = KeyFiles(self.keys)
        return signing.OnlineSigners(files.signer("snapshot"), files.signer("timestamp"))


@dataclass(frozen=True, slots=True)
class Founding:
    """What ``muster init`` was asked for."""

    config: ControllerConfig
    root_keys: int = 3
    root_threshold: int = 2


def found(home: Home, wish: Founding, now: datetime) -> str:
    """Makes a controller in ``home``; returns the administrator's token, which is kept nowhere.

    All of it is there afterwards, or nothing: it is made in a folder beside and then renamed.

    Raises:
        Conflict: there is something in ``home``.
        InvalidInput: a threshold that its keys can't reach, a host name that is none.
        ConfigError: the folder can't be written.
    """
    if not 1 <= wish.root_threshold <= wish.root_keys:
        raise InvalidInput(f"root: {wish.root_threshold} of {wish.root_keys} keys can't sign")
    _require_room(home.path)
    scratch = Home(home.path.with_name(f".{home.path.name}.new"))
    try:
        shutil.rmtree(scratch.path, ignore_errors=True)
        scratch.path.mkdir(parents=True, mode=0o700)
        token = _fill(scratch, wish, now)
        if home.path.exists():
            home.path.rmdir()
        scratch.path.rename(home.path)
    except OSError as error:
        raise ConfigError(f"{home.path} can't be made: {error.strerror}") from error
    except ConfigError as error:  # it names the folder as it would have been called
        named = str(error).replace(str(scratch.path), str(home.path))
        raise ConfigError(named) from error
    finally:
        shutil.rmtree(scratch.path, ignore_errors=True)
    return token


def _require_room(path: Path) -> None:
    try:
        if path.exists() and not path.is_dir():
            raise Conflict(f"{path} is a file, no folder", _OTHER_FOLDER)
        if path.exists() and any(path.iterdir()):
            raise Conflict(f"{path} is not empty", _OTHER_FOLDER)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error


def _fill(home: Home, wish: Founding, now: datetime) -> str:
    online, offline = KeyFiles(home.keys), KeyFiles(home.offline)
    for name in ONLINE_KEYS:
        online.create(name)
    roots = [f"root-{number}" for number in range(1, wish.root_keys + 1)]
    for name in (*roots, "targets"):
        offline.create(name)
    certificates = open_certificates(home.certificates, wish.config.names, now)
    home.blobs.mkdir(mode=0o700)
    founders = signing.Founders(
        root=[offline.signer(name) for name in roots],
        root_threshold=wish.root_threshold,
        targets=[offline.signer("targets")],
        targets_threshold=1,
        director=[online.public("director").key],
        names={
            files.public(name).key.keyid: name
            for files, names in ((online, ONLINE_KEYS), (offline, (*roots, "targets")))
            for name in names
        },
    )
    act = signing.Act(ADMINISTRATOR, now, wish.config.lifetimes.metadata())
    store = home.open_store()
    try:
        with store.begin() as tx:
            root = signing.create_repository(tx, founders, home.online_signers(), act)
            _, token = access.create(tx, ADMINISTRATOR, Role.ADMIN, "init", now.timestamp())
    finally:
        store.close()
    _write(home.root, root)
    _write(home.ca, certificates.server_authority.certificate_pem)
    _write(home.path / FILE_NAME, _toml(wish.config))
    return token


def terms(home: Home, config: ControllerConfig, certificates: Certificates) -> Terms:
    """On what terms machines become devices of this controller.

    Raises:
        ConfigError: the pinned root or the CA of the broker can't be read.
    """
    name = config.names[0]
    address = f"[{name}]" if ":" in name else name
    try:
        root = home.root.read_bytes()
    except OSError as error:
        raise ConfigError(f"{home.root}: {error.strerror}") from error
    return Terms(
        device_authority=certificates.device_authority,
        server_ca_pem=certificates.server_authority.certificate_pem,
        root_metadata=root,
        enrolment_address=f"{address}:{config.listening.enrolment_port}",
        session_address=f"{address}:{config.listening.session_port}",
        broker=_broker_terms(home, config, certificates),
        lifetime=config.lifetimes.device_certificate(),
    )


def broker_authority(home: Home, config: ControllerConfig, certificates: Certificates) -> bytes:
    """The CAs, mostly one, that have issued the broker's certificate: PEM.

    Raises:
        ConfigError: the file can't be read, or is not what it must be.
    """
    if not config.mqtt.ca:
        return certificates.broker_authority.certificate_pem
    path = home.path / config.mqtt.ca
    try:
        found = x509.load_pem_x509_certificates(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except (ValueError, x509.InvalidVersion) as error:
        raise ConfigError(f"{path}: [mqtt] ca: it holds no certificate in PEM") from error
    size = sum(len(one.public_bytes(Encoding.DER)) for one in found)
    if size > MOST_AUTHORITY_BYTES:
        raise ConfigError(
            f"{path}: [mqtt] ca: {size} bytes of certificates; a join token has room for "
            f"{MOST_AUTHORITY_BYTES}: name the CA of the broker's certificate alone"
        )
    return b"".join(one.public_bytes(Encoding.PEM) for one in found)


def _broker_terms(
    home: Home, config: ControllerConfig, certificates: Certificates
) -> BrokerTerms | None:
    mqtt = config.mqtt
    if not mqtt.address:
        return None
    ca_pem = broker_authority(home, config, certificates)
    return BrokerTerms(mqtt.address, mqtt.enrolment_address, ca_pem)


def _write(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _toml(config: ControllerConfig) -> bytes:
    """The configuration as TOML: every key with its value, so that the file documents itself."""
    lines, tables = [], []
    for key, value in msgspec.to_builtins(config).items():
        if isinstance(value, dict):
            tables.append(f"\n[{key}]")
            tables += [f"{inner} = {_value(one)}" for inner, one in value.items()]
        else:
            lines.append(f"{key} = {_value(value)}")
    return ("\n".join([*lines, *tables]) + "\n").encode()


def _value(value: object) -> str:
    return msgspec.json.encode(value).decode()  # strings, numbers, booleans and lists are alike
