import asyncio
import gc
import logging
import threading
import weakref
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from agent.errors import (
    HashMismatch,
    InferenceFailed,
    InvalidRequest,
    ModelLoadFailed,
    NotReady,
    UnknownModel,
)
from agent.inference.actions import Deployments, Hosted, infer
from agent.install.ports import Deployments as DeploymentsPort
from agent.install.ports import TrafficSnapshot
from agent.runtimes.onnx import OnnxRuntime
from agent.runtimes.runtime import LoadedModel, Runtime, Tensors
from protos.manifest import Manifest, Needs, Role
from tests.agent.hosting import Host, Seen, deployed

X = np.ones((2, 4), dtype=np.float32)
DEADLINE = 10.0


@pytest.fixture
def host() -> Host:
    return Host()


def version_of(host: Host, version: int | None = None) -> float:
    answer = infer(host.deployments, "constant", version, {"x": X})
    assert (answer.outputs["y"] == answer.version).all()
    return answer.version


def test_it_is_what_an_install_needs(host: Host) -> None:
    port: DeploymentsPort = host.deployments

    assert port.traffic("constant", "champion") == TrafficSnapshot()


async def test_a_request_is_answered_by_the_champion(host: Host) -> None:
    await host.run(host.linear())

    answer = infer(host.deployments, "linear", None, {"x": X})

    assert answer.version == 1
    assert list(answer.outputs) == ["scores", "label"]
    assert answer.outputs["scores"].tolist() == [[18, 22, 26]] * 2


async def test_only_the_outputs_asked_for_come_back_in_that_order(host: Host) -> None:
    await host.run(host.linear())

    assert list(infer(host.deployments, "linear", 1, {"x": X}, ["label"]).outputs) == ["label"]
    assert list(infer(host.deployments, "linear", 1, {"x": X}, ["label", "scores"]).outputs) == [
        "label",
        "scores",
    ]


async def test_what_is_prepared_answers_nothing_until_it_is_activated(host: Host) -> None:
    await host.run(host.constant(1))
    await host.prepare(host.constant(2))

    assert version_of(host) == 1
    with pytest.raises(NotReady, match="version 2"):
        version_of(host, 2)
    host.deployments.activate("constant", "champion")
    assert version_of(host) == 2


async def test_a_revert_brings_the_version_before_back(host: Host) -> None:
    await host.run(host.constant(1))
    await host.run(host.constant(2))

    host.deployments.revert("constant", "champion")

    assert version_of(host) == 1
    with pytest.raises(UnknownModel):
        version_of(host, 2)


async def test_reverting_before_the_switch_frees_only_what_was_prepared(host: Host) -> None:
    await host.run(host.constant(1))
    host.deployments.release_previous("constant", "champion")
    await host.prepare(host.constant(2))

    host.deployments.revert("constant", "champion")

    assert version_of(host) == 1
    assert [one.version for one in host.deployments.hosted()] == [1]


async def test_activating_without_a_candidate_is_an_error_and_changes_nothing(host: Host) -> None:
    await host.run(host.constant(1))

    with pytest.raises(ModelLoadFailed, match="no version"):
        host.deployments.activate("constant", "champion")
    assert version_of(host) == 1


async def test_a_challenger_answers_only_those_who_name_it(host: Host) -> None:
    await host.run(host.constant(1))
    await host.run(host.constant(2), slot="challenger")

    assert version_of(host) == 1
    assert version_of(host, 2) == 2


async def test_a_removed_model_is_unknown_and_takes_its_candidate_along(host: Host) -> None:
    await host.run(host.constant(1))
    await host.prepare(host.constant(2))

    host.deployments.remove("constant", "champion")
    host.deployments.remove("constant", "champion")

    assert host.deployments.hosted() == []
    with pytest.raises(UnknownModel):
        version_of(host)


async def test_a_request_under_way_finishes_on_the_version_that_took_it(host: Host) -> None:
    await host.run(host.constant(1))
    held = host.deployments.enter("constant", None)
    await host.run(host.constant(2))
    host.deployments.release_previous("constant", "champion")

    assert held.loaded.run({"x": X}, ["y"])[0][0, 0] == 1
    assert version_of(host) == 2


async def test_a_freed_version_is_closed_when_its_last_request_has_left() -> None:
    class Held:
        """A real model that waits in ``run`` until it may go on."""

        def __init__(self, inner: LoadedModel) -> None:
            self.inner, self.sha256 = inner, inner.sha256
            self.entered, self.go_on, self.closed = (threading.Event() for _ in range(3))
            self.go_on.set()

        def run(self, inputs: Tensors, outputs: Sequence[str]) -> list[NDArray[Any]]:
            self.entered.set()
            assert self.go_on.wait(DEADLINE)
            return self.inner.run(inputs, outputs)

        def close(self) -> None:
            self.closed.set()
            self.inner.close()

    class Holding:
        name, version = "onnxruntime", "1"

        def __init__(self) -> None:
            self.models: list[Held] = []

        def load(self, model: bytes, manifest: Manifest) -> Held:
            self.models.append(Held(OnnxRuntime().load(model, manifest)))
            return self.models[-1]

    host, runtime = Host(), Holding()
    real: Runtime = runtime
    host.deployments = Deployments({"onnxruntime": real}, host.blobs.__getitem__, bytes, Seen)
    await host.run(host.constant(1))
    first = runtime.models[0]
    first.entered.clear()
    first.go_on.clear()

    under_way = asyncio.create_task(asyncio.to_thread(version_of, host))
    assert await asyncio.to_thread(first.entered.wait, DEADLINE)
    await host.run(host.constant(2))
    host.deployments.release_previous("constant", "champion")
    assert not first.closed.is_set()
    assert version_of(host) == 2
    first.go_on.set()

    assert await under_way == 1
    assert first.closed.is_set()


async def test_a_released_version_leaves_the_memory(host: Host) -> None:
    await host.run(host.constant(1))
    gone = weakref.ref(host.deployments.enter("constant", None))
    await host.run(host.constant(2))
    host.deployments.release_previous("constant", "champion")
    gc.collect()

    assert gone() is None


async def test_a_replaced_candidate_is_freed(host: Host) -> None:
    await host.prepare(host.constant(1))
    await host.prepare(host.constant(2))
    host.deployments.activate("constant", "champion")

    assert version_of(host) == 2
    assert [one.version for one in host.deployments.hosted()] == [2]


async def test_a_cancelled_preparation_leaves_no_candidate(host: Host) -> None:
    manifest = host.constant(1)
    task = asyncio.create_task(host.prepare(manifest))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert host.deployments.hosted() == []


async def test_a_runtime_that_is_not_here_is_named(host: Host) -> None:
    manifest = msgspec.structs.replace(host.linear(), needs=Needs(runtime="tflite"))

    with pytest.raises(ModelLoadFailed, match="'tflite'; here is onnxruntime"):
        await host.prepare(manifest)


async def test_another_file_than_was_deployed_is_refused(host: Host) -> None:
    manifest = host.linear()
    other = msgspec.structs.replace(manifest, version=2)
    wrong = deployed(host.constant(1))

    with pytest.raises(HashMismatch, match="linear/2"):
        await host.deployments.prepare(wrong, other)


async def test_golden_inputs_that_the_model_fails_on_are_found_before_the_switch(
    host: Host,
) -> None:
    manifest = host.linear()
    host.blobs[manifest.files[Role.GOLDEN].sha256] = b"broken"

    with pytest.raises(ModelLoadFailed, match="golden"):
        await host.prepare(manifest)
    assert host.deployments.hosted() == []


async def test_the_observer_sees_all_outputs_whatever_was_asked_for(host: Host) -> None:
    await host.run(host.linear())

    infer(host.deployments, "linear", None, {"x": X}, ["label"])

    (watched,) = host.deployments.watched()
    ((inputs, outputs),) = watched.observer.requests
    assert inputs["x"] is X
    assert set(outputs) == {"scores", "label"}


async def test_a_broken_observer_fails_no_request_and_is_logged_once(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    await host.run(host.constant(1))
    host.deployments.watched()[0].observer.broken = True

    with caplog.at_level(logging.ERROR):
        assert [version_of(host) for _ in range(3)] == [1, 1, 1]

    assert [record.message for record in caplog.records] == [
        "inference.unwatched version=constant/1"
    ]
    assert host.deployments.traffic("constant", "champion").failed == 0


async def test_what_is_watched_has_all_that_a_monitor_needs(host: Host) -> None:
    manifest = host.constant(1)
    await host.run(manifest)

    (watched,) = host.deployments.watched()

    assert (watched.model, watched.version) == ("constant", 1)
    assert watched.manifest_sha256 == manifest.digest
    assert watched.reference == b""


async def test_warm_and_challenging_versions_are_watched_too(host: Host) -> None:
    await host.run(host.constant(1))
    await host.run(host.constant(2))
    await host.run(host.constant(3), slot="challenger")

    assert {one.version for one in host.deployments.watched()} == {1, 2, 3}


async def test_traffic_is_counted_by_how_requests_ended(host: Host) -> None:
    await host.run(host.constant(1))
    version_of(host)
    with pytest.raises(InvalidRequest, match="'x'"):
        infer(host.deployments, "constant", None, {"x": X[:, :3]})
    with pytest.raises(InvalidRequest, match="'z'"):
        infer(host.deployments, "constant", None, {"x": X}, ["z"])

    counts = host.deployments.watched()[0].drain_traffic()

    assert (counts.requests, counts.failed, counts.refused) == (1, 0, 2)
    assert 0 < counts.latency_sum_seconds < DEADLINE


async def test_what_the_runtime_fails_on_is_counted_as_failed(host: Host) -> None:
    await host.run(host.constant(1))
    host.deployments.watched()[0].loaded.close()

    with pytest.raises(InferenceFailed):
        version_of(host)

    traffic = host.deployments.traffic("constant", "champion")
    assert (traffic.requests, traffic.failed, traffic.p99_seconds) == (1, 1, 0.0)


async def test_every_request_is_drained_once(host: Host) -> None:
    await host.run(host.constant(1))
    (watched,) = host.deployments.watched()
    version_of(host)
    first = watched.drain_traffic()
    version_of(host)
    version_of(host)

    assert [first.requests, watched.drain_traffic().requests, watched.drain_traffic().requests] == [
        1,
        2,
        0,
    ]


async def test_traffic_since_activation_starts_over_with_a_revert(host: Host) -> None:
    await host.run(host.constant(1))
    version_of(host)
    await host.run(host.constant(2))
    assert host.deployments.traffic("constant", "champion").requests == 0
    version_of(host)
    assert host.deployments.traffic("constant", "champion").requests == 1

    host.deployments.revert("constant", "champion")

    assert host.deployments.traffic("constant", "champion").requests == 0


async def test_the_warming_up_is_no_request(host: Host) -> None:
    await host.run(host.constant(1))

    assert host.deployments.traffic("constant", "champion").requests == 0
    assert host.deployments.watched()[0].observer.requests == []


async def test_what_is_hosted_tells_what_answers_from_what_comes(host: Host) -> None:
    await host.run(host.constant(1))
    await host.prepare(host.linear())

    assert host.deployments.hosted() == [
        Hosted("constant", 1, "champion", ready=True),
        Hosted("linear", 1, "", ready=False),
    ]
    assert not host.deployments.ready()
    host.deployments.activate("linear", "champion")
    assert host.deployments.ready()


async def test_closing_ends_everything(host: Host) -> None:
    await host.run(host.constant(1))
    await host.prepare(host.linear())

    host.deployments.close()

    assert host.deployments.hosted() == []


async def test_no_request_is_lost_or_mixed_while_versions_switch(host: Host) -> None:
    await host.run(host.constant(1))
    manifests = [host.constant(1), host.constant(2)]
    stop = threading.Event()

    def ask() -> int:
        asked = 0
        while not stop.is_set():
            version_of(host)
            asked += 1
        return asked

    asking = [asyncio.create_task(asyncio.to_thread(ask)) for _ in range(4)]
    for turn in range(40):
        await host.run(manifests[(turn + 1) % 2])
        host.deployments.release_previous("constant", "champion")
    stop.set()

    assert min(await asyncio.gather(*asking)) > 0
