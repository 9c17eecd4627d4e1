"""What a coordinator process opens of its controller: the exchange of its run, and a lifeline to it.

The controller that started the process holds two pipes to it. A byte on its standard input is news: a
reply has come, or the run's state has changed. When that input ends, the controller is gone, and so is
the process. A byte on its standard output says that devices have to be told of their tasks.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from agent.clock import SystemClock
from controller.home import Home
from controller.store.blob_folder import BlobFolder
from controller.store.exchange import Place, StoreExchange
from controller.store.reply_folder import ReplyFolder

NEWS_BYTES: Final = 4096


class Lifeline:
    """The pipes to the controller that started this process."""

    def __init__(self, incoming: int = 0, outgoing: int = 1) -> None:
        self.news = threading.Event()
        self._incoming = incoming
        self._outgoing = outgoing

    def hold(self) -> None:
        """From here on the process ends with the controller.

        At once and wherever it is: whatever it has decided is durable, as it must be for a power cut.
        """
        threading.Thread(target=self._listen, name="lifeline", daemon=True).start()

    def told(self) -> None:
        """Devices have to be told."""
        with contextlib.suppress(OSError):  # the controller has gone: so will this process
            os.write(self._outgoing, b".")

    def _listen(self) -> None:
        try:
            while os.read(self._incoming, NEWS_BYTES):
                self.news.set()
        except OSError:
            pass
        os.kill(os.getpid(), signal.SIGKILL)


@contextmanager
def open_exchange(
    home: Path, run: str, lifeline: Lifeline | None = None
) -> Iterator[StoreExchange]:
    """The run's exchange over the database and the folders of the controller in ``home``.

    Raises:
        StoreError: something of it can't be opened.
    """
    line = lifeline or Lifeline()
    found = Home(home)
    store = found.open_store()
    try:
        replies = ReplyFolder.open(found.replies)
        blobs = BlobFolder(found.blobs)  # not opened anew: what the controller is storing stays
        yield StoreExchange(Place(store, blobs, replies, SystemClock(), line.news, line.told), run)
    finally:
        store.close()
