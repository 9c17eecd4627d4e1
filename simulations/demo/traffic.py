"""Requests to the devices, as an application beside each agent would send them."""

import contextlib
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import httpx
import numpy as np
from numpy.typing import NDArray

from simulations.demo.digits import Images, Labels, Photographs

BATCH: Final = 16
PAUSE_SECONDS: Final = 0.08
"""A camera sends so many photographs at a time, and then rests."""
FEEDBACK_EVERY: Final = 8
"""Of every so many requests somebody says what the photographs show."""


@dataclass
class Answers:
    """What one device has answered so far."""

    requests: int = 0
    images: int = 0
    correct: int = 0
    failed: int = 0
    first_failure: str = ""
    slowest_seconds: float = 0.0
    by_version: dict[str, int] = field(default_factory=dict)
    told: int = 0


class Camera:
    """Sends one device batches of images, over and over, from a thread of its own.

    Args:
        show: what the camera does to an image before it is sent; may be exchanged at any time.
    """

    def __init__(self, port: int, model: str, photographs: Photographs, seed: int) -> None:
        self.answers = Answers()
        self.show: Callable[[Images], Images] = lambda images: images
        self._url = f"http://127.0.0.1:{port}/v2/models/{model}"
        self._photographs, self._seed = photographs, seed
        self._stopping = threading.Event()
        self._awake = threading.Event()
        self._awake.set()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def rest(self) -> None:
        """Asks nothing until ``go_on``: whoever ends an agent has its applications wait."""
        self._awake.clear()

    def go_on(self) -> None:
        """Asks again."""
        self._awake.set()

    def ready(self) -> bool | None:
        """True once the device answers for the model."""
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"{self._url}/ready", trust_env=False).is_success or None
        return None

    def stop(self) -> None:
        """Ends after the request that is under way."""
        self._stopping.set()
        self._awake.set()
        self._thread.join(timeout=30)

    def _run(self) -> None:
        rng = np.random.default_rng(self._seed)
        with httpx.Client(timeout=10, trust_env=False) as http:
            while not self._stopping.is_set():
                self._awake.wait()
                rows = rng.integers(0, len(self._photographs.images), size=BATCH)
                shown = np.ascontiguousarray(self.show(self._photographs.images[rows]))
                truth = self._photographs.labels[rows]
                self._ask(http, shown, truth)
                if self.answers.requests % FEEDBACK_EVERY == 0:
                    self._tell(http, truth)
                self._stopping.wait(PAUSE_SECONDS)

    def _tell(self, http: httpx.Client, truth: Labels) -> None:
        """Somebody has looked at the photographs, and says what they show."""
        told = {"id": str(self.answers.requests), "truth": truth.tolist()}
        with contextlib.suppress(httpx.HTTPError):  # the agent may be gone just now
            self.answers.told += http.post(f"{self._url}/feedback", json=told).is_success

    def _ask(self, http: httpx.Client, images: Images, truth: Labels) -> None:
        answers = self.answers
        answers.requests += 1
        started = time.perf_counter()
        try:
            version, labels = _infer(http, self._url, images, str(answers.requests))
        except (httpx.HTTPError, ValueError, KeyError) as error:
            answers.failed += 1
            answers.first_failure = answers.first_failure or f"{type(error).__name__}: {error}"
            return
        answers.slowest_seconds = max(answers.slowest_seconds, time.perf_counter() - started)
        answers.images += len(images)
        answers.correct += int(np.sum(labels == truth))
        answers.by_version[version] = answers.by_version.get(version, 0) + 1


class Traffic:
    """One camera per device; what it answers is counted over all of them."""

    def __init__(self, model: str, photographs: Photographs) -> None:
        self.cameras: dict[str, Camera] = {}
        self._model, self._photographs = model, photographs

    def start(self, device: str, port: int) -> None:
        """A camera begins to photograph for the device."""
        camera = Camera(port, self._model, self._photographs, seed=len(self.cameras))
        self.cameras[device] = camera
        camera.start()

    def stop(self) -> None:
        """Every camera ends after the request that is under way."""
        for camera in self.cameras.values():
            camera.stop()

    @property
    def asked(self) -> int:
        """Requests so far."""
        return sum(camera.answers.requests for camera in self.cameras.values())

    @property
    def failed(self) -> int:
        """Requests that were not answered, or not with labels."""
        return sum(camera.answers.failed for camera in self.cameras.values())

    @property
    def images(self) -> int:
        """Photographs classified so far."""
        return sum(camera.answers.images for camera in self.cameras.values())

    def accuracy(self) -> dict[str, float]:
        """By device, the share of right labels so far."""
        return {
            name: camera.answers.correct / max(1, camera.answers.images)
            for name, camera in self.cameras.items()
        }

    def each_was_asked(self, count: int) -> bool | None:
        """True once every device was asked so often."""
        return all(one.answers.requests >= count for one in self.cameras.values()) or None

    def answered_with(self, version: str) -> set[str]:
        """The devices that have answered with that version."""
        return {name for name, one in self.cameras.items() if version in one.answers.by_version}

    def each_answered_with(self, version: str) -> bool | None:
        """True once every device has."""
        return self.answered_with(version) == self.cameras.keys() or None


def exam(port: int, model: str, photographs: Photographs) -> float:
    """The share of right labels of the model at that port.

    Raises:
        httpx.HTTPError: it does not answer.
    """
    with httpx.Client(timeout=30, trust_env=False) as http:
        url = f"http://127.0.0.1:{port}/v2/models/{model}"
        _, labels = _infer(http, url, np.ascontiguousarray(photographs.images), "exam")
    return float(np.mean(labels == photographs.labels))


def _infer(
    http: httpx.Client, url: str, images: Images, request: str
) -> tuple[str, NDArray[np.int64]]:
    """(version that answered, labels), with the protocol's binary tensors."""
    body = images.tobytes()
    head = json.dumps(
        {
            "id": request,
            "inputs": [
                {
                    "name": "image",
                    "shape": list(images.shape),
                    "datatype": "FP32",
                    "parameters": {"binary_data_size": len(body)},
                }
            ],
            "outputs": [{"name": "label"}],
        }
    ).encode()
    response = http.post(
        f"{url}/infer",
        content=head + body,
        headers={"Inference-Header-Content-Length": str(len(head))},
    )
    response.raise_for_status()
    answer = response.json()
    return answer["model_version"], np.asarray(answer["outputs"][0]["data"], dtype=np.int64)
