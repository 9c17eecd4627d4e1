"""The threads that requests are computed on: so many at once, so many waiting, and no more."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, TypeVar

from agent.errors import Overloaded

T = TypeVar("T")

WAITING: Final = 256


class Workers:
    """A bounded thread pool, shared by all servers.

    Args:
        threads: how many requests are computed at once.
        waiting: how many more may wait.
    """

    def __init__(self, threads: int, waiting: int = WAITING) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="inference")
        self._most = threads + waiting
        self._under_way = 0
        self._lock = threading.Lock()
        self._watching: list[Callable[[], None]] = []

    async def run(self, job: Callable[[], T]) -> T:
        """What ``job`` returns, computed on a thread.

        Raises:
            Overloaded: too many wait already.
        """
        with self._lock:
            if self._under_way == self._most:
                raise Overloaded("too many requests wait")
            self._under_way += 1
        for on_request in self._watching:
            on_request()
        future = self._pool.submit(job)
        # Of the pool's future: a request that is given up still has its place until it is over.
        future.add_done_callback(self._leave)
        return await asyncio.wrap_future(future)

    def under_way(self) -> int:
        """How many requests are being computed or wait for it."""
        return self._under_way

    def watch(self, on_request: Callable[[], None]) -> Callable[[], None]:
        """Calls ``on_request`` for each request that comes in, until what is returned is called.

        It is called on the event loop's thread, and holds the request up.
        """
        self._watching.append(on_request)
        return lambda: self._watching.remove(on_request)

    def close(self) -> None:
        """Returns when what is being computed is done; what waits is dropped."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _leave(self, _: "Future[T]") -> None:
        with self._lock:
            self._under_way -= 1
