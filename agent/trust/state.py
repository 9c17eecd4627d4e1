"""The trusted state as it is kept: metadata, and a seal that tells a torn state from a whole one.

Rules:

1. A state is whole, empty, or damaged. Damaged refuses every update: it never counts as empty.
2. The seal remembers the version of every file, so that a floor outlives the file it came from.
3. A state has grown from one pinned root; another pinned root (a new enrolment) starts a new one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import msgspec

from agent.errors import TrustDamaged
from agent.store.device_store import TrustedState
from protos.documents import sha256

SEAL: Final = "seal.json"
"""The seal's name among the metadata; no role can have it, for files are named for roles."""

ROOT, TIMESTAMP, SNAPSHOT, TARGETS = "root.json", "timestamp.json", "snapshot.json", "targets.json"
TOP_LEVEL: Final = (ROOT, TIMESTAMP, SNAPSHOT, TARGETS)


class FileSeal(msgspec.Struct, frozen=True):
    """What is known of one verified file.

    Attributes:
        version: the metadata's version.
        expires: Unix seconds.
        sha256: of its bytes.
        under: SHA-256 of the snapshot that it was last verified under; empty for what none names.
    """

    version: int
    expires: int
    sha256: str
    under: str = ""


class Seal(msgspec.Struct, frozen=True):
    """What a whole state is known by. ``limits`` is a digest of the time, the floors and recalls."""

    anchor: str  # SHA-256 of the pinned root that the state has grown from
    limits: str
    files: dict[str, FileSeal]


_decoder = msgspec.json.Decoder(Seal)  # made here, for no two threads may be the first to use it


@dataclass(frozen=True, slots=True)
class Opened:
    """A state that is whole. ``files`` are the metadata without the seal; empty before the first."""

    state: TrustedState
    anchor: str
    files: Mapping[str, bytes] = field(default_factory=dict)
    seals: Mapping[str, FileSeal] = field(default_factory=dict)

    def current(self, name: str) -> bool:
        """Whether the file was verified under the present snapshot, so that it is the newest."""
        seal, snapshot = self.seals.get(name), self.seals.get(SNAPSHOT)
        return seal is not None and snapshot is not None and seal.under == snapshot.sha256

    @property
    def complete(self) -> bool:
        """Whether all of the top-level metadata is there and belongs together."""
        return all(name in self.seals for name in TOP_LEVEL) and self.current(TARGETS)


def open_state(state: TrustedState, pinned_root: bytes) -> Opened:
    """The state, once it is known to be whole; an empty one if it grew from another pinned root.

    Raises:
        TrustDamaged: it is not what was stored.
    """
    anchor = sha256(pinned_root)
    if state == TrustedState():
        return Opened(state, anchor)
    seal = _read_seal(state)
    files = {name: data for name, data in state.metadata.items() if name != SEAL}
    if files.keys() != seal.files.keys():
        missing = ", ".join(sorted(files.keys() ^ seal.files.keys()))
        raise TrustDamaged(f"the trusted metadata is not whole: {missing}")
    for name, data in files.items():
        if sha256(data) != seal.files[name].sha256:
            raise TrustDamaged(f"the trusted metadata {name} was altered on the disk")
    if _limits(state) != seal.limits:
        raise TrustDamaged("the recalls and floors were altered on the disk")
    if seal.anchor != anchor:
        return Opened(TrustedState(), anchor)
    return Opened(state, anchor, files, seal.files)


def close_state(opened: Opened) -> TrustedState:
    """What to store: the metadata, the limits, and the seal over both."""
    seal = Seal(anchor=opened.anchor, limits=_limits(opened.state), files=dict(opened.seals))
    encoded = msgspec.json.encode(seal, order="sorted")
    return replace(opened.state, metadata={**opened.files, SEAL: encoded})


def mended(state: TrustedState, pinned_root: bytes) -> TrustedState:
    """The state to go on with after an enrolment: a whole one stays, a damaged one starts anew.

    Only for when a person has just enrolled the device: the join token vouches for the root.
    """
    try:
        open_state(state, pinned_root)
    except TrustDamaged:
        return TrustedState()
    return state


def _read_seal(state: TrustedState) -> Seal:
    data = state.metadata.get(SEAL)
    if data is None:
        raise TrustDamaged("the trusted metadata has lost its seal")
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise TrustDamaged(f"the seal of the trusted metadata can't be read: {error}") from error


def _limits(state: TrustedState) -> str:
    limits = (state.latest_time, sorted(state.floors.items()), sorted(state.recalled))
    return sha256(msgspec.json.encode(limits))
