import io
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.clock import SystemClock
from agent.errors import Refused
from agent.identity import keys
from agent.install.record import Deployed
from agent.store.device_store import Identity
from agent.trust.actions import ImageTrust
from controller.config import ControllerConfig
from controller.enrolment import actions as enrolment
from controller.home import Founding, Home, found
from simulations.bench.image_side import ImageSide, assignment, manifest, model_name
from simulations.bench.invited import certificates_of, invite
from simulations.demo import digits
from simulations.memory_device_store import MemoryDeviceStore


async def test_a_device_verifies_what_the_image_side_serves_however_many_models_there_are() -> None:
    side = ImageSide(3)
    store = MemoryDeviceStore()
    store.identity.save(Identity("bench-1", b"", b"", "", "", side.root))
    trust = ImageTrust(store, SystemClock(), "1.0.0")
    model = model_name(2)

    async def read(sha256: str, length: int) -> bytes:
        data = manifest(model).encode()
        assert (sha256, length) == (manifest(model).digest, len(data))
        return data

    found = await trust.verify(assignment(model), side.fetch, read)

    assert (found.manifest, found.approvals) == (manifest(model), 2)
    assert trust.objection(Deployed(model, 1, found.manifest.digest, "", 1, 2)) is None


def test_a_new_timestamp_is_served_and_nothing_else_changes() -> None:
    side = ImageSide(1)
    before = {name: side.fetch(name) for name in ("timestamp.json", "2.targets.json")}

    side.new_timestamp()

    assert side.fetch("timestamp.json") != before["timestamp.json"]
    assert side.fetch("2.targets.json") == before["2.targets.json"]
    with pytest.raises(Refused, match="no metadata"):
        side.fetch("3.targets.json")


def test_whoever_was_invited_is_admitted_with_a_key_of_their_own(tmp_path: Path) -> None:
    home = Home(tmp_path / "controller")
    found(home, Founding(ControllerConfig(names=("localhost",))), datetime.now(UTC))

    members = invite(home, 3)

    assert len({one.key_pem for one in members}) == len({one.device for one in members}) == 3
    store = home.open_store()
    try:
        with store.begin() as tx:
            for one in members:
                certificate = keys.read_certificate(one.certificate_pem)
                assert enrolment.admit(tx, certificate.device, certificate.serial).id == one.device
    finally:
        store.close()
    assert certificates_of(home).server_authority.certificate_pem == home.ca.read_bytes()


def test_the_bare_process_infers_and_ends_when_nobody_needs_it_any_more(tmp_path: Path) -> None:
    model = tmp_path / "digits.onnx"
    model.write_bytes(digits.train(digits.load(), 1).onnx)

    done = subprocess.run(
        [sys.executable, "-m", "simulations.bench.bare_runtime", str(model), "colorsys"],
        input=b"",
        capture_output=True,
        check=True,
    )

    assert io.BytesIO(done.stdout).readlines() == [b"ready\n"]
