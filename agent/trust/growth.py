"""How the trusted state grows by what an update verified, and that it never shrinks.

The floors here do not depend on the scratch folder that python-tuf compared with: a torn file there
makes python-tuf forget what it has seen, and accept older metadata (it logs that, and goes on).
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from agent.errors import AgentError, MalformedDocument, RollbackAttack
from agent.trust.floor import raised
from agent.trust.state import ROOT, SNAPSHOT, TARGETS, TIMESTAMP, TOP_LEVEL, FileSeal, Opened
from protos.documents import sha256
from protos.errors import DocumentError
from protos.image import freshness, restrictions
from protos.tuf import Metadata, Root

NAME_OF_MODEL = "models-"


@dataclass(frozen=True, slots=True)
class Update:
    """What one run of the updater left: its files, and which of them it verified to be newest.

    ``newest`` names targets and models' roles that belong to the snapshot among ``files``.
    """

    files: Mapping[str, bytes]
    newest: Collection[str]


def grown(before: Opened, update: Update) -> tuple[Opened, Mapping[str, AgentError]]:
    """The state with what ``update`` brought, and what is wrong with the roles of single models.

    Raises:
        RollbackAttack: a file is older than one of that name was before.
        MalformedDocument: the timestamp's time of signing can't be read.
    """
    files = {**before.files, **update.files}
    root = files[ROOT]
    seals, problems = dict(before.seals), {}
    floors, recalled = dict(before.state.floors), before.state.recalled
    for name, data in update.files.items():
        seal = seals.get(name)
        if seal is not None and data == before.files[name]:
            continue
        metadata = _parse(data)
        fresh = _seal(metadata, data)
        if seal is not None and fresh.version < seal.version and _binds(before, name, root):
            raise RollbackAttack(
                f"{name}: version {fresh.version}, and {seal.version} was seen before"  # (6)
            )
        if name not in TOP_LEVEL:
            model = model_of(name)
            try:
                held = restrictions(metadata.signed.unrecognized_fields)
            except DocumentError as error:
                problems[model] = MalformedDocument(f"{name}: {error}")
                files[name] = before.files.get(name, b"")
                continue
            floors, recalled = raised(floors, recalled, model, held)
        seals[name] = fresh
    files = {name: data for name, data in files.items() if name in seals}
    under = seals[SNAPSHOT].sha256 if SNAPSHOT in seals else ""
    for name in update.newest:
        if name in seals and model_of(name) not in problems:
            seals[name] = msgspec.structs.replace(seals[name], under=under)
    state = replace(
        before.state,
        latest_time=_latest_time(before, files, seals),
        floors=floors,
        recalled=recalled,
    )
    return replace(before, state=state, files=files, seals=seals), problems


def model_of(name: str) -> str:
    """The model whose role the file ``name`` is."""
    return name.removeprefix(NAME_OF_MODEL).removesuffix(".json")


def verifies(root: bytes, role: str, data: bytes) -> bool:
    """Whether the keys that ``root`` names for ``role`` have signed ``data``."""
    delegator: Metadata[Root] = Metadata.from_bytes(root)
    metadata = _parse(data)
    result = delegator.signed.get_verification_result(
        role, metadata.signed_bytes, metadata.signatures
    )
    return result.verified


def _binds(before: Opened, name: str, root: bytes) -> bool:
    """Whether the version of ``name`` that was seen before is a floor under ``root``.

    It is none once root has rotated the keys that vouched for it: that is how a fleet recovers from
    stolen online keys that signed the highest version there is (TUF 5.3.11).
    """
    match name:
        case "root.json":
            return True
        case "timestamp.json":
            vouchers = [TIMESTAMP]
        case "snapshot.json":
            vouchers = [TIMESTAMP, SNAPSHOT]
        case _:
            vouchers = [SNAPSHOT]
    return all(
        verifies(root, voucher.removesuffix(".json"), before.files[voucher])
        for voucher in vouchers
        if voucher in before.files
    )


def _latest_time(before: Opened, files: Mapping[str, bytes], seals: Mapping[str, FileSeal]) -> int:
    """The latest time that a trusted source has shown, in Unix seconds.

    A timestamp says when it was signed. No online key may move a device's time past what people
    signed offline: that would make all of their metadata look expired.
    """
    data = files.get(TIMESTAMP)
    if data is None or data == before.files.get(TIMESTAMP):
        return before.state.latest_time
    try:
        shown = freshness(_parse(data).signed.unrecognized_fields).signed_at
    except DocumentError as error:
        raise MalformedDocument(f"{TIMESTAMP}: {error}") from error
    bounds = [seals[name].expires - 1 for name in (TIMESTAMP, ROOT, TARGETS) if name in seals]
    shown = min(shown, *bounds)
    known = before.files.get(TIMESTAMP)
    if known is not None and not verifies(files[ROOT], "timestamp", known):
        return shown
    return max(before.state.latest_time, shown)


def _seal(metadata: Metadata[Any], data: bytes) -> FileSeal:
    signed = metadata.signed
    return FileSeal(signed.version, int(signed.expires.timestamp()), sha256(data))


def _parse(data: bytes) -> Metadata[Any]:
    return Metadata.from_bytes(data)
