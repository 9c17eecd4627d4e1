"""Requests to the devices, as an application beside each agent would send them."""

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import httpx
import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.float32]

BATCH: Final = 16
PAUSE_SECONDS: Final = 0.08
"""A camera sends so many photographs at a time, and then rests."""


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


class Camera:
    """Sends one device batches of images, over and over, from a thread of its own.

    Args:
        show: what the camera does to an image before it is sent; may be exchanged at any time.
    """

    def __init__(
        self, port: int, model: str, images: Images, truth: NDArray[np.int64], seed: int
    ) -> None:
        self.answers = Answers()
        self.show: Callable[[Images], Images] = lambda images: images
        self._url = f"http://127.0.0.1:{port}/v2/models/{model}/infer"
        self._images, self._truth, self._seed = images, truth, seed
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def stop(self) -> None:
        """Ends after the request that is under way."""
        self._stopping.set()
        self._thread.join(timeout=30)

    def _run(self) -> None:
        rng = np.random.default_rng(self._seed)
        with httpx.Client(timeout=10, trust_env=False) as http:
            while not self._stopping.is_set():
                rows = rng.integers(0, len(self._images), size=BATCH)
                self._ask(
                    http, np.ascontiguousarray(self.show(self._images[rows])), self._truth[rows]
                )
                self._stopping.wait(PAUSE_SECONDS)

    def _ask(self, http: httpx.Client, images: Images, truth: NDArray[np.int64]) -> None:
        answers = self.answers
        answers.requests += 1
        started = time.perf_counter()
        try:
            version, labels = _infer(http, self._url, images)
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

    def __init__(self, model: str, images: Images, truth: NDArray[np.int64]) -> None:
        self.cameras: dict[str, Camera] = {}
        self._model, self._images, self._truth = model, images, truth

    def start(self, device: str, port: int) -> None:
        """A camera begins to photograph for the device."""
        camera = Camera(port, self._model, self._images, self._truth, seed=len(self.cameras))
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


def _infer(http: httpx.Client, url: str, images: Images) -> tuple[str, NDArray[np.int64]]:
    """(version that answered, labels), with the protocol's binary tensors."""
    body = images.tobytes()
    head = json.dumps(
        {
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
        url, content=head + body, headers={"Inference-Header-Content-Length": str(len(head))}
    )
    response.raise_for_status()
    answer = response.json()
    return answer["model_version"], np.asarray(answer["outputs"][0]["data"], dtype=np.int64)
