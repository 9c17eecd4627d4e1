import logging
import re
from collections.abc import AsyncIterator

import pytest

from controller.access.operator import Role
from controller.registry.onnx_file import MODEL_BYTES
from controller.web.body_limit import DEFAULT_BYTES, limit_of
from tests.controller.web.api import Api


@pytest.mark.parametrize(
    ("method", "path", "body", "expected"),
    [
        ("GET", "devices/pi-99", None, (404, "not-found", "no device 'pi-99'")),
        ("GET", "nowhere", None, (404, "not-found", "Not Found")),
        ("DELETE", "devices", None, (405, "method-not-allowed", "Method Not Allowed")),
        ("GET", "audit?limit=0", None, (422, "invalid-input", "query.limit: ")),
        ("GET", "audit?after=x", None, (422, "invalid-input", "query.after: ")),
        ("GET", "models/digits/versions/x/pending", None, (422, "invalid-input", "path.version: ")),
        ("POST", "rollouts", {}, (422, "invalid-input", "body.version: Field required")),
        (
            "POST",
            "rollouts",
            {"version": "digits/1", "selector": "all", "stages": []},
            (422, "invalid-input", "body.stages: "),
        ),
        ("POST", "rollouts", [], (422, "invalid-input", "body: ")),
        (
            "POST",
            "rollouts",
            {"version": "digits", "selector": "all"},
            (422, "invalid-input", "version: 'digits' is not MODEL/VERSION"),
        ),
        (
            "POST",
            "rollouts/digits-1-1/abort",
            {"how": "maybe"},
            (422, "invalid-input", "body.how: "),
        ),
        ("POST", "tokens", {"lifetime_seconds": -1}, (422, "invalid-input", "body.lifetime_")),
        ("POST", "tokens", {"labels": {"A": "b"}}, (422, "invalid-input", "label 'A'")),
        ("GET", "devices?selector=site%3D", None, (422, "bad-selector", "selector, position 6")),
    ],
)
async def test_a_refusal_names_what_is_wrong(
    api: Api, method: str, path: str, body: object, expected: tuple[int, str, str]
) -> None:
    status, code, detail = await api.refusal(method, path, json=body)

    assert (status, code) == expected[:2]
    assert detail.startswith(expected[2]), detail


async def test_a_body_that_is_no_json_is_refused(api: Api) -> None:
    status, code, detail = await api.refusal(
        "POST", "rollouts", content=b"{", type_="application/json"
    )

    assert (status, code) == (422, "invalid-input")
    assert detail.startswith("body.1: JSON decode error")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "rollouts", rb'{"version": "\ud800", "selector": "all"}'),
        ("POST", "rollouts", rb'{"version": "digits/1", "selector": "\"\ud800\"=1"}'),
        ("POST", "operators", rb'{"name": "\ud800", "role": "viewer"}'),
        ("POST", "tokens", rb'{"labels": {"site": "\ud800"}}'),
        ("POST", "tokens", rb'{"\ud800": 1}'),
        ("PUT", "targets", rb'{"metadata": "\ud800"}'),
        ("POST", "models/digits/delegation", rb'{"threshold": 1, "approvers": [{"x": "\ud800"}]}'),
    ],
)
async def test_text_that_can_not_be_written_is_refused(
    api: Api, method: str, path: str, body: bytes
) -> None:
    status, code, _ = await api.refusal(method, path, content=body, type_="application/json")

    assert (status, code) in {(422, "invalid-input"), (404, "not-found"), (422, "bad-selector")}


async def test_a_body_that_says_that_it_is_too_large_is_not_read(api: Api) -> None:
    read = []

    async def body() -> AsyncIterator[bytes]:
        read.append(1)
        yield b"x"

    headers = {"Content-Length": str(DEFAULT_BYTES + 1)}
    answer = await api.http.post("/api/v1/rollouts", content=body(), headers=headers)

    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "too-large"
    assert read == []


@pytest.mark.parametrize("method_and_path", ["POST rollouts", "PUT targets", "DELETE devices/d"])
@pytest.mark.parametrize("token", ["", "Bearer muster_op_" + "a" * 43])
async def test_a_strangers_body_is_not_read(api: Api, method_and_path: str, token: str) -> None:
    read = []

    async def body() -> AsyncIterator[bytes]:
        read.append(1)
        yield b"x"

    method, path = method_and_path.split()
    headers = {"Authorization": token} if token else {}
    answer = await api.http.request(method, f"/api/v1/{path}", content=body(), headers=headers)

    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "not-authenticated")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert read == []


async def test_a_body_that_grows_too_large_is_cut(api: Api) -> None:
    read = []

    async def body() -> AsyncIterator[bytes]:
        for _ in range(100):
            read.append(1)
            yield b"x" * (DEFAULT_BYTES // 4)

    status, code, _ = await api.refusal("POST", "rollouts", content=body())

    assert (status, code) == (413, "too-large")
    assert len(read) == 5


def test_only_uploads_may_be_large() -> None:
    assert limit_of("/api/v1/models/digits/versions") > MODEL_BYTES
    assert limit_of("/api/v1/models/digits/versions/1/signatures") == DEFAULT_BYTES
    assert limit_of("/api/v1/devices") == DEFAULT_BYTES
    assert limit_of("/metrics") == DEFAULT_BYTES


async def test_what_nobody_foresaw_is_an_incident_without_a_traceback(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    api.app.state.services = None  # as a bug would
    answer = await api.send("GET", "whoami")
    error = answer.json()["error"]

    assert (answer.status_code, error["code"]) == (500, "incident")
    assert "Traceback" not in answer.text
    assert "Assertion" not in answer.text
    (incident,) = re.findall(r"incident ([0-9a-f]{12})", error["detail"])
    logged = [one for one in caplog.records if incident in one.getMessage()]
    assert [one.levelno for one in logged] == [logging.ERROR]
    assert logged[0].exc_info is not None


async def test_a_store_that_fails_is_told_as_such(api: Api) -> None:
    api.store.close()

    assert (await api.refusal("GET", "/readyz", None))[:2] == (500, "store")
    assert (await api.refusal("GET", "whoami", Role.VIEWER))[:2] == (500, "store")
    assert (await api.send("GET", "/healthz", None)).json() == {"status": "ok"}
