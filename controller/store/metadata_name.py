"""File names of image metadata: "3.root.json" is version 3 of role "root"."""

import re
from typing import Final

_NAME: Final = re.compile(r"(?:(?P<version>[1-9][0-9]{0,8})\.)?(?P<role>[A-Za-z0-9_-]+)\.json")


def role_and_version(name: str) -> tuple[str, int | None] | None:
    """The role and version that a file name stands for; no version means the current one.

    None is returned for what is no name of metadata.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    version = match["version"]
    return match["role"], int(version) if version else None
