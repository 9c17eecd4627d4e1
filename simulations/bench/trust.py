"""What trust costs on the device: refreshes beside python-tuf alone, documents beside bare ECC."""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from securesystemslib.dsse import Envelope as Dsse
from tuf.api.exceptions import DownloadHTTPError
from tuf.ngclient.config import UpdaterConfig
from tuf.ngclient.fetcher import FetcherInterface
from tuf.ngclient.updater import Updater

from agent.clock import SystemClock
from agent.errors import Refused
from agent.identity import keys
from agent.install.report import report
from agent.store.device_store import Identity
from agent.store.sqlite_store import SqliteStore
from agent.telemetry.actions import Reporter
from agent.trust.actions import TMPFS, ImageTrust
from agent.trust.directive import check_directive
from controller.signing import directive as directives
from protos.documents import Report
from protos.envelope import seal
from protos.limits import KIB
from protos.manifest import target_path
from protos.v1 import common_pb2
from simulations.bench.image_side import ImageSide, assignment, model_name
from simulations.bench.row import BenchRow

MODELS: Final = (1, 100, 1000)
REPEATS: Final = 15
CALLS: Final = 200
COLD_MS: Final = 15.0
WARM_MS: Final = 3.0
DEVICE: Final = "bench-1"
MODEL: Final = model_name(0)
URL: Final = "bench:///"


def rows() -> list[BenchRow]:
    """Of a device that runs one model: medians of turns that alternate with the bare thing."""
    return asyncio.run(_rows())


async def _rows() -> list[BenchRow]:
    found = []
    with tempfile.TemporaryDirectory(prefix="muster-bench-") as folder:
        sides = {models: ImageSide(models) for models in MODELS}
        await _cold_turn(sides[1], Path(folder) / "first")  # imports python-tuf's client
        for models, side in sides.items():
            found += await _refreshes(side, models, Path(folder) / str(models))
        for models in (min(MODELS), max(MODELS)):
            found += await _directives(sides[models], models, Path(folder) / f"directives-{models}")
        found += _reports(Path(folder) / "reports")
    return found


# --- Refreshes --------------------------------------------------------------------------------------


class _Fetcher(FetcherInterface):
    """Serves the bare client the same bytes."""

    def __init__(self, side: ImageSide) -> None:
        self._side = side

    def download_bytes(self, url: str, max_length: int) -> bytes:
        """As ours: without a temporary file."""
        del max_length  # the files are what they should be
        try:
            return self._side.fetch(url.removeprefix(URL))
        except Refused as refused:
            raise DownloadHTTPError(str(refused), 404) from refused

    def _fetch(self, url: str) -> Iterator[bytes]:
        return iter((self.download_bytes(url, 0),))


@dataclass(frozen=True, slots=True)
class _Times:
    """Milliseconds of every turn, ours and the bare client's."""

    ours: list[float]
    bare: list[float]

    def row(self, what: str, models: int, target: float, note: str) -> BenchRow:
        """The medians."""
        middle, alone = statistics.median(self.ours), statistics.median(self.bare)
        return BenchRow(
            f"trust: {what}, {models} model{'s' if models > 1 else ''} exist",
            middle,
            "ms",
            target,
            f"{middle / alone:.2f} x python-tuf's Updater alone ({alone:.2f} ms)",
            note,
        )


async def _refreshes(side: ImageSide, models: int, folder: Path) -> list[BenchRow]:
    cold = _Times([], [])
    for turn in range(REPEATS):
        cold.ours.append(await _cold_turn(side, folder / f"cold-{turn}"))
        with _scratch() as scratch:
            cold.bare.append(_timed(partial(_update, side, Path(scratch))))
    same, newer = _Times([], []), _Times([], [])
    with closing(_device(folder / "warm", side)) as store, _scratch() as scratch:
        trust = ImageTrust(store, SystemClock(), "1.0.0")
        refresh = partial(trust.refresh, side.fetch, (MODEL,))
        update = partial(_update, side, Path(scratch))
        await refresh()
        update()
        for _ in range(REPEATS):
            same.ours.append(await _awaited(refresh))
            same.bare.append(_timed(update))
            side.new_timestamp()
            newer.ours.append(await _awaited(refresh))
            newer.bare.append(_timed(update))
    size = len(side.targets()) / KIB
    return [
        cold.row("cold refresh", models, COLD_MS, f"targets of {size:.0f} KiB; stored durably"),
        same.row("warm refresh, nothing is new", models, WARM_MS, "the state is read from SQLite"),
        newer.row("warm refresh, a new timestamp", models, WARM_MS, "twice a day; stored durably"),
    ]


async def _cold_turn(side: ImageSide, home: Path) -> float:
    with closing(_device(home, side)) as store:
        trust = ImageTrust(store, SystemClock(), "1.0.0")
        return await _awaited(partial(trust.refresh, side.fetch, (MODEL,)))


def _update(side: ImageSide, folder: Path) -> None:
    """python-tuf's client as its manual shows it; what it trusts stays in ``folder``."""
    updater = Updater(
        str(folder), URL, fetcher=_Fetcher(side), config=UpdaterConfig(), bootstrap=side.root
    )
    updater.refresh()
    if updater.get_targetinfo(target_path(MODEL, 1)) is None:
        raise LookupError("the bare client does not find the version")


def _device(home: Path, side: ImageSide) -> SqliteStore:
    home.mkdir(parents=True, mode=0o700)
    store = SqliteStore(home)
    store.identity.save(
        Identity(
            device=DEVICE,
            certificate_pem=b"",
            server_ca_pem=b"",
            session_address="",
            enrolment_address="",
            root_metadata=side.root,
        )
    )
    return store


def _scratch() -> AbstractContextManager[str]:
    """A folder where the agent's own scratch folder would be."""
    return tempfile.TemporaryDirectory(
        prefix="muster-bench-", dir=TMPFS if TMPFS.is_dir() else None
    )


async def _awaited(act: Callable[[], Awaitable[object]]) -> float:
    """Milliseconds that ``act`` takes."""
    began = time.perf_counter()
    await act()
    return (time.perf_counter() - began) * 1e3


def _timed(act: Callable[[], object]) -> float:
    """Milliseconds that ``act`` takes."""
    began = time.perf_counter()
    act()
    return (time.perf_counter() - began) * 1e3


# --- Documents --------------------------------------------------------------------------------------


async def _directives(side: ImageSide, models: int, folder: Path) -> list[BenchRow]:
    document = directives.directive(DEVICE, 1, [assignment(MODEL)], datetime.now(UTC))
    envelope = directives.signed(document, side.director)
    check = partial(check_directive, envelope, side.targets(), DEVICE, 0, b"")
    bare = _bare_verification(side, envelope)
    ours, alone = _turns(check, bare)
    accepted = []
    with closing(_device(folder, side)) as store:
        trust = ImageTrust(store, SystemClock(), "1.0.0")
        await trust.refresh(side.fetch, (MODEL,))
        for generation in range(1, REPEATS + 1):
            newer = directives.directive(DEVICE, generation, [assignment(MODEL)], datetime.now(UTC))
            sealed = directives.signed(newer, side.director)
            accepted.append(await _awaited(partial(trust.accept_directive, sealed)))
    middle = statistics.median(accepted)
    ending = f"{models} model{'s' if models > 1 else ''} exist"
    return [
        BenchRow(
            f"trust: a directive verified, {ending}",
            ours,
            "ms",
            None,
            f"{ours / alone:.1f} x a bare Ed25519 verification ({alone:.3f} ms)",
            "finds the director's key in the verified targets each time",
        ),
        BenchRow(
            f"trust: a directive accepted, {ending}",
            middle,
            "ms",
            None,
            f"{middle / alone:.0f} x a bare Ed25519 verification",
            "the seal of the trusted state checked, the directive stored durably",
        ),
    ]


def _bare_verification(side: ImageSide, envelope: bytes) -> Callable[[], object]:
    parsed = common_pb2.Envelope.FromString(envelope)
    public = bytes.fromhex(side.director.public_key.keyval["public"])
    key = ed25519.Ed25519PublicKey.from_public_bytes(public)
    signed = Dsse(parsed.payload, parsed.payload_type, {}).pae()
    return partial(key.verify, parsed.signatures[0].sig, signed)


def _reports(home: Path) -> list[BenchRow]:
    key_pem = keys.generate_key()
    signer = keys.signer(key_pem)
    build = partial(report, device=DEVICE, agent_version="1.0.0", loaded={})
    document = build(counter=1, generation=1, reported_at=1, slots=(), installs=())
    key = serialization.load_pem_private_key(key_pem, None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError("a device's key is an ECDSA key")
    payload = _payload(document)
    ours, alone = _turns(
        partial(seal, document, signer), partial(key.sign, payload, ec.ECDSA(hashes.SHA256()))
    )
    home.mkdir(parents=True, mode=0o700)
    with closing(SqliteStore(home)) as store:
        reporter = Reporter(store, signer, build, SystemClock())
        spooled = statistics.median(_timed(reporter.report) for _ in range(REPEATS))
    return [
        BenchRow(
            "trust: a report signed",
            ours,
            "ms",
            None,
            f"{ours / alone:.1f} x a bare ECDSA P-256 signature ({alone:.3f} ms)",
        ),
        BenchRow(
            "trust: a report signed and spooled",
            spooled,
            "ms",
            None,
            f"{spooled / alone:.0f} x a bare ECDSA P-256 signature",
            "counter and report in one transaction, durable",
        ),
    ]


def _payload(document: Report) -> bytes:
    sealed = common_pb2.Envelope.FromString(seal(document, keys.signer(keys.generate_key())))
    return Dsse(sealed.payload, sealed.payload_type, {}).pae()


def _turns(ours: Callable[[], object], bare: Callable[[], object]) -> tuple[float, float]:
    """Milliseconds a call of each: medians of calls taken in turn."""
    spent = [(_timed(ours), _timed(bare)) for _ in range(CALLS)]
    return (
        statistics.median(one for one, _ in spent),
        statistics.median(alone for _, alone in spent),
    )
