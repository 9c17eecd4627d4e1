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
        self.up = self.down = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """No more connections are taken."""
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._to))
                for source, target, up in ((near, far, True), (far, near, False)):
                    threading.Thread(
                        target=self._carry, args=(source, target, up), daemon=True
                    ).start()

    def _carry(self, source: socket.socket, target: socket.socket, up: bool) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(PIECE):
                target.sendall(piece)
                with self._lock:
                    self.up += len(piece) if up else 0
                    self.down += 0 if up else len(piece)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)
