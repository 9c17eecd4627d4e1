"""A controller that a command line can talk to: a real folder, database and API over real TLS."""

import asyncio
import dataclasses
import io
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agent.clock import SystemClock
from agent.runtimes.onnx import OnnxRuntime
from controller.access.actions import create
from controller.access.operator import Role
from controller.cli.profile import NewProfile, Profile
from controller.config import ControllerConfig
from controller.fleet.device import SlotState
from controller.home import Founding, Home, found, terms
from controller.registry.version import Model
from controller.rollout.loop import RolloutLoop
from controller.store.blob_folder import BlobFolder
from controller.store.certificate_files import open_certificates
from controller.store.key_files import KeyFiles
from controller.telemetry.record import StoredEvent
from controller.web.server import WebServer
from controller.web.services import ControllerServices
from simulations.cli import main
from tests.controller.registry.building import classifier, npz, rows_and_truth
from tests.controller.rollout.world import Post, device, registered
from tests.controller.web.api import application

MODEL = "digits"


@dataclass(frozen=True)
class Done:
    """What a command did."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output, which must be JSON and nothing else."""
        return json.loads(self.out)

    @property
    def lines(self) -> list[str]:
        """Of standard output."""
        return self.out.splitlines()


class Muster:
    """The command `muster` in this process, with streams of its own that are no terminal."""

    def __init__(self, patch: pytest.MonkeyPatch, profile: Path) -> None:
        self._patch = patch
        self.profile = profile

    def __call__(
        self,
        *words: str | Path,
        stdin: bytes = b"",
        profile: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Done:
        """What the command does with these words."""
        out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8") for _ in range(2))
        with self._patch.context() as patch:
            patch.setattr(sys, "argv", ["muster", *map(str, words)])
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), "utf-8"))
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stderr", err)
            patch.setenv("MUSTER_PROFILE", str(profile or self.profile))
            for name, value in (env or {}).items():
                patch.setenv(name, value)
            try:
                main()
                status: object = 0
            except SystemExit as ended:
                status = ended.code
        assert isinstance(status, int)
        texts = []
        for stream in (out, err):
            stream.flush()
            texts.append(stream.buffer.getvalue().decode())
        return Done(status, *texts)

    def ok(self, *words: str | Path, **more: Any) -> Done:
        """A command that must succeed."""
        done = self(*words, **more)
        assert done.status == 0, done
        return done

    def refused(self, *words: str | Path, status: int = 1, **more: Any) -> str:
        """What a command says that must not succeed: why, on standard error and nowhere else."""
        done = self(*words, **more)
        assert done.status == status, done
        assert "Traceback" not in done.err
        if status == 1:
            assert done.err.startswith("error: "), done
            assert "what to do: " in done.err, done
            return done.err
        return " ".join(done.err.replace("│", " ").split())  # it is wrapped in a box


class Office:
    """The controller's folder, who may use it, and what its devices are made to say."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = Home(folder / "controller")
        self.keys = folder / "keys"
        config = ControllerConfig(names=("127.0.0.1", "localhost"))
        self._clock = SystemClock()
        found(self.home, Founding(config, 1, 1), self._clock.now())
        certificates = open_certificates(self.home.certificates, config.names, self._clock.now())
        self.store = self.home.open_store()
        conditions = terms(self.home, config, certificates)
        self.asked: list[str] = []
        self.services = ControllerServices(
            store=self.store,
            blobs=BlobFolder.open(self.home.blobs),
            runtime=OnnxRuntime(),
            clock=self._clock,
            online=self.home.online_signers(),
            terms=lambda: conditions,
            wake_rollouts=lambda: self.asked.append("wake"),
            announce=lambda: self.asked.append("announce"),
            disconnect=lambda name: self.asked.append(f"disconnect {name}"),
        )
        self._web = WebServer(application(self.services), self.home.certificates / "server.pem")
        self.url = f"https://127.0.0.1:{asyncio.run(self._web.start('127.0.0.1', 0))}"
        self.tokens = {role: self._operator(role) for role in Role}
        self.profiles = {role: self.profile(role.name.lower(), role) for role in Role}

    def close(self) -> None:
        """Ends it."""
        asyncio.run(self._web.stop())
        self.store.close()

    def profile(self, name: str, role: Role = Role.ADMIN, **other: str) -> Path:
        """A profile of an operator of that role; ``other`` says what is otherwise in it."""
        path = self.folder / f"{name}.toml"
        fields = {
            "url": self.url,
            "token": self.tokens[role],
            "ca": str(self.home.ca),
            "root": str(self.home.root),
        }
        with NewProfile(path) as made:
            made.write(Profile(**{**fields, **other}))
        return path

    @property
    def targets_key(self) -> Path:
        """The offline key that says who approves a model."""
        return self.home.offline / "targets.pem"

    def key(self, name: str) -> Path:
        """An approver's private key; its public half stands beside it."""
        path = self.keys / f"{name}.pem"
        if not path.exists():
            KeyFiles(self.keys).create(name)
        return path

    def file(self, name: str, data: bytes) -> Path:
        """A file of that name with the data."""
        path = self.folder / name
        path.write_bytes(data)
        return path

    def model_file(self, scale: float = 1.0) -> Path:
        """A classifier that is another file for every scale."""
        return self.file(f"model-{scale}.onnx", classifier(scale).SerializeToString())

    def reference(self) -> Path:
        """Data for every such classifier."""
        x, truth = rows_and_truth()
        return self.file("reference.npz", npz(x=x, y=truth))

    def enrolled(self, *names: str, **labels: str) -> None:
        """Makes devices of those names, which are online."""
        facts = {"arch": "x86_64", "runtimes.onnxruntime": "1.20.0", "agent_version": "9.0"}
        with self.store.begin() as tx:
            for name in names:
                one = device(name, labels, {**facts, "memory_bytes": str(2**33)})
                seen = self._clock.now().timestamp()
                tx.devices.put(dataclasses.replace(one, last_seen=seen))

    def listed(self, *versions: int) -> None:
        """Published versions of `digits`, without the work of registering and signing them."""
        with self.store.begin() as tx:
            tx.registry.put_model(Model(MODEL, self._clock.now().timestamp(), max(versions)))
            for version in versions:
                tx.registry.put_version(registered(MODEL, version))

    def reported(self, name: str, version: int, state: str = "committed", code: str = "") -> None:
        """A device has said that it runs the version, or how far it is with it."""
        with self.store.begin() as tx:
            stored = tx.registry.version(MODEL, version)
            assert stored is not None
            told = tx.rollouts.directive(name)
            slot = SlotState(
                device=name,
                model=MODEL,
                slot="champion",
                version=version,
                running=not code,
                state=state,
                manifest_sha256=stored.manifest_sha256,
                model_sha256="0" * 64,
                approvals=1,
                generation=told.generation if told else 0,
                counter=1,
                reported_at=self._clock.now().timestamp(),
                code=code,
                detail="it says so" if code else "",
            )
            tx.devices.replace_slots(name, [slot])

    def told(self, name: str, detail: str) -> None:
        """A device has told of a failure with this detail."""
        at = int(1000 * self._clock.now().timestamp())
        event = StoredEvent(name, "s", 1, at, "install.failed", "error", MODEL, 1, "c", detail)
        with self.store.begin() as tx:
            tx.telemetry.add_events([event])

    def turn(self) -> Sequence[str]:
        """One turn of the loop that carries rollouts out."""
        director = KeyFiles(self.home.keys).signer("director")
        post = Post()
        with self.store.read() as tx:
            post.there |= {one.id for one in tx.devices.all() if one.connected}
        made = asyncio.run(RolloutLoop(self.store, post, director, self._clock).turn())
        return made.because

    def _operator(self, role: Role) -> str:
        with self.store.begin() as tx:
            name = f"the-{role.name.lower()}"
            return create(tx, name, role, "init", self._clock.now().timestamp())[1]
