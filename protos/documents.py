"""Signed documents: what is wanted of a device, what it runs, and its wish for a new certificate.

They are canonical JSON, so that a person can read what was signed; ``protos.envelope`` signs them.
Times are Unix seconds. A reader ignores fields that it does not know.
"""

import hashlib
from typing import Annotated, ClassVar, Final, TypeVar

import msgspec

from protos.errors import DocumentError

DAY_MINUTES: Final = 24 * 60
WEEK_MINUTES: Final = 7 * DAY_MINUTES
MAX_SOAK_SECONDS: Final = 320_000_000
"""Ten years: what nobody waits for."""

HELD: Final = frozenset({"outside-window", "battery-low", "metered-link"})
"""Codes of an install that waits because its directive's ``Conditions`` say so."""

DEFERRALS: Final = HELD | {
    "transport",
    "too-many-calls",
    "disk-full",
    "no-process",
    "self-test-killed",
    "mirror-distrusted",
    "not-yet-trusted",
    "expired-metadata",
}
"""Codes of an install that is put off, and is no failure: the device goes on by itself."""


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """A maintenance window, by the device's own wall clock.

    Attributes:
        days: on which it opens, 0 is Monday; none is every day.
        start_minute: minutes after midnight.
        minutes: how long it stays open, past midnight too.
    """

    start_minute: Annotated[int, msgspec.Meta(ge=0, lt=DAY_MINUTES)]
    minutes: Annotated[int, msgspec.Meta(ge=1, le=WEEK_MINUTES)]
    days: tuple[Annotated[int, msgspec.Meta(ge=0, le=6)], ...] = ()


class Conditions(msgspec.Struct, frozen=True, kw_only=True):
    """What a device waits for; waiting is no failure and burns no attempt.

    Attributes:
        windows: it switches in one of these only; none is any time.
        battery_percent: it installs only on mains or with so much charge.
        unmetered: it fetches only over a link that costs nothing by the byte.
    """

    windows: Annotated[tuple[Window, ...], msgspec.Meta(max_length=64)] = ()
    battery_percent: Annotated[int, msgspec.Meta(ge=0, le=100)] = 0
    unmetered: bool = False


UNCONDITIONAL: Final = Conditions()


class Watching(msgspec.Struct, frozen=True, kw_only=True):
    """How often a device judges its data; 0 keeps what the bundle says.

    Attributes:
        rows: that a window needs to be judged.
        seconds: that it is open at least.
    """

    rows: Annotated[int, msgspec.Meta(ge=0, le=10_000_000)] = 0
    seconds: Annotated[float, msgspec.Meta(ge=0, le=366 * 86_400)] = 0.0


class Assignment(msgspec.Struct, frozen=True, kw_only=True):
    """One model version for one slot of a device; ``target`` is its path in the image metadata.

    ``attempt`` counts how often people have asked for it: a device that keeps the version out since
    an earlier attempt failed tries again for a higher one. ``soak_seconds`` is for how long the version
    must have answered, proven and in one run of the agent, for the device to report that; 0 asks for
    nothing.
    """

    model: str
    version: int
    target: str
    sha256: str
    length: int
    slot: str = "champion"
    rollout: str = ""
    attempt: int = 1
    conditions: Conditions = UNCONDITIONAL
    watching: Watching = Watching()
    soak_seconds: Annotated[int, msgspec.Meta(ge=0, le=MAX_SOAK_SECONDS)] = 0


class Directive(msgspec.Struct, frozen=True, kw_only=True):
    """What one device shall run now: everything, so that a newer one replaces an older one whole.

    ``generation`` only grows; a device refuses one that is lower than what it has seen.
    """

    payload_type: ClassVar[str] = "application/vnd.muster.directive+json"

    device: str
    generation: int
    issued_at: int
    assignments: tuple[Assignment, ...] = ()


class SlotReport(msgspec.Struct, frozen=True, kw_only=True):
    """What one slot runs, or why it does not run what was wanted.

    ``state`` is an install state (``agent.install.machine.State``) by its value; ``model_sha256`` is
    the digest of the file that the runtime loaded, empty while none is; ``approvals`` is how many
    approvers' signatures the device itself verified; ``code`` says why it failed, or, of an install
    that is under way, what it waits for; ``generation`` is of the directive that last asked for it, 0
    for what runs; ``soaked`` is the longest ``Assignment.soak_seconds`` that what runs has answered for.
    """

    model: str
    slot: str
    version: int
    state: str
    manifest_sha256: str = ""
    model_sha256: str = ""
    approvals: int = 0
    code: str = ""
    detail: str = ""
    generation: int = 0
    soaked: int = 0


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What one device does run, signed by it; ``counter`` only grows, over restarts too.

    ``generation`` is the directive that the device acts on; ``wanted`` are installs that are under
    way or failed, ``running`` is what answers requests.
    """

    payload_type: ClassVar[str] = "application/vnd.muster.report+json"

    device: str
    counter: int
    generation: int
    reported_at: int
    running: tuple[SlotReport, ...] = ()
    wanted: tuple[SlotReport, ...] = ()
    agent_version: str = ""


class Renewal(msgspec.Struct, frozen=True, kw_only=True):
    """A device's wish for a new certificate, signed with the key of the one it has.

    ``counter`` is of the same sequence as reports', so that a wish can't be replayed.
    """

    payload_type: ClassVar[str] = "application/vnd.muster.renewal+json"

    device: str
    counter: int
    csr_pem: str
    requested_at: int


Document = Directive | Report | Renewal
AnyDocument = TypeVar("AnyDocument", Directive, Report, Renewal)

_encoder = msgspec.json.Encoder(order="sorted")
# msgspec learns a type when it first decodes one, and two threads that do so at once crash it.
_decoders = tuple(msgspec.json.Decoder(kind) for kind in (Directive, Report, Renewal))


def canonical(value: msgspec.Struct) -> bytes:
    """Canonical JSON: keys sorted, no spaces, UTF-8. The same value gives the same bytes."""
    return _encoder.encode(value)


def sha256(data: bytes) -> str:
    """Lowercase hex, as everywhere in Muster."""
    return hashlib.sha256(data).hexdigest()


def decode(data: bytes, kind: type[AnyDocument]) -> AnyDocument:
    """The document in ``data``.

    Raises:
        DocumentError: it is not one; the message names the field.
    """
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DocumentError("malformed", f"not a {kind.__name__.lower()}: {error}") from error
