"""Which controller the commands talk to, and as whom: one 0600 file per person.

``$MUSTER_PROFILE`` names another file than ``~/.config/muster/profile.toml``.
"""

import ipaddress
import os
import tomllib
from pathlib import Path
from typing import Final, Self
from urllib.parse import urlsplit

import msgspec

from agent.wrong_value import wrong_value
from controller.cli.output import CommandFailed

MOST_ADDRESS: Final = 1000


class Profile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the controller is, and what is known of it beforehand.

    ``ca`` is the path of the certificate that the controller's own is checked against; ``root`` that
    of the TUF root that signing commands trust, whatever the controller says.
    """

    url: str
    token: str
    ca: str
    root: str


def profile_path() -> Path:
    """Where the profile stands."""
    named = os.environ.get("MUSTER_PROFILE")
    return Path(named) if named else Path.home() / ".config" / "muster" / "profile.toml"


def read_profile(path: Path | None = None) -> Profile:
    """The profile; without ``path`` the person's own.

    Raises:
        CommandFailed: there is none, others may read it, or it can't be read; names file and key.
    """
    path = path or profile_path()
    try:
        text = path.read_text(encoding="utf-8")
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        raise CommandFailed(
            "no-profile",
            f"{path} is missing: no controller to talk to",
            "Run `muster init` on the controller's machine, or `muster login URL` on yours.",
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise _unusable(path, str(why)) from error
    if mode & 0o077:
        raise CommandFailed(
            "profile",
            f"{path}: others may read it, and your token stands in it",
            f"Run `chmod 600 {path}`; if somebody may have seen it, ask for a new token.",
        )
    try:
        return _checked(path, msgspec.convert(tomllib.loads(text), Profile))
    except tomllib.TOMLDecodeError as error:
        raise _unusable(path, f"not TOML: {error}") from error
    except msgspec.ValidationError as error:
        raise _unusable(path, wrong_value(error)) from error


def _checked(path: Path, profile: Profile) -> Profile:
    if not is_address(profile.url, "https"):
        raise _unusable(path, f"`url` is {profile.url!r}; it must be https://HOST:PORT")
    if not fits_a_header(profile.token):
        raise _unusable(path, "`token` is no operator's token")
    for key, file in (("ca", profile.ca), ("root", profile.root)):
        if not file:  # an empty one would mean: trust everybody whom the machine trusts
            raise _unusable(path, f"`{key}` is empty; it must be a file's path")
    return profile


def is_address(url: str, *schemes: str) -> bool:
    """Whether it is SCHEME://HOST or SCHEME://HOST:PORT and nothing more."""
    if not url.isascii() or not url.isprintable() or " " in url:
        return False
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    bare = parts.path in {"", "/"} and not parts.query and not parts.fragment
    named = bool(parts.hostname) and "@" not in parts.netloc
    return parts.scheme in schemes and named and bare and port != 0 and len(url) < MOST_ADDRESS


def is_this_machine(url: str) -> bool:
    """Whether the address is one of the machine's own that others can't reach."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def fits_a_header(token: str) -> bool:
    """Whether the text can be sent as a token at all."""
    return token.isascii() and token.isprintable() and bool(token) and " " not in token


class NewProfile:
    """A profile that is about to be written: its place is made sure of first.

    A token that is shown once must not be lost because the file can't be written. Use as a context
    manager; without ``write`` nothing stays.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or profile_path()
        self._fresh = self.path.with_name(f".{self.path.name}.new")

    def __enter__(self) -> Self:
        """Makes the folder and the file.

        Raises:
            CommandFailed: they can't be written.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            if self.path.is_dir():
                raise IsADirectoryError(21, "Is a directory")
            self._fresh.unlink(missing_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            self._descriptor = os.open(self._fresh, flags, 0o600)
        except OSError as error:
            raise CommandFailed(
                "profile",
                f"{self.path} can't be written: {error.strerror}",
                "Name another file: `export MUSTER_PROFILE=FILE`.",
            ) from error
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)
        self._fresh.unlink(missing_ok=True)

    def write(self, profile: Profile) -> Path | None:
        """Puts it in place, for its owner's eyes only.

        Returns where a former profile with another token was moved to, if there was one: the token of
        a controller's only administrator may stand nowhere else.
        """
        fields = msgspec.structs.asdict(profile)
        text = "".join(
            f"{key} = {msgspec.json.encode(value).decode()}\n" for key, value in fields.items()
        )
        os.write(self._descriptor, text.encode())
        os.fsync(self._descriptor)
        former = self._set_aside(profile)
        self._fresh.replace(self.path)
        return former

    def _set_aside(self, profile: Profile) -> Path | None:
        if not self.path.exists():
            return None
        try:
            if read_profile(self.path).token == profile.token:
                return None
        except CommandFailed:
            pass  # not ours to judge: keep it
        number = 1
        while (former := self.path.with_name(f"{self.path.name}.{number}")).exists():
            number += 1
        self.path.rename(former)
        return former


def _unusable(path: Path, why: str) -> CommandFailed:
    return CommandFailed(
        "profile", f"{path}: {why}", "Correct it, or log in anew with `muster login URL`."
    )
