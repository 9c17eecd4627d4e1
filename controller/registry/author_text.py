"""What a model's author has to say: a TOML or Markdown file that goes into the card."""

import tomllib
from typing import Annotated, Final

import msgspec

from controller.errors import InvalidInput, TooLarge
from protos.limits import KIB

AUTHOR_TEXT_BYTES: Final = 256 * KIB

Line = Annotated[str, msgspec.Meta(min_length=1)]


class Risk(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something that may go wrong for people, and what is done about it."""

    name: Line
    mitigation: str = ""


class AuthorText(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The author's part of a card; every key is optional. ``data`` says where the reference is from."""

    description: str = ""
    authors: tuple[Line, ...] = ()
    license: str = ""
    data: str = ""
    users: tuple[Line, ...] = ()
    use_cases: tuple[Line, ...] = ()
    limitations: tuple[Line, ...] = ()
    tradeoffs: tuple[Line, ...] = ()
    ethical_considerations: tuple[Risk, ...] = ()


def read_author_text(data: bytes, file: str) -> AuthorText:
    """The text in ``data``: keys if ``file`` ends in ``.toml``, else a description as it stands.

    Raises:
        TooLarge: over ``AUTHOR_TEXT_BYTES``.
        InvalidInput: not UTF-8, not TOML, or a key that is unknown or of the wrong type.
    """
    if len(data) > AUTHOR_TEXT_BYTES:
        raise TooLarge(f"{file}: {len(data):,} bytes; {AUTHOR_TEXT_BYTES:,} at most")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{file}: not UTF-8: {error}") from error
    if not file.endswith(".toml"):
        return AuthorText(description=text.strip())
    try:
        return msgspec.convert(tomllib.loads(text), AuthorText)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError, RecursionError) as error:
        raise InvalidInput(f"{file}: {error}") from error
