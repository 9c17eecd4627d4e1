"""The public half of a key as a small JSON file, and how to reach its private half.

``uri`` says where the private key is: ``file2:NAME.pem`` is a file beside this one; any other scheme
that ``securesystemslib.signer`` knows (``hsm:``, ``awskms:``, ``gcpkms:``, ``azurekms:``, ``hv:``) is
an HSM or a KMS, so that moving a key there is an edit of this file.
"""

import re
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from securesystemslib.exceptions import FormatError
from securesystemslib.formats import encode_canonical

from controller.errors import InvalidInput
from protos.documents import sha256
from protos.keys import Key, SSlibKey

FILE_SCHEME: Final = "file2:"
KEY_FILE_BYTES: Final = 16 * 1024
_NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._@-]{0,62}[A-Za-z0-9])?")


@dataclass(frozen=True, slots=True)
class PublicKeyFile:
    """What the JSON file beside a private key says. ``holder`` is what people call its owner."""

    holder: str
    key: Key
    uri: str


def check_name(name: str) -> str:
    """``name``, if it may name a key file.

    Raises:
        InvalidInput: it may not.
    """
    if _NAME.fullmatch(name) is None:
        raise InvalidInput(
            f"the key name {name!r}: letters, digits, '.', '_', '@' and '-', 64 at most"
        )
    return name


def encode(entry: PublicKeyFile) -> bytes:
    """The file's content."""
    fields = {
        "holder": entry.holder,
        "keyid": entry.key.keyid,
        "key": entry.key.to_dict(),
        "uri": entry.uri,
    }
    return msgspec.json.format(msgspec.json.encode(fields, order="sorted"), indent=2) + b"\n"


class _Form(msgspec.Struct, frozen=True):
    holder: str
    keyid: str
    key: dict[str, Any]
    uri: str = ""


def decode(data: bytes, what: str) -> PublicKeyFile:
    """The content of the file that messages call ``what``.

    Raises:
        InvalidInput: it is no such file, or its key id is not that of its key.
    """
    if len(data) > KEY_FILE_BYTES:
        raise InvalidInput(f"{what}: {len(data)} bytes; {KEY_FILE_BYTES} at most")
    try:
        form = msgspec.json.decode(data, type=_Form)
        key = SSlibKey.from_dict(form.keyid, dict(form.key))
        computed = _default_keyid(key)
    except (
        msgspec.DecodeError,
        FormatError,
        KeyError,
        TypeError,
        ValueError,
        RecursionError,
    ) as error:
        raise InvalidInput(f"{what}: not a public key file: {error}") from error
    if computed != form.keyid:
        raise InvalidInput(f"{what}: the field keyid is not that of the key")
    return PublicKeyFile(form.holder, key, form.uri)


def _default_keyid(key: Key) -> str:
    """The id that every signer of securesystemslib gives the key: a digest of its canonical JSON."""
    fields = {"keytype": key.keytype, "scheme": key.scheme, "keyval": key.keyval}
    return sha256(str(encode_canonical(fields)).encode())
