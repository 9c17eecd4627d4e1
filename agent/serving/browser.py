"""Whether a request is some web page's: browsers reach loopback addresses for any page that asks.

A page of another site may send what it likes and can't read the answer, but what it asks is counted
as the device's data. A page whose own name was pointed at this machine (DNS rebinding) reads the
answers, too: its requests name that host, and applications name an address or localhost.
"""

import ipaddress
import re
from collections.abc import Mapping

_HOST = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::\d*)?|([^:\[\]]*)(?::\d*)?")


def objection(headers: Mapping[bytes, bytes], *, any_host: bool) -> str:
    """Why the request is not answered; empty if it is. ``headers`` by name in lowercase.

    ``any_host``: the server may be reached from other machines, by whatever name it has there.
    """
    host = headers.get(b"host", b"").decode("latin-1")
    origin = headers.get(b"origin")
    if origin is not None and origin.decode("latin-1").partition("://")[2] != host:
        return f"a web page ({origin.decode('latin-1')[:200]!r}) may not ask here"
    if not any_host and host and not _is_local(host):
        return f"host {host[:200]!r} is neither an address nor localhost"
    return ""


def _is_local(host: str) -> bool:
    match = _HOST.fullmatch(host)
    if match is None:
        return False
    name = (match[1] or match[2]).lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
