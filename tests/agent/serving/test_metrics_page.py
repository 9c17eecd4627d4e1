"""The page is made once for all who ask at once."""

import asyncio
import threading

import pytest

from agent.serving.metrics_page import MetricsPage


async def test_all_who_ask_meanwhile_are_told_the_same_page() -> None:
    made, may_end = [], threading.Event()

    def make() -> bytes:
        made.append(1)
        may_end.wait()
        return b"page"

    page = MetricsPage(make)
    several = [asyncio.ensure_future(page.text()) for _ in range(20)]
    await asyncio.sleep(0)
    several[0].cancel()  # who goes away takes nobody else's
    may_end.set()

    assert await asyncio.gather(*several[1:]) == [b"page"] * 19
    assert await page.text() == b"page"
    assert len(made) == 1


async def test_one_that_could_not_be_made_says_why_to_all() -> None:
    def make() -> bytes:
        raise OSError("the disk")

    page = MetricsPage(make)

    for _ in range(2):
        with pytest.raises(OSError, match="the disk"):
            await page.text()
