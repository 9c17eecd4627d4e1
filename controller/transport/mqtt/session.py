"""One device's link through a broker, from the controller's side."""

import asyncio
from collections.abc import Callable
from typing import Final

from protos.mailbox import kind

SendDown = Callable[["MqttSession", bytes], None]


class MqttSession:
    """A birth that was taken. An idle one costs this object and no task.

    Attributes:
        number: of the device's session: a later death of another is not this one's.
        answer_key: what the device wants commands sealed with.
        turn: what it announces is taken one after the other.
    """

    __slots__ = (
        "_commands",
        "_end",
        "_send",
        "answer_key",
        "certificate",
        "device",
        "number",
        "turn",
    )

    via: Final = "mqtt"

    def __init__(
        self,
        device: str,
        certificate: str,
        number: int,
        answer_key: bytes,
        send: SendDown,
        end: Callable[["MqttSession"], None],
    ) -> None:
        self.device = device
        self.certificate = certificate
        self.number = number
        self.answer_key = answer_key
        self._send = send
        self._end = end
        self._commands = 0
        self.turn = asyncio.Lock()

    def send(self, command: bytes) -> None:
        """Sends the command; a directive stands at the broker already, where the device reads it."""
        if kind(command) != "directive":
            self._send(self, command)

    def next_command(self) -> int:
        """The number of the next command."""
        self._commands += 1
        return self._commands

    def end(self) -> None:
        """Says farewell."""
        self._end(self)
