"""The seam to a mirror: a web server near by that has what devices trust by signature or digest.

A mirror is believed nothing. What it sends is checked by whoever asked, exactly as what the
controller sends; so it needs no key, and may be anybody's.
"""

import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Final, Protocol
from urllib.parse import urlsplit

from agent.errors import ConfigError

_PRINTABLE: Final = re.compile(r"[!-~]+")
_PORTS: Final = {"https": 443, "http": 80}


class Mirror(Protocol):
    """Serves the tree of ``protos.mirror``.

    Both methods raise ``TransportError`` when no answer came, ``Refused`` with the code
    ``not-found`` when the mirror does not have it, and nothing else of their own.
    """

    def metadata(self, name: str) -> bytes:
        """Image metadata by file name, not verified. Blocks, for no longer than its patience.

        Raises:
            EndlessData: more bytes than metadata of that role may have.
        """
        ...

    def fetch(self, sha256: str, offset: int) -> AsyncGenerator[bytes, None]:
        """The blob's bytes from ``offset`` on, in order. The receiver checks length and digest."""
        ...


@dataclass(frozen=True, slots=True)
class MirrorAddress:
    """Where a mirror's tree begins. ``path`` is empty or begins with a slash, and does not end so."""

    secure: bool
    host: str
    port: int
    path: str

    @property
    def scheme(self) -> str:
        """``https`` or ``http``."""
        return "https" if self.secure else "http"

    @property
    def authority(self) -> str:
        """Host and port, as a ``Host`` header has them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}"


def mirror_address(url: str, *, allow_plain: bool) -> MirrorAddress:
    """The address in ``url``, ``https://HOST[:PORT][/PATH]``; http only if that is allowed.

    Raises:
        ConfigError: it is none; names the key.
    """
    if not _PRINTABLE.fullmatch(url):
        raise ConfigError(f"[mirror] url: {url[:200]!r} has characters that no address has")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ConfigError(f"[mirror] url: {url[:200]}: {error}") from error
    if parts.scheme not in _PORTS or not parts.hostname or port == 0:
        raise ConfigError(f"[mirror] url: {url[:200]} is not https://HOST[:PORT][/PATH]")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ConfigError("[mirror] url: no name, password, query or fragment can be sent")
    if parts.scheme == "http" and not allow_plain:
        raise ConfigError(
            "[mirror] url: over plain http everybody on the way can read the models; if they may, "
            "set allow_plain = true"
        )
    return MirrorAddress(
        secure=parts.scheme == "https",
        host=parts.hostname,
        port=_PORTS[parts.scheme] if port is None else port,
        path=parts.path.rstrip("/"),
    )
