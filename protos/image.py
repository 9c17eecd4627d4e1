"""What Muster adds to TUF metadata, in the signed field ``x-muster``: recalls, floors, time of signing.

A model's role carries ``Restrictions``; the timestamp carries a ``Freshness``; a key carries the name
that people know it by. A TUF client that does not know the field still verifies its signature.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final, TypeVar

import msgspec

from protos.errors import DocumentError
from protos.manifest import Sha256

FIELD: Final = "x-muster"
"""Of the signed part of a role."""

KEY_NAME: Final = "x-muster-name"
"""Of a key: who holds it, in plain words. Signed with the role that names the key."""

MAX_RECALLED: Final = 4096

NotNegative = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
RecallList = Annotated[tuple[Sha256, ...], msgspec.Meta(max_length=MAX_RECALLED)]


class Restrictions(msgspec.Struct, frozen=True):
    """What a model's approvers forbid, whatever a directive says. Both only grow.

    Attributes:
        recalled: SHA-256 of manifests of this model that must never run again.
        release_floor: the lowest release counter of this model that may run.
    """

    recalled: RecallList = ()
    release_floor: NotNegative = 0


class Freshness(msgspec.Struct, frozen=True):
    """When the timestamp was signed, in Unix seconds."""

    signed_at: NotNegative = 0


Extension = TypeVar("Extension", Restrictions, Freshness)


def restrictions(fields: Mapping[str, Any]) -> Restrictions:
    """What ``fields``, the fields of a model's role that TUF does not define, forbid.

    Raises:
        DocumentError: they are malformed; names the field.
    """
    return _read(fields, Restrictions)


def freshness(fields: Mapping[str, Any]) -> Freshness:
    """When the timestamp with these ``fields`` was signed; 0 if it does not say.

    Raises:
        DocumentError: they are malformed; names the field.
    """
    return _read(fields, Freshness)


def extension(value: Restrictions | Freshness) -> dict[str, Any]:
    """``value`` as fields of a signed part, of JSON's types alone; the readers' inverse."""
    return {FIELD: msgspec.json.decode(msgspec.json.encode(value))}


def _read(fields: Mapping[str, Any], kind: type[Extension]) -> Extension:
    try:
        return msgspec.convert(fields.get(FIELD, {}), kind)
    except msgspec.ValidationError as error:
        raise DocumentError("malformed", f"{FIELD}: {error}") from error
