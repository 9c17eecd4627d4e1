"""Where a mirror has what: a static tree that any web server serves, and nobody has to trust.

``metadata/<name>`` is the fleet's TUF metadata by file name, ``blobs/<aa>/<sha256>`` every other
file by its digest, under the digest's first two digits. Devices decide by signatures and digests.
"""

import re
from typing import Final

from protos.errors import DocumentError
from protos.limits import MODEL_NAME

METADATA_FOLDER: Final = "metadata"
BLOB_FOLDER: Final = "blobs"
TIMESTAMP: Final = "timestamp.json"
"""The one file that is replaced: it names everything else, so it is written last."""

_VERSIONED: Final = re.compile(
    rf"([1-9][0-9]{{0,8}})\.(root|snapshot|targets|models-{MODEL_NAME})\.json"
)
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


def metadata_path(name: str) -> str:
    """Where the metadata file ``name`` stands: ``timestamp.json``, or ``3.root.json``.

    Raises:
        DocumentError: a mirror has no file of that name.
    """
    if name != TIMESTAMP and not _VERSIONED.fullmatch(name):
        raise DocumentError("malformed", f"{name[:80]!r} is no name of metadata on a mirror")
    return f"{METADATA_FOLDER}/{name}"


def blob_path(sha256: str) -> str:
    """Where the blob stands.

    Raises:
        DocumentError: this is no SHA-256 in lowercase hex.
    """
    if not _SHA256.fullmatch(sha256):
        raise DocumentError("malformed", f"{sha256[:80]!r} is not a SHA-256 in lowercase hex")
    return f"{BLOB_FOLDER}/{sha256[:2]}/{sha256}"


def is_root(name: str) -> bool:
    """Whether the metadata file is a version of root: devices need all of them, for ever."""
    match = _VERSIONED.fullmatch(name)
    return match is not None and match[2] == "root"


def belongs(path: str) -> bool:
    """Whether the tree has such a path: a file elsewhere is somebody else's."""
    folder, _, name = path.partition("/")
    try:
        if folder == METADATA_FOLDER:
            return metadata_path(name) == path
        return blob_path(name.rpartition("/")[2]) == path
    except DocumentError:
        return False
