"""What a link brings to the agent until it fails: every link over every transport has one."""

import asyncio
from collections.abc import AsyncIterator

from agent.errors import AgentError
from protos.mailbox import Waiting, queued


class Inbox:
    """The commands that nobody has taken yet, of each kind the newest, and why no more will come."""

    def __init__(self) -> None:
        self._waiting: Waiting = ()
        self._news = asyncio.Event()
        self._failure: AgentError | None = None

    @property
    def failure(self) -> AgentError | None:
        """Why the link has ended; None while it is up."""
        return self._failure

    def put(self, command: bytes) -> None:
        """Puts a command where ``commands`` finds it."""
        self._waiting = queued(self._waiting, command)
        self._news.set()

    def fail(self, reason: AgentError) -> AgentError:
        """The link has ended; returns the first reason, which is the one that stays."""
        self._failure = self._failure or reason
        self._news.set()
        return self._failure

    def check(self) -> None:
        """Nothing, while the link is up.

        Raises:
            AgentError: the reason for which it ended, without the trace of an earlier time.
        """
        if self._failure is not None:
            raise self._failure.with_traceback(None)

    async def commands(self) -> AsyncIterator[bytes]:
        """Commands as they come; those that are there are given out before ``check`` raises."""
        while True:
            while self._waiting:
                command, *rest = self._waiting
                self._waiting = tuple(rest)
                yield command
            self.check()
            self._news.clear()
            await self._news.wait()
