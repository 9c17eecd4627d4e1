"""What a device remembers over its links through a broker, while its process lives.

The broker keeps for it what was sent while it slept; with this, that can be read when it is back, and
is taken once.
"""

from collections import OrderedDict
from typing import Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from protos.keys import Key
from protos.mqtt.replay_window import ReplayWindow

MOST: Final = 32
"""Sessions, and controllers, that are remembered: the newest."""


class Memory:
    """Made once for all links of a device; its key is what controllers seal with."""

    def __init__(self) -> None:
        self.key = X25519PrivateKey.generate()
        self._heard: OrderedDict[int, ReplayWindow] = OrderedDict()
        self._met: OrderedDict[str, Key] = OrderedDict()

    def begin(self, session: int) -> None:
        """A link has begun: what is sent in its session is for us, also when it has ended."""
        self._heard[session] = ReplayWindow()
        while len(self._heard) > MOST:
            self._heard.popitem(last=False)

    def take(self, session: int, number: int) -> bool:
        """Whether what has that number in that session is for us, and new; from now on it is not."""
        window = self._heard.get(session)
        return window is not None and window.take(number)

    def meet(self, controller: str, key: Key) -> None:
        """The controller has proven to be ours: it may go, and what it has sent may come later."""
        self._met[controller] = key
        self._met.move_to_end(controller)
        while len(self._met) > MOST:
            self._met.popitem(last=False)

    def key_of(self, controller: str) -> Key | None:
        """What a controller that was there signs with; None if it is not remembered."""
        return self._met.get(controller)
