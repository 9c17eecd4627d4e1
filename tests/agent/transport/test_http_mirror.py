import asyncio
import ssl
from collections.abc import Awaitable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.config import Mirroring
from agent.errors import AgentError, ConfigError, EndlessData, HashMismatch, TransportError
from agent.store.blob_folder import BlobFolder
from agent.transport import controller_client
from agent.transport.http_mirror import HttpMirror, Patience, configured_mirror
from agent.transport.mirror import mirror_address
from controller.enrolment.authority import create_authority, issue_server
from protos.mirror import blob_path, metadata_path
from tests.contracts.mirrors import Answer, Site, Visit, plain, serving, with_ranges
from tests.contracts.test_mirror import BLOB, SHA, TREE, fetched

DEADLINE = 15.0
HURRY = Patience(silence=DEADLINE, answer=0.2, piece=0.2)


def mirror_at(url: str, patience: Patience | None = None) -> HttpMirror:
    return HttpMirror(mirror_address(url, allow_plain=True), None, patience)


def site(answer: Answer = with_ranges) -> Site:
    return Site(dict(TREE), answer=answer)


def whole_but_wrong(visit: Visit, data: bytes | None) -> None:
    """Ranges of it are of something else."""
    assert data is not None
    start = int((visit.headers.get("Range") or "bytes=0-")[6:-1])
    rest = data[start + 1 :]
    shown = f"bytes {start + 1}-{len(data) - 1}/{len(data)}"
    visit.head(206, Content_Range=shown, Content_Length=len(rest))
    visit.wfile.write(rest)


def half(visit: Visit, data: bytes | None) -> None:
    """Breaks off in the middle."""
    assert data is not None
    visit.head(200, Content_Length=len(data))
    visit.wfile.write(data[: len(data) // 2])


def endless(visit: Visit, _: bytes | None) -> None:
    """Never says that it has ended."""
    visit.head(200, Transfer_Encoding="chunked")
    while True:
        visit.wfile.write(b"10000\r\n" + bytes(0x10000) + b"\r\n")


def too_long(visit: Visit, _: bytes | None) -> None:
    """Announces more than there can be."""
    visit.head(200, Content_Length=2**40)


def without_length(visit: Visit, data: bytes | None) -> None:
    """Ends where the connection does."""
    assert data is not None
    visit.head(200, Connection="close")
    visit.wfile.write(data)


def elsewhere(visit: Visit, _: bytes | None) -> None:
    """Sends people somewhere else, where the file is."""
    visit.head(302, Location="/metadata/timestamp.json", Content_Length=0)


def babble(visit: Visit, _: bytes | None) -> None:
    """Speaks something else."""
    visit.wfile.write(b"SSH-2.0-OpenSSH_9.6\r\n")


def broken(visit: Visit, _: bytes | None) -> None:
    """Has trouble of its own."""
    visit.head(503, Content_Length=0)


def silent(visit: Visit, _: bytes | None) -> None:
    """Takes the request, and that is all."""
    visit.site.gate.wait()


def silent_in_the_middle(visit: Visit, data: bytes | None) -> None:
    """Begins well."""
    assert data is not None
    visit.head(200, Content_Length=len(data))
    visit.wfile.write(data[: len(data) // 2])
    visit.wfile.flush()
    visit.site.gate.wait()


def dripping(visit: Visit, data: bytes | None) -> None:
    """One byte now and then: no silence is long."""
    assert data is not None
    visit.head(200, Content_Length=10_000)
    while not visit.site.gate.wait(0.01):
        visit.wfile.write(b"x")
        visit.wfile.flush()


@pytest.mark.parametrize(
    "answer",
    [too_long, half, without_length, elsewhere, babble, broken],
    ids=lambda answer: str(answer.__name__),
)
async def test_what_is_no_whole_answer_is_none(answer: Answer) -> None:
    with serving(site(answer)) as url:
        with pytest.raises(TransportError):
            await fetched(mirror_at(url), SHA)
        with pytest.raises((TransportError, EndlessData)):
            await asyncio.to_thread(mirror_at(url).metadata, "timestamp.json")


@pytest.mark.parametrize(
    "answer",
    [silent, silent_in_the_middle, dripping],
    ids=lambda answer: str(answer.__name__),
)
async def test_a_mirror_that_does_not_come_to_an_end_is_left(answer: Answer) -> None:
    with serving(site(answer)) as url:
        async with asyncio.timeout(DEADLINE):
            with pytest.raises(TransportError):
                await fetched(mirror_at(url, HURRY), SHA)
            with pytest.raises(TransportError):
                await asyncio.to_thread(mirror_at(url, HURRY).metadata, "timestamp.json")


async def test_metadata_without_end_is_cut_off() -> None:
    with serving(site(endless)) as url, pytest.raises(EndlessData):
        await asyncio.to_thread(mirror_at(url).metadata, "timestamp.json")


async def test_nobody_there_is_no_answer() -> None:
    with serving(site()) as url:
        pass

    with pytest.raises(TransportError):
        await fetched(mirror_at(url), SHA)
    with pytest.raises(TransportError):
        await asyncio.to_thread(mirror_at(url).metadata, "timestamp.json")


@pytest.mark.parametrize("status", [403, 404, 410])
async def test_a_bucket_that_may_not_be_listed_says_not_there_in_its_own_way(status: int) -> None:
    def forbidden(visit: Visit, _: bytes | None) -> None:
        visit.head(status, Content_Length=0)

    with serving(site(forbidden)) as url:
        from_blob = await outcome(fetched(mirror_at(url), SHA))
        from_metadata = await outcome(asyncio.to_thread(mirror_at(url).metadata, "2.root.json"))

    assert (from_blob, from_metadata) == ("not-found", "not-found")


async def outcome(attempt: Awaitable[object]) -> str:
    try:
        await attempt
    except AgentError as error:
        return error.code
    return "came"


# --- Into the blob store --------------------------------------------------------------------------


async def bring(url: str, blobs: BlobFolder, length: int = len(BLOB)) -> None:
    await controller_client.fetch(mirror_at(url), SHA, blobs.writer(SHA, length))


@pytest.mark.parametrize(
    ("again", "ranges"),
    [(with_ranges, [f"bytes={len(BLOB) // 2}-"]), (plain, [f"bytes={len(BLOB) // 2}-"])],
    ids=["ranges", "no ranges"],
)
async def test_a_blob_goes_on_where_it_stopped(
    again: Answer, ranges: list[str], tmp_path: Path
) -> None:
    blobs, there = BlobFolder(tmp_path), site(half)
    with serving(there) as url:
        with pytest.raises(TransportError):
            await bring(url, blobs)
        there.answer = again
        there.asked.clear()
        await bring(url, blobs)

    assert [asked for _, asked in there.asked] == ranges
    assert blobs.read(SHA) == BLOB


async def test_a_blob_that_had_come_wholly_needs_nothing_more(tmp_path: Path) -> None:
    blobs, there = BlobFolder(tmp_path), site()
    writer = blobs.writer(SHA, len(BLOB))
    writer.write(BLOB)
    writer.close()

    with serving(there) as url:
        await bring(url, blobs)

    assert blobs.read(SHA) == BLOB


async def test_another_range_than_was_asked_for_is_not_taken(tmp_path: Path) -> None:
    blobs, there = BlobFolder(tmp_path), site(half)
    with serving(there) as url:
        with pytest.raises(TransportError):
            await bring(url, blobs)
        there.answer = whole_but_wrong
        with pytest.raises(TransportError, match="not the bytes asked for"):
            await bring(url, blobs)
        there.answer = with_ranges
        await bring(url, blobs)

    assert blobs.read(SHA) == BLOB


async def test_other_bytes_leave_nothing_behind(tmp_path: Path) -> None:
    blobs, there = BlobFolder(tmp_path), site()
    there.files[blob_path(SHA)] = bytes(len(BLOB))

    with serving(there) as url, pytest.raises(HashMismatch):
        await bring(url, blobs)

    assert blobs.writer(SHA, len(BLOB)).offset == 0


async def test_more_bytes_than_announced_are_cut_off(tmp_path: Path) -> None:
    blobs = BlobFolder(tmp_path)

    with serving(site(endless)) as url, pytest.raises(EndlessData):
        await bring(url, blobs)

    assert blobs.writer(SHA, len(BLOB)).offset == 0


async def test_a_fetch_that_is_given_up_ends_while_the_mirror_says_nothing(tmp_path: Path) -> None:
    there, blobs = site(silent), BlobFolder(tmp_path)
    with serving(there) as url:
        fetching = asyncio.create_task(bring(url, blobs))
        async with asyncio.timeout(DEADLINE):
            assert await asyncio.to_thread(there.reached.wait, DEADLINE)
            fetching.cancel()
            await asyncio.wait([fetching])
        there.answer = with_ranges
        await bring(url, blobs)

    assert fetching.cancelled()
    assert blobs.has(SHA)


# --- TLS ------------------------------------------------------------------------------------------


async def test_over_tls_the_mirror_must_show_a_certificate_of_the_authority_that_is_named(
    tmp_path: Path,
) -> None:
    now = datetime.now(UTC)
    ours, theirs = create_authority("site CA", now), create_authority("another CA", now)
    shown = issue_server(ours, ["127.0.0.1"], now, "mirror")
    (tmp_path / "server.pem").write_bytes(shown.certificate_pem + shown.key_pem)
    for name, authority in (("ours.pem", ours), ("theirs.pem", theirs)):
        (tmp_path / name).write_bytes(authority.certificate_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem")

    with serving(site(), context) as url:
        right = configured_mirror(Mirroring(url=url, ca="ours.pem"), tmp_path)

        assert await fetched(right, SHA, 10) == BLOB[10:]
        assert await asyncio.to_thread(right.metadata, "timestamp.json") == b"{}"
        for ca in (str(tmp_path / "theirs.pem"), ""):
            with pytest.raises(TransportError, match="certificate"):
                await fetched(configured_mirror(Mirroring(url=url, ca=ca), tmp_path), SHA)


async def test_a_silent_mirror_is_left_over_tls_too(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    ours = create_authority("site CA", now)
    shown = issue_server(ours, ["127.0.0.1"], now, "mirror")
    (tmp_path / "server.pem").write_bytes(shown.certificate_pem + shown.key_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem")
    trusting = ssl.create_default_context(cadata=ours.certificate_pem.decode())

    with serving(site(silent_in_the_middle), context) as url:
        mirror = HttpMirror(mirror_address(url, allow_plain=False), trusting, HURRY)
        async with asyncio.timeout(DEADLINE):
            with pytest.raises(TransportError):
                await fetched(mirror, SHA)
            with pytest.raises(TransportError):
                await asyncio.to_thread(mirror.metadata, "timestamp.json")


@pytest.mark.parametrize("ca", ["missing.pem", "rubbish.pem"])
def test_an_authority_that_is_none_is_a_wrong_configuration(ca: str, tmp_path: Path) -> None:
    (tmp_path / "rubbish.pem").write_text("no certificate")
    wanted = Mirroring(url="https://mirror.example", ca=ca)

    with pytest.raises(ConfigError, match=r"\[mirror\] ca: .*" + ca):
        configured_mirror(wanted, tmp_path)


# --- The address ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "text", "port"),
    [
        ("https://mirror.example", "https://mirror.example", 443),
        ("https://mirror.example:443/", "https://mirror.example", 443),
        ("https://mirror.example:8443/muster/", "https://mirror.example:8443/muster", 8443),
        ("http://[::1]:80/a/b", "http://[::1]/a/b", 80),
    ],
)
def test_an_address_is_read(url: str, text: str, port: int) -> None:
    address = mirror_address(url, allow_plain=True)

    assert (str(address), address.port) == (text, port)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "mirror.example",
        "ftp://mirror.example",
        "https://",
        "https://mirror.example:port",
        "https://mirror.example:70000",
        "https://mirror.example:0",
        "https://[::1",
        "https://ann:secret@mirror.example",
        "https://mirror.example/?a=b",
        "https://mirror.example/#a",
        "https://mirror example",
        "https://mirror.example/\r\nX: y",
    ],
)
def test_what_is_no_address_is_a_wrong_configuration(url: str) -> None:
    with pytest.raises(ConfigError, match=r"\[mirror\] url: "):
        mirror_address(url, allow_plain=True)


def test_plain_http_must_be_allowed() -> None:
    with pytest.raises(ConfigError, match="allow_plain = true"):
        mirror_address("http://mirror.example", allow_plain=False)


async def test_a_path_before_the_tree_is_part_of_every_request() -> None:
    there = Site({f"site-7/{path}": data for path, data in TREE.items()})
    with serving(there) as url:
        mirror = mirror_at(f"{url}/site-7")

        assert await fetched(mirror, SHA) == BLOB
        assert await asyncio.to_thread(mirror.metadata, "timestamp.json") == b"{}"

    assert [path for path, _ in there.asked] == [
        f"/site-7/{blob_path(SHA)}",
        f"/site-7/{metadata_path('timestamp.json')}",
    ]
