"""`muster init`, `muster serve` and `muster key`: what is made, and what is refused."""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from controller.errors import Conflict
from controller.home import Home
from simulations.demo.processes import SCRIPTS
from tests.controller.cli.office import Muster, Office


def test_a_controller_is_made_with_its_administrators_profile(
    muster: Muster, tmp_path: Path
) -> None:
    profile = tmp_path / "profile.toml"
    done = muster.ok("init", tmp_path / "one", "--api-port", "9443", profile=profile)
    assert done.lines[0] == f"a controller is in {tmp_path / 'one'}"
    assert done.lines[-1] == f"next: `muster serve --home {tmp_path / 'one'}`"
    assert 'url = "https://localhost:9443"' in profile.read_text()
    assert profile.stat().st_mode & 0o777 == 0o600
    Home(tmp_path / "one").require_whole()

    words = ("init", tmp_path / "two", "--name", "::1", "--root-keys", "1", "--root-threshold", "1")
    made = muster.ok(*words, "-o", "json", profile=profile).json
    assert made == {
        "home": str(tmp_path / "two"),
        "url": "https://[::1]:8443",
        "profile": str(profile),
        "former_profile": f"{profile}.1",
        "offline": str(tmp_path / "two" / "offline"),
        "root": str(tmp_path / "two" / "root.json"),
    }


@pytest.mark.parametrize(
    ("words", "status", "why"),
    [
        (("{}/file",), 1, "file is a file, no folder [conflict]"),
        (("{}",), 1, "is not empty [conflict]"),
        (("{}/file/below",), 1, "[config]"),
        (("{}/" + "x" * 100_000,), 1, "File name too long"),
        (("{}/a#b",), 1, "must be without"),
        (("{}/\udcff",), 2, "its name is not UTF-8"),
        (("{}/new", "--name", "a b"), 1, "'a b' is neither a host name nor an IP address"),
        (("{}/new", "--name", ""), 1, "'' is neither a host name nor an IP address"),
        (("{}/new", "--name", "x" * 100_000), 1, "is neither a host name nor an IP address"),
        (("{}/new", "--api-port", "0"), 2, "--api-port"),
        (("{}/new", "--api-port", "70000"), 2, "--api-port"),
        (("{}/new", "--api-port", "8444"), 2, "one for each"),
        (("{}/new", "--root-keys", "nan"), 2, "--root-keys"),
        (("{}/new", "--root-threshold", "9"), 2, "--root-threshold 9 of --root-keys 3"),
        ((), 2, "--help"),
    ],
)
def test_what_can_be_no_controller_is_refused_and_nothing_is_made(
    muster: Muster, tmp_path: Path, words: tuple[str, ...], status: int, why: str
) -> None:
    (tmp_path / "file").write_bytes(b"")
    profile = tmp_path / "profiles" / "profile.toml"

    given = [word.replace("{}", str(tmp_path)) for word in words]
    said = muster.refused("init", *given, status=status, profile=profile)

    assert why in said
    assert ("Name a folder that is empty or missing" in said) == (why.endswith("[conflict]"))
    assert len(said) < 3000 or status == 2
    assert {path.name for path in tmp_path.iterdir()} <= {"file", "profiles"}
    assert not profile.exists()


@pytest.mark.parametrize(
    "name",
    ["muster.db", "certificates", "root.json", "server-ca.crt", "keys/director.json"],
)
def test_a_folder_in_which_something_is_missing_is_not_served(
    muster: Muster, office: Office, tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(office.home.path, folder)
    lost = folder / name
    if lost.is_dir():
        shutil.rmtree(lost)
    else:
        lost.unlink()

    assert f"{lost} is missing: " in muster.refused("serve", "--home", folder)
    assert not lost.exists()


def damage(name: str, data: bytes) -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        (folder / name).write_bytes(data)

    return act


@pytest.mark.parametrize(
    ("act", "why"),
    [
        (damage("controller.toml", b"names = 3"), "`names`: must be a list"),
        (damage("controller.toml", b"\xff"), "controller.toml: "),
        (damage("controller.toml", b"nmaes = []"), "nmaes"),
        (damage("controller.toml", b"["), "controller.toml: "),
        (damage("controller.toml", b'log_level = "LOUD"'), "`log_level` is 'LOUD'"),
        (damage("controller.toml", b'mqtt.broker = "host"'), "[mqtt] broker: 'host' is not host"),
        (damage("controller.toml", b'mqtt.broker = "b:1"'), "[mqtt] address: devices have to be"),
        (damage("controller.toml", b'mqtt.address = "b:1"'), "[mqtt] broker: is empty"),
        (damage("muster.db", b"garbage"), "muster.db: file is not a database"),
        (damage("keys/director.pem", b"garbage"), "others may read it"),
        (damage("certificates/server.pem", b"x"), "server.pem: it must hold a private key"),
    ],
)
def test_a_damaged_controller_says_what_is_damaged(
    muster: Muster, office: Office, tmp_path: Path, act: Callable[[Path], None], why: str
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(office.home.path, folder)
    if "others" in why:
        (folder / "keys" / "director.pem").chmod(0o644)
    act(folder)

    assert why in muster.refused("serve", "--home", folder)


def test_where_no_controller_is_none_is_served(muster: Muster, tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        said = muster.refused("serve", "--home", folder)
        assert f"make a controller with `muster init {folder}`" in said
    assert list(tmp_path.iterdir()) == []


def test_one_controller_at_a_time_runs_in_a_folder(muster: Muster, office: Office) -> None:
    with office.home.claim():
        said = muster.refused("serve", "--home", office.home.path)
        assert f"runs in it already, as process {os.getpid()}" in said
        assert "another controller needs a folder of its own" in said
    with office.home.claim():
        pass  # it was let go


def test_what_fails_while_the_folder_is_held_is_not_taken_for_another_controller(
    office: Office,
) -> None:
    with pytest.raises(BlockingIOError), office.home.claim():
        raise BlockingIOError(11, "of somebody else")
    with office.home.claim(), pytest.raises(Conflict), office.home.claim():
        pass


def test_a_controller_is_served_until_ctrl_c(muster: Muster, tmp_path: Path) -> None:
    folder = tmp_path / "controller"
    muster.ok("init", folder, profile=tmp_path / "profile.toml")
    configuration = folder / "controller.toml"
    text = configuration.read_text()
    for port in ("8443", "8444", "8445"):
        text = text.replace(port, "0")
    configuration.write_text(text)
    command = [str(SCRIPTS / "muster"), "serve", "--home", str(folder)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert any("controller.up" in line for line in process.stderr)
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()

    assert "Traceback" not in rest
    assert process.returncode in {0, 130}  # 130: it came before the controller listened for it
    assert "controller.down" in rest


def test_keys_are_made_once_and_listed(muster: Muster, tmp_path: Path) -> None:
    env = {"MUSTER_KEYS": str(tmp_path / "keys")}
    assert "no keys in" in muster.ok("key", "list", env=env).out
    made = muster.ok("key", "create", "ann@example.org", "-o", "json", env=env).json
    assert {"name", "holder", "keyid", "public", "uri"} == made.keys()
    private = Path(made["uri"])
    assert private == tmp_path / "keys" / "ann@example.org.pem"
    assert private.stat().st_mode & 0o777 == 0o600
    assert json.loads(Path(made["public"]).read_bytes())["holder"] == "ann@example.org"
    muster.ok("key", "create", "bob", "--folder", tmp_path / "keys")
    assert [row.split()[0] for row in muster.ok("key", "list", env=env).lines] == [
        "name",
        "ann@example.org",
        "bob",
    ]
    assert [one["name"] for one in muster.ok("key", "list", "-o", "json", env=env).json] == [
        "ann@example.org",
        "bob",
    ]
    again = muster.refused("key", "create", "bob", env=env)
    assert "is there already [conflict]" in again
    assert "give the new one another NAME or another --folder" in again
    (tmp_path / "keys" / "strange.json").write_bytes(b"[1]")
    assert "strange.json: not a public key file" in muster.refused("key", "list", env=env)
    (tmp_path / "file").write_bytes(b"")
    for folder in (tmp_path / "file", tmp_path / ("x" * 100_000)):
        muster.refused("key", "create", "cam", "--folder", folder)
