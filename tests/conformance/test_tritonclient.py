"""The protocol's own client, unmodified, against the agent's servers.

It runs in a process and an environment of its own: its messages bear the names of ours.
"""

import asyncio
import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from agent.serving.grpc_server import GrpcServer
from agent.serving.rest_server import RestServer
from agent.serving.workers import Workers
from tests.agent.hosting import Host

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv-conformance" / "bin" / "python"
CLIENT = Path(__file__).with_name("tritonclient_cases.py")
DEADLINE = 60.0
MISSING = (
    f"{PYTHON} is missing: `make test` makes the environment of the conformance tests, "
    "and so does `make .venv-conformance/.installed`"
)

BOTH = (
    "live_and_ready",
    "model_ready",
    "server_metadata",
    "model_metadata",
    "metadata_of_an_unknown_model",
    "infer_with_defaults",
    "infer_a_version",
    "infer_one_output",
    "infer_texts",
    "infer_an_unknown_model",
    "infer_a_wrong_shape",
    "infer_a_wrong_datatype",
    "two_models_at_once",
)
HTTP = (
    "infer_as_json",
    "infer_texts_as_json",
    "infer_json_in_and_binary_out",
    "infer_compressed",
    "repository_index",
)
CASES = (
    *(f"http: {case}" for case in (*BOTH, *HTTP)),
    *(f"grpc: {case}" for case in (*BOTH, "infer_compressed_by_grpc")),
)


def run_the_client(ports: list[int]) -> "subprocess.CompletedProcess[str]":
    no_proxy = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    return subprocess.run(
        [PYTHON, CLIENT, *map(str, ports)],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        env=no_proxy,
        check=False,
    )


async def ask_the_client() -> dict[str, str]:
    host, workers = Host(), Workers(threads=2)
    await host.run(host.linear())
    await host.run(host.identity("BYTES", np.array([["a"]], dtype=object), name="texts"))
    rest, grpc = RestServer(host.deployments, workers), GrpcServer(host.deployments, workers)
    ports = [await rest.start("127.0.0.1", 0), await grpc.start("127.0.0.1", 0)]
    try:
        done = await asyncio.to_thread(run_the_client, ports)
    finally:
        await rest.stop()
        await grpc.stop()
        workers.close()
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def found() -> dict[str, str]:
    assert PYTHON.exists(), MISSING
    return asyncio.run(ask_the_client())


@pytest.mark.parametrize("case", CASES)
def test_the_client_finds_what_the_protocol_promises(found: dict[str, str], case: str) -> None:
    assert found[case] == ""


def test_no_case_of_the_client_is_left_out(found: dict[str, str]) -> None:
    assert set(found) == set(CASES)
