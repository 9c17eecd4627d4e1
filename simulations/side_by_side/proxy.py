"""A TCP port before another one, which counts what goes through."""

import contextlib
import socket
import threading
from typing import Final

PIECE: Final = 64 * 1024


class CountingProxy:
    """Open on ``port`` until ``close``; ``up`` and ``down`` are bytes to the other port and back."""

    def __init__(self, to: int) -> None:
        self._to = to
        self._lock = threading.Lock()
        self._pairs: list[threading.Thread] = []
        self._open: set[socket.socket] = set()
        self._closed = False
        self.up = self.down = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def close(self) -> None:
        """Ends all connections, and takes no more."""
        _end(self._listener)  # wakes whoever accepts; closing it would not
        self._accepting.join()
        self._listener.close()
        with self._lock:
            self._closed = True
            for one in self._open:
                _end(one)
        for pair in self._pairs:
            pair.join()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                pair = threading.Thread(target=self._join, args=(near,), daemon=True)
                self._pairs.append(pair)
                pair.start()

    def _join(self, near: socket.socket) -> None:
        """Returns when neither side says any more, or one of them has gone."""
        with (
            near,
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", self._to)) as far,
        ):
            self._note(near, far)
            back = threading.Thread(target=self._carry, args=(far, near), daemon=True)
            back.start()
            self._carry(near, far, up=True)
            back.join()
            self._forget(near, far)

    def _note(self, *pair: socket.socket) -> None:
        with self._lock:
            self._open.update(pair)
            if self._closed:
                for one in pair:
                    _end(one)

    def _forget(self, *pair: socket.socket) -> None:
        with self._lock:
            self._open.difference_update(pair)

    def _carry(self, source: socket.socket, target: socket.socket, *, up: bool = False) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(PIECE):
                target.sendall(piece)
                with self._lock:
                    self.up += len(piece) if up else 0
                    self.down += 0 if up else len(piece)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)


def _end(one: socket.socket) -> None:
    """Whoever waits at it goes on: nothing comes any more, and nothing goes."""
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
