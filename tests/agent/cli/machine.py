"""A machine that is made a device: its command line, and the controller's door to join at."""

import asyncio
import contextlib
import io
import logging
import sys
import threading
import time
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from agent.cli import main
from controller.enrolment import actions as desk
from controller.enrolment.terms import Terms
from controller.store.certificate_files import open_certificates
from controller.transport.grpc.enrolment_server import EnrolmentServer
from simulations.memory_store import MemoryStore


@dataclass(frozen=True)
class Done:
    """What a command did."""

    status: int
    out: str
    err: str


@contextlib.contextmanager
def own_logging() -> Iterator[None]:
    """What is set up within, for a process of its own, ends with it: others look at what is logged."""
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    root.handlers[:] = [logging.NullHandler()]  # lest those are closed
    try:
        yield
    finally:
        root.setLevel(level)
        root.handlers[:] = handlers


class Agent:
    """The command `muster-agent` in this process, with streams that are no terminal."""

    def __init__(self, patch: pytest.MonkeyPatch, home: Path) -> None:
        self._patch = patch
        self.home = home

    def __call__(self, *words: str, stdin: bytes = b"", home: str | Path | None = None) -> Done:
        out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8") for _ in range(2))
        with self._patch.context() as patch:
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), "utf-8"))
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stderr", err)
            with pytest.raises(SystemExit) as ended, own_logging():
                main(["--home", str(home or self.home), *words])
        texts = []
        for stream in (out, err):
            stream.flush()
            texts.append(stream.buffer.getvalue().decode())
        assert isinstance(ended.value.code, int)
        assert "Traceback" not in texts[1]
        return Done(ended.value.code, *texts)

    def refused(self, *words: str, **more: Any) -> str:
        """What it says that it must refuse."""
        done = self(*words, **more)
        assert (done.status, done.out) == (1, ""), done
        assert done.err.startswith("error: "), done
        assert "  what to do: " in done.err, done
        assert len(done.err) < 3000
        return done.err


class Gate:
    """Where machines become devices: the controller's real server, on a thread of its own."""

    def __init__(self, folder: Path) -> None:
        now = datetime.now(UTC)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        certificates = open_certificates(folder, ("127.0.0.1",), now)
        self._store = MemoryStore()
        self._server = EnrolmentServer(self._join, self._join, certificates.server)
        port = self._do(self._server.start("127.0.0.1:0"))
        self._terms = Terms(
            device_authority=certificates.device_authority,
            server_ca_pem=certificates.server_authority.certificate_pem,
            root_metadata=b"root",
            enrolment_address=f"127.0.0.1:{port}",
            session_address=f"127.0.0.1:{port}",
        )

    def close(self) -> None:
        """Ends it."""
        self._do(self._server.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def token(self, lifetime: float = 3600.0) -> str:
        """For one machine."""
        with self._store.begin() as tx:
            return desk.create_token(tx, self._terms, "ada", time.time(), lifetime)[1]

    async def _join(self, request: Any) -> Any:
        with self._store.begin() as tx:
            return desk.join(tx, request, self._terms, time.time())

    def _do(self, act: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(act, self._loop).result(30)


def configure(agent: Agent, text: str | bytes) -> None:
    agent.home.mkdir(exist_ok=True)
    data = text.encode() if isinstance(text, str) else text
    (agent.home / "agent.toml").write_bytes(data)
