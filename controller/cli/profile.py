"""Which controller the commands talk to, and as whom: one 0600 file per person.

``$MUSTER_PROFILE`` names another file than ``~/.config/muster/profile.toml``.
"""

import os
import tomllib
from pathlib import Path

import msgspec

from controller.cli.output import CommandFailed


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
        CommandFailed: there is none, or it can't be read; names the file and the key.
    """
    path = path or profile_path()
    try:
        return msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), Profile)
    except FileNotFoundError as error:
        raise CommandFailed(
            "no-profile",
            f"{path} is missing: no controller to talk to",
            "Run `muster init` on the controller's machine, or `muster login URL` on yours.",
        ) from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise CommandFailed("profile", f"{path}: {error}", "Correct it, or log in anew.") from error


def write_profile(profile: Profile, path: Path | None = None) -> Path:
    """Writes the profile for its owner's eyes only; returns where."""
    path = path or profile_path()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fields = msgspec.structs.asdict(profile)
    text = "".join(
        f"{key} = {msgspec.json.encode(value).decode()}\n" for key, value in fields.items()
    )
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    fresh.replace(path)
    return path
