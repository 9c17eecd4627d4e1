"""Profiles that are no use, controllers that are none, and `muster login`."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse

from controller.enrolment.authority import create_authority
from controller.web.server import WebServer
from tests.controller.cli.office import Muster, Office


@pytest.fixture
def closed_port() -> Iterator[int]:
    """One that is bound, and on which nobody listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@pytest.fixture
def plain_port() -> Iterator[int]:
    """One on which a web server answers without TLS."""
    config = uvicorn.Config(strange(), log_config=None, ws="none", host="127.0.0.1", port=0)
    listening = config.bind_socket()
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    yield listening.getsockname()[1]
    server.should_exit = True
    thread.join()


@pytest.fixture
def strange_url(office: Office) -> Iterator[str]:
    """Where something else answers, with the controller's own certificate."""
    web = WebServer(strange(), office.home.certificates / "server.pem")
    yield f"https://127.0.0.1:{asyncio.run(web.start('127.0.0.1', 0))}"
    asyncio.run(web.stop())


def strange() -> FastAPI:
    """Answers everybody, and is no controller."""
    app = FastAPI()

    @app.get("/api/v1/whoami")
    def whoami() -> list[int]:
        return [1, 2]

    @app.get("/api/v1/models")
    def page() -> PlainTextResponse:
        return PlainTextResponse("<html>hello</html>")

    return app


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "`url` is missing"),
        (b"url = [", "not TOML: "),
        (b"url = 3", "`url`: must be text in quotes, and is a whole number"),
        (b"\xff", "not UTF-8"),
        (b"\x00" * 1000, "not TOML: "),
        (b"[[" * 100_000, "not TOML: "),
    ],
)
def test_a_profile_that_can_not_be_read_is_named(
    muster: Muster, office: Office, text: bytes, why: str
) -> None:
    path = office.file("bad.toml", text)
    path.chmod(0o600)

    said = muster.refused("device", "list", profile=path)

    assert f"bad.toml: {why}" in said
    assert "`muster login URL`" in said


def test_a_profile_that_is_missing_a_folder_or_open_to_others_is_named(
    muster: Muster, office: Office
) -> None:
    path = office.profile("open")
    path.chmod(0o640)

    assert "[no-profile]" in muster.refused("device", "list", profile=office.folder / "none.toml")
    assert "Is a directory" in muster.refused("device", "list", profile=office.folder)
    said = muster.refused("device", "list", profile=path)
    assert "others may read it, and your token stands in it" in said
    assert f"chmod 600 {path}" in said


@pytest.mark.parametrize(
    "url",
    ["", "https://", "https://[::1", "https://h:x", "https://h:99999", "https://h:0", "http://h:1",
     "https://h:1/path", "https://h:1?a=b", "https://ann@h:1", "https://a b:1", "https://ü:1",
     "https://" + "h" * 100_000],
)  # fmt: skip
def test_an_address_that_is_none_is_named_in_the_profile_and_at_login(
    muster: Muster, office: Office, url: str
) -> None:
    said = muster.refused("device", "list", profile=office.profile("wrong", url=url))
    assert "it must be https://HOST:PORT" in said
    assert len(said) < 3000
    files = ("--ca", office.home.ca, "--root", office.home.root)
    said = muster.refused("login", url, *files, stdin=b"x\n", status=2)
    assert "https://HOST:PORT" in said


@pytest.mark.parametrize(
    ("token", "why"),
    [
        ("", "`token` is no operator's token [profile]"),
        ("ü", "`token` is no operator's token [profile]"),
        ("a b", "`token` is no operator's token [profile]"),
        ("garbage", "this is not an operator's token [not-authenticated]"),
        ("muster_op_" + "A" * 43, "this token is not known here [not-authenticated]"),
        ("x" * 10_000, "this is not an operator's token [not-authenticated]"),
    ],
)
def test_a_token_of_nobody_is_refused(muster: Muster, office: Office, token: str, why: str) -> None:
    assert why in muster.refused("device", "list", profile=office.profile("wrong", token=token))


def test_a_certificate_that_is_none_or_of_another_is_refused(
    muster: Muster, office: Office
) -> None:
    other = office.file("other.crt", create_authority("x", datetime.now(UTC)).certificate_pem)
    for ca, why in (
        ("", "`ca` is empty"),
        (str(office.folder / "none.crt"), "none.crt: No such file or directory"),
        (str(office.folder), "Is a directory"),
        (str(office.file("noise.crt", bytes(range(256)))), "noise.crt: not a certificate in PEM"),
        (str(office.file("empty.crt", b"")), "empty.crt: not a certificate in PEM"),
        (str(other), "unable to get local issuer certificate [not-trusted]"),
    ):
        profile = office.profile("wrong", ca=ca)
        said = muster.refused("device", "list", profile=profile)
        assert why in said
        assert "`muster login" in said


def test_a_controller_that_is_down_or_something_else_is_told_of(
    muster: Muster, office: Office, closed_port: int, plain_port: int, strange_url: str
) -> None:
    for url, why in (
        (f"https://127.0.0.1:{closed_port}", "Connection refused [unreachable]"),
        (f"https://127.0.0.1:{plain_port}", "it does not speak TLS [unreachable]"),
        (strange_url, "does not answer as a controller does [unreachable]"),
    ):
        said = muster.refused("model", "list", profile=office.profile("wrong", url=url))
        assert why in said
        assert url in said


def test_a_login_writes_the_profile_and_keeps_the_former_one(
    muster: Muster, office: Office, tmp_path: Path
) -> None:
    profile = tmp_path / "new" / "profile.toml"
    trust = ("--ca", office.home.ca, "--root", office.home.root)
    token = next(iter(office.tokens.values()))
    done = muster.ok("login", office.url, *trust, stdin=f"{token}\n".encode(), profile=profile)
    assert done.out == f"you are the-viewer (viewer) at {office.url}: {profile}\n"
    assert profile.stat().st_mode & 0o777 == 0o600
    muster.ok("device", "list", profile=profile)

    other = list(office.tokens.values())[-1]
    env = {"MUSTER_TOKEN": other}
    done = muster.ok("login", f"{office.url}/", *trust, profile=profile, env=env)
    assert done.lines[-1] == f"your former profile is kept: {profile}.1"
    assert token in profile.with_name("profile.toml.1").read_text()


def test_a_login_that_fails_writes_nothing(
    muster: Muster, office: Office, tmp_path: Path, strange_url: str
) -> None:
    profile = tmp_path / "profile.toml"
    ca, root = office.home.ca, office.home.root
    noise = office.file("noise", bytes(range(256)))
    good = next(iter(office.tokens.values())).encode()
    tries: list[tuple[str, Path, Path, bytes, str]] = [
        (office.url, ca, root, b"", "this is no operator's token"),
        (office.url, ca, root, b"\xff\xfe", "this is not an operator's token"),
        (office.url, ca, root, b"garbage\n", "[not-authenticated]"),
        (office.url, ca, noise, good, "noise"),
        (office.url, ca, tmp_path / "none", good, "none: No such file or directory"),
        (office.url, ca, tmp_path, good, "Is a directory"),
        (office.url, noise, root, good, "noise: not a certificate in PEM"),
        (office.url, root, root, good, "not a certificate in PEM"),
        (strange_url, ca, root, good, "does not answer as a controller does"),
    ]
    for url, certificate, pinned, token, why in tries:
        words = ("login", url, "--ca", certificate, "--root", pinned)
        assert why in muster.refused(*words, stdin=token, profile=profile)
    assert list(tmp_path.iterdir()) == []


def test_a_profile_that_can_not_be_written_is_told_of_before_anything_is_made(
    muster: Muster, office: Office, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"")
    for profile in (tmp_path, tmp_path / "file" / "below.toml"):
        said = muster.refused("init", tmp_path / "controller", profile=profile)
        assert "can't be written" in said
        assert "`export MUSTER_PROFILE=FILE`" in said
    assert not (tmp_path / "controller").exists()
