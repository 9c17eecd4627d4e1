"""Both servers before real models, on free ports."""

from collections.abc import AsyncIterator

import httpx
import numpy as np
import pytest

from agent.serving.grpc_server import GrpcServer
from agent.serving.rest_server import RestServer
from agent.serving.workers import Workers
from tests.agent.hosting import Host
from tests.agent.serving.served import Served


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    """``linear/1``, ``constant/1`` and ``identity/1`` of texts; bodies of 64 KiB at most."""
    host, workers = Host(), Workers(threads=4)
    await host.run(host.linear())
    await host.run(host.constant(1))
    await host.run(host.identity("BYTES", np.array([["a"]], dtype=object)))
    rest = RestServer(host.deployments, workers, limit=64 * 1024)
    grpc = GrpcServer(host.deployments, workers, limit=64 * 1024)
    ports = await rest.start("127.0.0.1", 0), await grpc.start("127.0.0.1", 0)
    yield Served(host, rest, *ports)
    await rest.stop()
    await grpc.stop()
    workers.close()


@pytest.fixture
async def http(served: Served) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=served.url, trust_env=False, timeout=20) as client:
        yield client
