"""What every ``Mirror`` promises."""

import contextlib
import hashlib
from collections.abc import Iterator

import pytest

from agent.errors import EndlessData, Refused, TransportError
from agent.transport.http_mirror import HttpMirror
from agent.transport.mirror import Mirror, mirror_address
from protos.limits import METADATA_BYTES
from protos.mirror import blob_path, metadata_path
from simulations.memory_mirror import MemoryMirror
from tests.contracts.mirrors import Site, serving

BLOB = b"".join(hashlib.sha256(str(number).encode()).digest() for number in range(5_000))
SHA = hashlib.sha256(BLOB).hexdigest()
TREE = {
    metadata_path("timestamp.json"): b"{}",
    metadata_path("7.models-digits.json"): b"[]",
    metadata_path("1.root.json"): bytes(METADATA_BYTES["root"] + 1),
    blob_path(SHA): BLOB,
}


@pytest.fixture(params=["memory", "http"])
def mirror(request: pytest.FixtureRequest) -> Iterator[Mirror]:
    if request.param == "memory":
        memory = MemoryMirror()
        memory.files.update(TREE)
        yield memory
        return
    with serving(Site(dict(TREE))) as url:
        yield HttpMirror(mirror_address(url, allow_plain=True))


async def fetched(mirror: Mirror, sha256: str, offset: int = 0) -> bytes:
    async with contextlib.aclosing(mirror.fetch(sha256, offset)) as pieces:
        return b"".join([piece async for piece in pieces])


def test_metadata_comes_by_its_name(mirror: Mirror) -> None:
    assert mirror.metadata("timestamp.json") == b"{}"
    assert mirror.metadata("7.models-digits.json") == b"[]"


def test_metadata_that_is_not_there_is_refused_as_the_controller_does(mirror: Mirror) -> None:
    with pytest.raises(Refused) as refused:
        mirror.metadata("2.root.json")

    assert refused.value.code == "not-found"


def test_metadata_longer_than_its_role_may_be_is_refused(mirror: Mirror) -> None:
    with pytest.raises(EndlessData):
        mirror.metadata("1.root.json")


@pytest.mark.parametrize("name", ["root.json", "../timestamp.json", "1.x.json"])
def test_a_name_that_no_mirror_has_is_not_asked_for(mirror: Mirror, name: str) -> None:
    with pytest.raises(TransportError):
        mirror.metadata(name)


@pytest.mark.parametrize("offset", [0, 1, 65_536, len(BLOB) - 1, len(BLOB)])
async def test_a_blob_comes_from_the_offset_on(mirror: Mirror, offset: int) -> None:
    assert await fetched(mirror, SHA, offset) == BLOB[offset:]


async def test_a_blob_that_is_not_there_is_refused_as_the_controller_does(mirror: Mirror) -> None:
    with pytest.raises(Refused) as refused:
        await fetched(mirror, "0" * 64)

    assert refused.value.code == "not-found"


async def test_what_is_no_digest_is_not_asked_for(mirror: Mirror) -> None:
    with pytest.raises(TransportError):
        await fetched(mirror, "../../etc/passwd")


async def test_who_has_enough_may_stop(mirror: Mirror) -> None:
    pieces = mirror.fetch(SHA, 0)
    first = await anext(pieces)

    await pieces.aclose()

    assert BLOB.startswith(first)
    assert await fetched(mirror, SHA) == BLOB


async def test_several_may_ask_at_once(mirror: Mirror) -> None:
    one, other = mirror.fetch(SHA, 0), mirror.fetch(SHA, 10)
    begun = await anext(one), await anext(other)
    rest = [b"".join([piece async for piece in pieces]) for pieces in (one, other)]

    assert [first + more for first, more in zip(begun, rest, strict=True)] == [BLOB, BLOB[10:]]
