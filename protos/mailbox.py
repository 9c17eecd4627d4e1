"""Commands that wait to be delivered, on either side of a link: one place per kind.

Commands are level-triggered, so a newer one of a kind replaces the one that still waits. What waits
is thereby bounded by the number of kinds, however slow the reader is.
"""

from google.protobuf.message import DecodeError

from protos.v1 import command_pb2

Waiting = tuple[bytes, ...]
"""Serialised ``muster.v1.Command``s, oldest first, at most one of each kind."""


def kind(command: bytes) -> str:
    """What a serialised command is: "directive", …; empty if it is of no known kind."""
    try:
        return command_pb2.Command.FromString(command).WhichOneof("kind") or ""
    except DecodeError:
        return ""


def queued(waiting: Waiting, command: bytes) -> Waiting:
    """What waits once ``command`` has come: it stands last, and replaces an older of its kind."""
    mine = kind(command)
    return (*(one for one in waiting if kind(one) != mine), command)
