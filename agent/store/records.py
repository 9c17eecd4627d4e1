"""Values as the JSON text that the tables keep.

A field that this agent does not know is ignored, one that is missing takes its default: records of
older and newer agents can be read as long as every new field has a default.
"""

from typing import Final, TypeVar

import msgspec

from agent.errors import StoreCorrupt
from agent.federated.record import Journal
from agent.install.record import Install, Slot
from agent.store.device_store import Identity

Record = TypeVar("Record", Identity, Slot, Install, Journal)

# msgspec learns a type when it first decodes one, and two threads that do so at once crash it.
_DECODERS: Final = tuple(msgspec.json.Decoder(kind) for kind in (Identity, Slot, Install, Journal))


def to_text(value: Identity | Slot | Install | Journal) -> str:
    """JSON; bytes are Base64."""
    return msgspec.json.encode(value).decode()


def from_text(text: str, kind: type[Record]) -> Record:
    """The value.

    Raises:
        StoreCorrupt: this is not one; the message names the field.
    """
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StoreCorrupt(f"{kind.__name__.lower()}: {error}") from error
