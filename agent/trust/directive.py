"""Which directives a device takes: signed by the director, for this device, never an older one."""

import re
from typing import Final

import msgspec

from agent.errors import (
    BadSignature,
    EndlessData,
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


class _Role(msgspec.Struct):
    name: str
    keyids: list[str]
    threshold: int


class _Delegations(msgspec.Struct):
    keys: dict[str, msgspec.Raw]
    roles: list[_Role]


class _Signed(msgspec.Struct):
    delegations: _Delegations


class _Targets(msgspec.Struct):
    signed: _Signed


def director_keys(targets: bytes) -> tuple[list[Key], int]:
    """The keys that may sign directives according to verified ``targets``, and how many must.

    Only these keys are decoded, so that the cost hardly depends on how many models there are.

    Raises:
        BadSignature: the targets name no director.
    """
    try:
        delegations = msgspec.json.decode(targets, type=_Targets).signed.delegations
    except msgspec.DecodeError as error:
        raise BadSignature(f"the signed targets delegate to nobody: {error}") from error
    for role in delegations.roles:
        if role.name == DIRECTOR_ROLE:
            keys = [
                Key.from_dict(keyid, msgspec.json.decode(delegations.keys[keyid]))
                for keyid in role.keyids
            ]
            return keys, role.threshold
    raise BadSignature("the signed targets name nobody who may direct devices")


def check_directive(
    envelope: bytes, targets: bytes | None, device: str, highest: int, stored: bytes
) -> Directive:
    """The directive in ``envelope``, if the device must act on it.

    ``targets`` are the verified ones; ``highest`` is the generation that was accepted last, and
    ``stored`` the envelope that had it.

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
    if directive.generation < highest:  # (7c)
        raise StaleDirective(f"generation {directive.generation}; {highest} was accepted before")
    if directive.generation == highest and directive.assignments != _assignments(stored):
        raise StaleDirective(f"generation {highest} was accepted with other content")
    return directive


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
    if directive.generation < 1:
        raise MalformedDocument("directive: `generation` must be 1 or higher")
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
        "version": one.version >= 1,
        "sha256": _SHA256.fullmatch(one.sha256) is not None,
        "length": 0 < one.length <= MANIFEST_BYTES,
    }
    return next((field for field, right in checks.items() if not right), "")
