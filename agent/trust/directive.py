"""Which directives a device takes: signed by the director, for this device, never an older one."""

import json
import re
from typing import Final

from agent.errors import (
    AgentError,
    BadSignature,
    EndlessData,
    ExpiredMetadata,
    MalformedDocument,
    NotYetTrusted,
    StaleDirective,
    Untrusted,
    WrongDevice,
)
from protos.documents import Assignment, Directive
from protos.envelope import peek, unseal
from protos.errors import DocumentError
from protos.keys import Key
from protos.limits import MANIFEST_BYTES, MODEL_NAME
from protos.manifest import DIRECTOR_ROLE

_MODEL: Final = re.compile(MODEL_NAME)
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
MAX_GENERATION: Final = 2**53 - 1  # exact in JSON everywhere, and in every database
MAX_VERSION: Final = 2**31 - 1


def director_keys(targets: bytes) -> tuple[list[Key], int]:
    """The keys that may sign directives according to verified ``targets``, and how many must.

    Read with the parser that python-tuf verified them with, so that both see the same; but only these
    keys are made, so that the cost hardly depends on how many models there are.

    Raises:
        BadSignature: the targets name no director.
    """
    delegations = json.loads(targets)["signed"].get("delegations", {})
    for role in delegations.get("roles", []):
        if role["name"] == DIRECTOR_ROLE:
            known = delegations["keys"]
            keys = [Key.from_dict(one, known[one]) for one in role["keyids"] if one in known]
            return keys, role["threshold"]
    raise BadSignature("the signed targets name nobody who may direct devices")


def check_directive(
    envelope: bytes, targets: bytes | None, device: str, highest: int, stored: bytes
) -> Directive:
    """The directive in ``envelope``, if the device must act on it.

    ``targets`` are the verified ones; ``highest`` is the generation that was accepted last, and
    ``stored`` the envelope that had it. It binds for as long as its director does: so a fleet
    recovers from a thief of that key who has signed the highest generation there is.

    Raises:
        NotYetTrusted: there are no verified targets yet.
        BadSignature, MalformedDocument, EndlessData: it is no directive of the director.
        WrongDevice: it is for another device.
        StaleDirective: it is older than the one that was accepted, or contradicts it.
    """
    if targets is None:
        raise NotYetTrusted("no metadata was verified yet, so no key of a director is known")
    keys, threshold = director_keys(targets)
    try:
        directive = unseal(envelope, Directive, keys, threshold)  # (7a)
    except DocumentError as error:
        raise _untrusted(error) from error
    _check_form(directive)
    if directive.device != device:  # (7b)
        raise WrongDevice(f"a directive for {directive.device!r}; this is {device!r}")
    if directs(targets, stored):
        check_newer(directive, highest, _assignments(stored))  # (7c)
    return directive


def check_newer(
    directive: Directive, highest: int, assignments: tuple[Assignment, ...] | None
) -> None:
    """Returns unless the directive is older than the one that was accepted, or contradicts it.

    ``assignments`` are those of the directive that had the generation ``highest``.

    Raises:
        StaleDirective: it is.
    """
    if directive.generation < highest:
        raise StaleDirective(f"generation {directive.generation}; {highest} was accepted before")
    if directive.generation == highest and directive.assignments != assignments:
        raise StaleDirective(f"generation {highest} was accepted with other content")


def is_for_good(error: AgentError) -> bool:
    """Whether a directive that met this error never becomes good: the same bytes, tried again.

    Expired metadata, a full disk or a controller that does not answer say nothing of the directive.
    """
    return isinstance(error, Untrusted) and not isinstance(error, ExpiredMetadata)


def directs(targets: bytes, envelope: bytes) -> bool:
    """Whether those who direct by the verified ``targets`` have signed this directive."""
    keys, threshold = director_keys(targets)
    try:
        unseal(envelope, Directive, keys, threshold)
    except DocumentError:
        return False
    return True


def _assignments(envelope: bytes) -> tuple[Assignment, ...] | None:
    return peek(envelope, Directive).assignments if envelope else None


def _untrusted(error: DocumentError) -> Untrusted:
    match error.code:
        case "bad-signature":
            return BadSignature(error.detail)
        case "too-large":
            return EndlessData(error.detail)
        case _:
            return MalformedDocument(error.detail)


def _check_form(directive: Directive) -> None:
    """Bounds that the type does not express."""
    if not 1 <= directive.generation <= MAX_GENERATION:
        raise MalformedDocument(f"directive: `generation` must be from 1 to {MAX_GENERATION}")
    places = [(one.model, one.slot) for one in directive.assignments]
    if len(set(places)) < len(places):
        raise MalformedDocument("directive: two `assignments` for one slot")
    for number, one in enumerate(directive.assignments):
        field = _wrong_field(one)
        if field:
            raise MalformedDocument(f"directive: `assignments[{number}].{field}`")


def _wrong_field(one: Assignment) -> str:
    checks = {
        "model": _MODEL.fullmatch(one.model) is not None,
        "slot": _MODEL.fullmatch(one.slot) is not None,
        "version": 1 <= one.version <= MAX_VERSION,
        "sha256": _SHA256.fullmatch(one.sha256) is not None,
        "length": 0 < one.length <= MANIFEST_BYTES,
    }
    return next((field for field, right in checks.items() if not right), "")
