"""Renews the device's certificate for ever, well before it expires."""

import asyncio
import logging
import random
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Final, NoReturn

from agent.clock import Clock
from agent.errors import AgentError, NotEnrolled
from agent.identity import actions, keys
from agent.identity.expiry import Standing, renew_at, standing
from agent.store.device_store import DeviceStore, Identity
from agent.transport.backoff import Backoff
from agent.transport.link import EnrolmentDialer

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 3600.0
"""A device may sleep and its clock may jump: look at the time again at least this often."""

PAUSE_SECONDS: Final = 60.0
"""Least time between two renewals: with a clock that is far ahead, every certificate looks due."""

RETRY: Final = Backoff(base=30.0, cap=3600.0)


async def keep_renewed(
    key_path: Path,
    store: DeviceStore,
    clock: Clock,
    rng: random.Random,
    dial: EnrolmentDialer,
    on_renewed: Callable[[Identity], None] = lambda _: None,
) -> NoReturn:
    """Never returns; ``on_renewed`` is told every new identity.

    Raises:
        NotEnrolled: there is no identity to keep.
    """
    jitter = rng.random()
    attempt = 0
    while True:
        try:
            identity = await asyncio.to_thread(store.identity.load)
            wait = timedelta() if identity is None else _until_due(identity, clock, jitter)
        except AgentError as error:  # the certificate is good for weeks, and a disk may come back
            log.warning("identity.unreadable code=%s: %s", error.code, error.detail)
            await clock.sleep(RETRY.delay(attempt, rng))
            attempt += 1
            continue
        if identity is None:
            raise NotEnrolled("there is no identity whose certificate could be renewed")
        if wait > timedelta():
            await clock.sleep(min(wait.total_seconds(), LOOK_SECONDS))
            continue
        try:
            renewed = await actions.renew(key_path, store, clock.now(), dial)
        except AgentError as error:
            log.warning(
                "identity.renewal-failed device=%s code=%s attempt=%d certificate=%s: %s %s",
                identity.device,
                error.code,
                attempt,
                _standing(identity, clock, jitter),
                error.detail,
                error.remedy,
            )
        except Exception:
            log.exception("identity.renewal-broke device=%s", identity.device)
        else:
            attempt, jitter = 0, rng.random()
            log.info("identity.renewed device=%s", renewed.device)
            on_renewed(renewed)
            await clock.sleep(PAUSE_SECONDS)
            continue
        await clock.sleep(RETRY.delay(attempt, rng))
        attempt += 1


def _until_due(identity: Identity, clock: Clock, jitter: float) -> timedelta:
    certificate = keys.read_certificate(identity.certificate_pem)
    return renew_at(certificate.not_before, certificate.not_after, jitter) - clock.now()


def _standing(identity: Identity, clock: Clock, jitter: float) -> Standing:
    certificate = keys.read_certificate(identity.certificate_pem)
    return standing(certificate.not_before, certificate.not_after, clock.now(), jitter)
