"""Requests that never stop, and the account of every row."""

import threading
import time
from typing import Any, Final

import httpx
import numpy as np

from simulations.demo.stage import Device
from tests.controller.registry.building import rows_and_truth

X, TRUTH = rows_and_truth()


class Feeder:
    """Sends one device small requests from a thread of its own, and keeps count of the answers.

    Args:
        first_value: of every row, in place of the reference's.
        pause_seconds: between two requests.

    Attributes:
        answered: rows whose answer came.
        unanswered: rows whose answer did not come: they may have been counted or not.
        log: (monotonic seconds, ``answered``) after each answer.
    """

    ROWS: Final = 5

    def __init__(
        self,
        device: Device,
        model: str,
        *,
        first_value: float | None = None,
        pause_seconds: float = 0.02,
    ) -> None:
        self._x = X.copy()
        if first_value is not None:
            self._x[:, 0] = first_value
        self._pause_seconds = pause_seconds
        self.answered = self.unanswered = 0
        self.first_failure = ""
        self.versions: set[str] = set()
        self.log: list[tuple[float, int]] = [(0.0, 0)]
        self._url = f"http://127.0.0.1:{device.rest_port}/v2/models/{model}/infer"
        self._go, self._idle, self._ending = (threading.Event() for _ in range(3))
        self._http = httpx.Client(timeout=30, trust_env=False)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begins."""
        self._go.set()
        self._thread.start()

    def pause(self) -> None:
        """Returns when nothing is under way any more."""
        self._go.clear()
        assert self._idle.wait(60)

    def resume(self) -> None:
        """Goes on."""
        self._idle.clear()
        self._go.set()

    def stop(self) -> None:
        """Ends for good."""
        self._ending.set()
        self._go.set()
        self._thread.join(timeout=60)
        self._http.close()

    def answered_until(self, moment: float) -> int:
        """Rows that had been answered at a monotonic moment."""
        return max(rows for at, rows in self.log if at <= moment)

    def send(self, rows: int) -> None:
        """One request, from the caller's thread; the feeder must be paused."""
        assert self._idle.is_set()
        self._ask(self._x[np.arange(rows) % len(X)])

    def _run(self) -> None:
        pause = threading.Event()
        at = 0
        while not self._ending.is_set():
            if not self._go.is_set():
                self._idle.set()
                self._go.wait(0.05)
                continue
            self._ask(self._x[at : at + self.ROWS])
            at = (at + self.ROWS) % (len(X) - self.ROWS)
            pause.wait(self._pause_seconds)
        self._idle.set()

    def _ask(self, x: Any) -> None:
        body = {
            "inputs": [
                {
                    "name": "x",
                    "shape": list(x.shape),
                    "datatype": "FP32",
                    "data": x.ravel().tolist(),
                }
            ]
        }
        try:
            answer = self._http.post(self._url, json=body)
            answer.raise_for_status()
        except httpx.HTTPError as error:
            self.unanswered += len(x)
            self.first_failure = self.first_failure or f"{type(error).__name__}: {error}"
            return
        self.versions.add(str(answer.json()["model_version"]))
        self.answered += len(x)
        self.log.append((time.monotonic(), self.answered))
