"""The API over a store, called as over the network but without one."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from fastapi import FastAPI

from agent.runtimes.onnx import OnnxRuntime
from controller.access.actions import create
from controller.access.operator import Role
from controller.enrolment.authority import create_authority
from controller.enrolment.terms import Terms
from controller.signing.actions import Founders, create_repository
from controller.signing.publication import Act, OnlineSigners
from controller.store.blob_folder import BlobFolder
from controller.store.store import Store
from controller.web.app import create_app
from controller.web.services import ControllerServices
from protos.keys import CryptoSigner
from tests.controller.rollout.world import HandClock


@dataclass
class Api:
    """One controller's API, and what it asked of the rest of the controller."""

    app: FastAPI
    store: Store
    clock: HandClock
    tokens: dict[Role, str]
    targets_signer: CryptoSigner
    http: httpx.AsyncClient
    asked: list[str] = field(default_factory=list)

    async def send(
        self,
        method: str,
        path: str,
        role: Role | None = Role.ADMIN,
        type_: str | None = None,
        **request: Any,
    ) -> httpx.Response:
        """The answer to an operator of that role; None shows no token."""
        headers = {} if role is None else {"Authorization": f"Bearer {self.tokens[role]}"}
        if type_ is not None:
            headers["Content-Type"] = type_
        where = path if path.startswith("/") else f"/api/v1/{path}"
        return await self.http.request(method, where, headers=headers, **request)

    async def get(self, path: str, role: Role | None = Role.VIEWER, **query: Any) -> Any:
        """The JSON of a success."""
        answer = await self.send("GET", path, role, params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def post(self, path: str, body: object = None, role: Role = Role.ADMIN) -> Any:
        """The JSON of a success."""
        answer = await self.send("POST", path, role, json=body)
        assert answer.is_success, answer.text
        return answer.json()

    async def refusal(
        self, method: str, path: str, role: Role | None = Role.ADMIN, **request: Any
    ) -> tuple[int, str, str]:
        """Status, code and detail; every refusal has the same shape."""
        answer = await self.send(method, path, role, **request)
        body = answer.json()
        assert set(body) == {"error"}, body
        assert set(body["error"]) == {"code", "detail", "remedy"}
        assert all(body["error"].values()), body
        return answer.status_code, body["error"]["code"], body["error"]["detail"]


_MADE: list[FastAPI] = []


def application(services: ControllerServices) -> FastAPI:
    """One application for all tests, as its routes take long to prepare; each has its own services."""
    if not _MADE:
        _MADE.append(create_app(services))
    _MADE[0].state.services = services
    return _MADE[0]


@asynccontextmanager
async def running(store: Store, folder: Path, **settings: Any) -> AsyncIterator[Api]:
    """The API with one operator of each role and a signed image repository; one at a time."""
    clock = HandClock()
    asked: list[str] = []
    root, targets, online, director = (CryptoSigner.generate_ed25519() for _ in range(4))
    online_signers = OnlineSigners(online, CryptoSigner.generate_ed25519())
    act = Act("init", clock.now())
    with store.begin() as tx:
        pinned = create_repository(
            tx,
            Founders([root], 1, [targets], 1, [director.public_key]),
            online_signers,
            act,
        )
        tokens = {role: create(tx, role.name.lower(), role, "init", clock.at)[1] for role in Role}
    authority = create_authority("devices", clock.now())
    services = ControllerServices(
        store=store,
        blobs=BlobFolder.open(folder / "blobs"),
        runtime=OnnxRuntime(),
        clock=clock,
        online=online_signers,
        terms=lambda: Terms(
            device_authority=authority,
            server_ca_pem=authority.certificate_pem,
            root_metadata=pinned,
            enrolment_address="localhost:8445",
            session_address="localhost:8444",
        ),
        wake_rollouts=lambda: asked.append("wake"),
        announce=lambda: asked.append("announce"),
        disconnect=lambda device: asked.append(f"disconnect {device}"),
        generator=lambda: np.random.default_rng(7),
        **settings,
    )
    app = application(services)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://controller") as http:
        yield Api(app, store, clock, tokens, targets, http, asked)
