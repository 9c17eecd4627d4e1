"""Asks one way after the other, until there is an answer."""

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from agent.errors import AgentError, TransportError, WrongController
from agent.transport.link import Way

Reply = TypeVar("Reply")

log = logging.getLogger(__name__)


async def first_answer(
    ways: Sequence[Way], ask: Callable[[Way], Awaitable[Reply]]
) -> tuple[Reply, Way]:
    """The first answer, and the way that it came.

    A no is an answer. Who is not the controller that was pinned gives none: what is in between one
    way need not be in between another.

    Raises:
        Refused: the controller said no.
        WrongController: nobody answered but, at least once, somebody else.
        TransportError: nobody answered.
    """
    failures: list[tuple[Way, AgentError]] = []
    for way in ways:
        try:
            return await ask(way), way
        except (TransportError, WrongController) as error:
            log.info("enrolment.unanswered over=%s at=%s: %s", way.transport, way.address, error)
            failures.append((way, error))
    told = "; ".join(f"over {way.transport}, at {way.address}: {error}" for way, error in failures)
    if any(isinstance(error, WrongController) for _, error in failures):
        raise WrongController(told)
    raise TransportError(told)
