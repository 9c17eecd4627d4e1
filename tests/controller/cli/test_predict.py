"""`muster predict`, against a real agent's server."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.serving.rest_server import RestServer
from agent.serving.workers import Workers
from tests.agent.hosting import Host
from tests.controller.cli.office import Done, Muster
from tests.controller.registry.building import npz

Predict = Callable[..., Coroutine[Any, Any, Done]]
X = np.arange(12, dtype=np.float32).reshape(3, 4)


@pytest.fixture
async def url() -> AsyncIterator[str]:
    host, workers = Host(), Workers(threads=2)
    await host.run(host.linear())
    await host.run(host.identity("FP32", np.ones((1, 1), dtype=np.float32)))
    rest = RestServer(host.deployments, workers)
    yield f"http://127.0.0.1:{await rest.start('127.0.0.1', 0)}"
    await rest.stop()
    workers.close()


@pytest.fixture
def predict(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, url: str) -> Predict:
    """The command, beside the server: it needs no controller and no profile."""
    muster = Muster(monkeypatch, tmp_path / "none.toml")

    async def run(*words: str | Path, status: int = 0, url: str = url) -> Done:
        done = await asyncio.to_thread(muster, "predict", *words, "--url", url)
        assert done.status == status, done
        assert "Traceback" not in done.err
        return done

    return run


@asynccontextmanager
async def stranger(says: bytes) -> AsyncIterator[str]:
    """Where somebody answers everything with this."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(says)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def saved(folder: Path, data: bytes, name: str = "rows.npz") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


async def test_rows_of_a_file_are_answered(predict: Predict, tmp_path: Path) -> None:
    file = saved(tmp_path, npz(anything=X))
    header, *rows, last = (await predict("linear", "--input", file)).lines
    assert header.split() == ["row", "scores", "label"]
    assert [row.split()[0] for row in rows] == ["0", "1", "2"]
    assert last == "answered by linear/1"
    one = await predict("linear/1", "--input", file, "--rows", "1", "-o", "json")
    assert one.json["model_name"] == "linear"
    assert {tensor["name"]: tensor["shape"] for tensor in one.json["outputs"]} == {
        "scores": [1, 3],
        "label": [1],
    }
    many = await predict("linear", "--input", file, "--rows", "9" * 20)
    assert len(many.lines) == 5


async def test_a_request_of_the_protocol_is_sent_as_it_is(predict: Predict, tmp_path: Path) -> None:
    tensor = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}
    file = saved(tmp_path, json.dumps({"inputs": [tensor]}).encode(), "request.json")

    assert (await predict("linear", "--input", file)).lines[-1] == "answered by linear/1"


async def test_answers_that_are_no_numbers_are_shown(predict: Predict, tmp_path: Path) -> None:
    strange = np.array([[np.nan, np.inf], [-np.inf, 1.5]], dtype=np.float32)

    done = await predict("identity", "--input", saved(tmp_path, npz(x=strange)))

    assert done.lines[1].split()[:2] == ["0", "nan"]
    assert done.lines[2].split()[-1] == "1.5"


@pytest.mark.parametrize(
    ("name", "data", "why"),
    [
        ("rows.npz", b"", "rows.npz: not an .npz file"),
        ("rows.npz", bytes(range(256)), "rows.npz: not an .npz file"),
        ("rows.npz", npz(x=np.array([{}, None], dtype=object)), "a pickle: never accepted"),
        ("rows.npz", npz(a=X, b=X), "no array 'x'; there are: a, b"),
        ("rows.npz", npz(x=np.array(3.0)), "array 'x' is a single value"),
        ("rows.npz", npz(x=np.array([["a"] * 4])), "the model takes FP32"),
        ("rows.npz", npz(x=X.astype(np.complex64)), "of dtype '<c8'"),
        ("rows.npz", npz(x=X[:, :2]), "[http-400]"),
        ("rows.json", b"[1]", "rows.json: not a JSON object"),
        ("rows.json", b"\xff\x00", "rows.json: not JSON"),
        ("rows.json", b"[" * 100_000, "rows.json: not JSON"),
        ("rows.json", b'{"inputs": 3}', "[http-400]"),
    ],
)
async def test_a_file_that_does_not_fit_is_refused(
    predict: Predict, tmp_path: Path, name: str, data: bytes, why: str
) -> None:
    done = await predict("linear", "--input", saved(tmp_path, data, name), status=1)

    assert why in done.err
    assert "what to do: " in done.err


async def test_a_path_that_names_no_file_is_refused(predict: Predict, tmp_path: Path) -> None:
    for path, why in (
        (tmp_path, "Is a directory"),
        (tmp_path / "none.npz", "No such file or directory"),
        (Path("/dev/zero"), "a device or a pipe, no file"),
        (tmp_path / ("x" * 100_000), "File name too long"),
    ):
        done = await predict("linear", "--input", path, status=1)
        assert why in done.err
        assert len(done.err) < 3000


async def test_what_does_not_run_there_is_told_of(predict: Predict, tmp_path: Path) -> None:
    file = saved(tmp_path, npz(x=X))
    for name, why in (("none", "unknown model 'none'"), ("linear/7", "unknown version 7")):
        done = await predict(name, "--input", file, status=1)
        assert why in done.err
        assert "`muster-agent status`" in done.err
    for name in ("", "a b", "linear/0", "linear@best", "ü", "x" * 100_000):
        await predict(name, "--input", file, status=2)
    for rows in ("0", "-1", "nan", "1e400"):
        await predict("linear", "--input", file, "--rows", rows, status=2)


async def test_a_single_number_is_told_with_six_digits(predict: Predict, tmp_path: Path) -> None:
    file = saved(tmp_path, npz(x=np.array([[251.1688], [0.00001234567]], dtype=np.float32)))

    _, *rows, _ = (await predict("identity", "--input", file)).lines

    assert [row.split()[1] for row in rows] == ["251.169", "1.23457e-05"]


async def test_where_no_agent_answers_it_says_so(predict: Predict, tmp_path: Path) -> None:
    file = saved(tmp_path, npz(x=X))
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{held.getsockname()[1]}"
        done = await predict("linear", "--input", file, status=1, url=closed)
    assert f"{closed}: [Errno 111] Connection refused [unreachable]" in done.err
    async with stranger(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}") as other:
        done = await predict("linear", "--input", file, status=1, url=other)
        assert "does not answer as an agent does [unreachable]" in done.err
    async with stranger(b"SSH-2.0-server\r\n") as other:
        done = await predict("linear", "--input", file, status=1, url=other)
        assert "[unreachable]" in done.err
    for url in ("http://", "http://[::1", "ftp://h", "http://h:x", "http://h/path", "x" * 100_000):
        await predict("linear", "--input", file, status=2, url=url)


async def test_what_was_true_is_told_after_the_answer(predict: Predict, tmp_path: Path) -> None:
    file = saved(tmp_path, npz(anything=X, y=np.array([0, 1, 2])))

    refused = (await predict("linear", "--input", file, "--truth", "y", status=1)).err
    assert "[http-409]" in refused
    assert "collect = true" in refused


@pytest.mark.parametrize(
    ("truth", "said"),
    [
        ("z", "no array 'z'; there are: anything, words, y"),
        ("words", "array 'words' of object: a number for each row is wanted"),
    ],
)
async def test_a_truth_that_is_none_is_not_sent(
    predict: Predict, tmp_path: Path, truth: str, said: str
) -> None:
    file = saved(tmp_path, npz(anything=X, words=np.array(["a"]), y=np.array([0, 1, 2])))

    assert said in (await predict("linear", "--input", file, "--truth", truth, status=1)).err
