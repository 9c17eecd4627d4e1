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
        self._places = threading.Semaphore(threads + waiting)

    async def run(self, job: Callable[[], T]) -> T:
        """What ``job`` returns, computed on a thread.

        Raises:
            Overloaded: too many wait already.
        """
        if not self._places.acquire(blocking=False):
            raise Overloaded("too many requests wait")
        future = self._pool.submit(job)
        # Of the pool's future: a request that is given up still has its place until it is over.
        future.add_done_callback(self._leave)
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Returns when what is being computed is done; what waits is dropped."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _leave(self, _: "Future[T]") -> None:
        self._places.release()
