"""Addresses as people and controllers write them: host:port."""


def is_address(text: str) -> bool:
    """Whether it names a host and a port that one can connect to: "controller.example.org:8443"."""
    host, separator, port = text.rpartition(":")
    digits = port.isascii() and port.isdecimal() and len(port) <= 5
    return bool(host and separator and digits and 0 < int(port) < 65536)
