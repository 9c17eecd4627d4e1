"""A model's whole way through the API: registered, signed, rolled out, recalled."""

import dataclasses
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.monitor.observer import Observer
from agent.monitor.reference import read_reference
from agent.monitor.window import OpenWindow
from agent.monitor.wire import window_message
from controller.access.operator import Role
from controller.fleet.device import SlotState
from controller.rollout.loop import RolloutLoop
from controller.rollout.policy import AT_ONCE
from controller.signing.keyring import PublicKeyFile, encode
from controller.store.sql.sql_store import SqlStore
from controller.store.store import Store
from controller.telemetry.record import StoredEvent, StoredWindow
from protos.documents import Directive, sha256
from protos.envelope import peek
from protos.keys import CryptoSigner
from protos.manifest import Role as FileRole
from protos.manifest import read_manifest
from protos.tuf import Metadata, Targets
from simulations.memory_store import MemoryStore
from tests.agent.onnx_models import linear_model
from tests.controller.rollout.world import Post, device
from tests.controller.web.api import Api, running


@pytest.fixture(params=["memory", "sqlite"])
async def api(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Api]:
    store: Store = (
        MemoryStore()
        if request.param == "memory"
        else SqlStore.open(f"sqlite:///{tmp_path / 'muster.db'}")
    )
    async with running(store, tmp_path) as made:
        yield made
    store.close()


def reference(rows: int = 1200) -> bytes:
    file = io.BytesIO()
    np.savez(file, x=np.random.default_rng(3).normal(size=(rows, 4)).astype(np.float32))
    return file.getvalue()


async def register(api: Api, **options: Any) -> dict[str, Any]:
    answer = await api.send(
        "POST",
        "models/digits/versions",
        Role.OPERATOR,
        files={
            "model": ("digits.onnx", linear_model()),
            "reference": ("train.npz", reference()),
            "text": ("card.toml", b'description = "Tells digits apart."'),
        },
        data={"options": json.dumps(options)},
    )
    assert answer.status_code == 201, answer.text
    body: dict[str, Any] = answer.json()
    return body


def payload(metadata: str) -> bytes:
    signed: bytes = Metadata[Targets].from_bytes(metadata.encode()).signed_bytes
    return signed


async def delegate(api: Api, approvers: list[CryptoSigner], threshold: int) -> Any:
    files = [
        json.loads(encode(PublicKeyFile(f"approver {number}", signer.public_key, "")))
        for number, signer in enumerate(approvers)
    ]
    proposed = await api.post(
        "models/digits/delegation", {"approvers": files, "threshold": threshold}
    )
    signature = api.targets_signer.sign(payload(proposed["metadata"]))
    body = {**proposed, "keyid": signature.keyid, "sig": signature.signature}
    signed = await api.post("targets/signatures", body)
    answer = await api.send("PUT", "targets", json=signed)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def sign(api: Api, approver: CryptoSigner, version: int = 1) -> Any:
    place = f"models/digits/versions/{version}"
    pending = await api.get(f"{place}/pending")
    signature = approver.sign(payload(pending["metadata"]))
    return await api.post(
        f"{place}/signatures",
        {"keyid": signature.keyid, "sig": signature.signature},
        Role.APPROVER,
    )


async def test_a_version_goes_from_registration_to_every_device_and_is_recalled(api: Api) -> None:
    approvers = [CryptoSigner.generate_ed25519() for _ in range(2)]
    await registered_and_shown(api)
    await published_by_two(api, approvers)
    await rolled_out(api)
    await watched(api)
    await recalled(api, approvers)
    chain = await api.get("audit/verify")
    assert chain["holds"]
    assert chain["broken_at"] == 0
    records = await api.get("audit", limit=1000)
    assert chain["records"] == len(records)
    assert chain["last_digest"] == records[-1]["digest"]
    assert {"version.register", "version.sign", "rollout.start", "rollout.abort"} <= {
        one["action"] for one in records
    }


async def registered_and_shown(api: Api) -> None:
    made = await register(api, semantics={"x": "numeric"}, training_run="run-7")
    version = made["version"]
    assert (version["model"], version["version"], version["state"]) == ("digits", 1, "validated")
    assert version["manifest"]["lineage"]["training_run"] == "run-7"
    assert version["manifest"]["lineage"]["registered_by"] == "operator"
    assert version["waits_for"] == ""  # nobody may approve it yet
    manifest = await api.send("GET", "models/digits/versions/1/manifest", Role.VIEWER)
    assert sha256(manifest.content) == version["manifest_sha256"]
    assert read_manifest(manifest.content).reference == "digits/1"
    for role, file in version["manifest"]["files"].items():
        path = f"models/digits/versions/1/files/{role}"
        answer = await api.send("GET", path, Role.VIEWER)
        assert sha256(answer.content) == file["sha256"]
        assert answer.headers["content-length"] == str(file["length"])
        assert answer.headers["content-type"] == "application/octet-stream"
    for role, status in (("train_step", 404), ("secret", 422)):
        path = f"models/digits/versions/1/files/{role}"
        assert (await api.refusal("GET", path, Role.VIEWER))[0] == status

    card = await api.get("models/digits/versions/1/card")
    assert card["bomFormat"] == "CycloneDX"
    assert "Tells digits apart." in json.dumps(card)
    again = await api.refusal(
        "POST",
        "models/digits/versions",
        files={"model": ("digits.onnx", linear_model()), "reference": ("r.npz", reference())},
        data={"options": '{"semantics": {"x": "numeric"}}'},
    )
    assert again[:2] == (409, "conflict")


async def published_by_two(api: Api, approvers: list[CryptoSigner]) -> None:
    early = await api.refusal("POST", "models/digits/versions/1/propose")
    assert early[:2] == (409, "conflict")
    assert await delegate(api, approvers, 2) == {"models": ["digits"]}
    # It waits at once: it had passed its gates before anybody could approve it.
    waiting = await api.get("pending")
    assert [(one["version"], one["change"], one["threshold"]) for one in waiting] == [(1, "add", 2)]
    stranger = CryptoSigner.generate_ed25519()
    signature = stranger.sign(payload(waiting[0]["metadata"]))
    body = {"keyid": signature.keyid, "sig": signature.signature}
    refused = await api.refusal("POST", "models/digits/versions/1/signatures", json=body)
    assert refused[:2] == (403, "bad-signature")
    api.asked.clear()
    first = await sign(api, approvers[0])
    assert (len(first["signed_by"]), first["threshold"], first["published"]) == (1, 2, False)
    assert api.asked == []
    assert (await sign(api, approvers[1]))["published"]
    assert api.asked == ["announce", "wake"]
    shown = await api.get("models/digits")
    assert shown["versions"][0]["state"] == "published"
    assert sorted(shown["approvers"].values()) == ["approver 0", "approver 1"]
    put = await api.send("PUT", "models/digits/aliases/champion", json={"version": 1})
    assert put.json()["aliases"] == {"champion": 1}
    assert (await api.get("models/digits/versions/champion"))["version"] == 1
    timestamp = await api.get("metadata/timestamp.json")
    assert timestamp["signed"]["_type"] == "timestamp"
    assert (await api.refusal("GET", "metadata/9.root.json"))[:2] == (404, "not-found")


async def rolled_out(api: Api) -> None:
    with api.store.begin() as tx:
        for name, site in (("pi-01", "berlin"), ("pi-02", "berlin"), ("pi-03", "munich")):
            tx.devices.put(device(name, {"site": site}, {"arch": "aarch64"}))
    policy = AT_ONCE.model_dump(mode="json")
    wish = {"version": "digits@champion", "selector": "site=berlin", "policy": policy}
    reached = await api.get("rollouts/preview", version="digits/1", selector="site=berlin")
    assert reached["devices"] == ["pi-01", "pi-02"]
    made = await api.post("rollouts", wish, Role.OPERATOR)
    assert (made["id"], made["state"], api.asked[-1]) == ("digits-1-1", "running", "wake")
    director = CryptoSigner.generate_ed25519()
    post = Post()
    post.there |= {"pi-01", "pi-02"}
    await RolloutLoop(api.store, post, director, api.clock).turn()
    with api.store.begin() as tx:
        signed = tx.rollouts.directive("pi-01")
        assert signed is not None
        (wanted,) = peek(signed.envelope, Directive).assignments
        version = tx.registry.version("digits", 1)
        assert version is not None
        loaded = read_manifest(version.manifest).files[FileRole.MODEL].sha256
        reported = SlotState(
            "pi-01",
            "digits",
            "champion",
            1,
            running=True,
            state="committed",
            manifest_sha256=wanted.sha256,
            model_sha256=loaded,
            approvals=2,
            generation=signed.generation,
            counter=1,
            reported_at=api.clock.at,
        )
        tx.devices.replace_slots("pi-01", [reported])
    shown = await api.get("rollouts/digits-1-1")
    assert (shown["ok"], shown["waiting"]) == (1, 1)
    assert shown["because"][0] == ("digits/1 -> site=berlin: 1 of 2 run it, 1 not reported yet")
    one = await api.get("devices/pi-01")
    assert (one["generation"], one["slots"][0]["approvals"]) == (1, 2)
    assert one["wanted"][0]["rollout"] == "digits-1-1"
    done = await api.post("rollouts/digits-1-1/abort", {"how": "revert"}, Role.OPERATOR)
    assert (done["rollout"]["state"], done["withdrawn"], done["left"]) == (
        "rolled-back",
        ["pi-02"],
        ["pi-01"],
    )
    ended = await api.post("rollouts/digits-1-1/abort", {"how": "keep"}, Role.OPERATOR)
    assert ended["rollout"]["state"] == "aborted"
    twice = await api.refusal("POST", "rollouts/digits-1-1/abort", json={"how": "keep"})
    assert twice[:2] == (409, "conflict")


async def watched(api: Api) -> None:
    assert (await api.refusal("GET", "drift/digits"))[:2] == (404, "not-found")
    version = await api.get("models/digits/versions/1")
    digest = version["manifest"]["files"]["reference"]["sha256"]
    profile = read_reference(b"".join(api.app.state.services.blobs.read(digest)))
    rng = np.random.default_rng(5)
    weights = np.arange(12, dtype=np.float32).reshape(4, 3)
    stored = []
    for number, (name, shift) in enumerate((("pi-01", 0), ("pi-02", 0), ("pi-03", 3))):
        x = rng.normal(size=(600, 4)).astype(np.float32) + np.float32(shift)
        scores = x @ weights
        observer = Observer(profile)
        observer.observe({"x": x}, {"scores": scores, "label": scores.argmax(axis=1)})
        sha = version["manifest_sha256"]
        counted = OpenWindow(f"w{number}", "digits", 1, sha, 1000, observer.drain())
        message = window_message(counted, 2000)
        stored.append(
            StoredWindow(
                device=name,
                spool="s",
                sequence=1,
                model="digits",
                version=1,
                profile_sha256=digest,
                window_id=f"w{number}",
                started_ms=1000,
                ended_ms=2000,
                rows=600,
                verdict=message.verdict,
                payload=message.SerializeToString(),
            )
        )
    with api.store.begin() as tx:
        tx.telemetry.add_windows(stored)
    report = await api.get("drift/digits")
    assert (report["version"], report["windows"], report["verdict"]) == (1, 3, "ok")
    assert [one["device"] for one in report["devices"] if one["broken"]] == ["pi-03"]
    (broken,) = [one for one in report["devices"] if one["broken"]]
    assert (broken["verdict"], broken["rows"]) == ("drift", 600)
    assert broken["findings"][0]["kind"] == "drift"
    assert broken["findings"][0]["effect"] > 0.5
    assert report["sentences"][0] == "1 of 3 devices see data unlike the reference"


async def recalled(api: Api, approvers: list[CryptoSigner]) -> None:
    place = "models/digits/versions/1"
    pending = await api.post(f"{place}/recall", {"release_floor": 0}, Role.OPERATOR)
    assert pending["change"] == "recall"
    for approver in approvers:
        await sign(api, approver)
    assert (await api.get(place))["state"] == "recalled"
    refused = await api.refusal("POST", "rollouts", json={"version": "digits/1", "selector": "all"})
    assert refused == (
        409,
        "conflict",
        "digits/1 is recalled; only published versions are rolled out",
    )
    removed = await api.send("DELETE", "models/digits/aliases/champion")
    assert removed.json()["aliases"] == {}


@pytest.mark.parametrize(
    ("files", "options", "expected"),
    [
        ({}, "{}", (422, "invalid-input", "form: the part 'model' is missing")),
        ({"model": b"x"}, "{}", (422, "invalid-input", "form: the part 'reference' is missing")),
        ({"weights": b"x"}, "{}", (422, "invalid-input", "form: no part 'weights' is known")),
        ({"model": b"x", "reference": b"y"}, "{", (422, "invalid-input", "options: ")),
        ({"model": b"x", "reference": b"y"}, "[" * 9000, (422, "invalid-input", "options: ")),
        (
            {"model": b"x", "reference": b"y"},
            '{"stages": 1}',
            (422, "invalid-input", "options: Object contains unknown field `stages`"),
        ),
        ({"model": b"\x80\x04pickle", "reference": b"y"}, "{}", (422, "bad-model", "model.bin")),
        (
            {"model": linear_model(), "reference": b"y"},
            "{}",
            (422, "bad-reference", "reference.bin"),
        ),
    ],
)
async def test_a_registration_that_can_not_be_is_refused_and_leaves_nothing(
    api: Api, files: dict[str, bytes], options: str, expected: tuple[int, str, str]
) -> None:
    parts = {name: (f"{name}.bin", data) for name, data in files.items()}
    status, code, detail = await api.refusal(
        "POST",
        "models/digits/versions",
        files=parts or {"options": (None, "{}")},
        data={"options": options} if parts else None,
    )

    assert (status, code) == expected[:2], detail
    assert detail.startswith(expected[2]), detail
    assert await api.get("models") == []


async def test_a_form_that_is_none_is_refused(api: Api) -> None:
    for kind, body in (("application/json", b"{}"), ("multipart/form-data", b"x")):
        status, code, _ = await api.refusal(
            "POST", "models/digits/versions", content=body, type_=kind
        )
        assert (status, code) in {(422, "invalid-input"), (400, "malformed")}


async def test_devices_are_labelled_explained_and_revoked(api: Api) -> None:
    with api.store.begin() as tx:
        tx.devices.put(device("pi-01", {"site": "berlin"}, {"arch": "aarch64"}))
        tx.devices.put(dataclasses.replace(device("pi-02", {}, {}), connected=False))
    body = {"set": {"rack": "7"}, "remove": ["site"]}
    answer = await api.send("PUT", "devices/pi-01/labels", Role.OPERATOR, json=body)
    assert answer.json()["labels"] == {"rack": "7"}
    listed = await api.get("devices", selector="rack>=5")
    assert [(one["id"], one["presence"]) for one in listed] == [("pi-01", "online")]
    assert await api.get("devices/pi-02/matching", selector="rack>=5") == {
        "matches": False,
        "lines": ["no  rack>=5 (no rack)"],
        "status": "active",
    }
    told = {"devices": 2, "matching": 1, "lines": ["1  rack>=5 (7: 1, no rack: 1)"], "revoked": 0}
    assert await api.get("matching", selector="rack>=5") == told
    revoked = await api.post("devices/pi-01/revoke")
    assert revoked["status"] == "revoked"
    told = {"devices": 1, "matching": 0, "lines": ["0  rack>=5 (no rack: 1)"], "revoked": 1}
    assert await api.get("matching", selector="rack>=5") == told
    assert api.asked == ["wake", "disconnect pi-01", "wake"]


async def test_a_join_token_is_shown_once_and_its_secret_never_again(api: Api) -> None:
    made = await api.post("tokens", {"labels": {"site": "berlin"}}, Role.OPERATOR)
    short = await api.post("tokens", {"lifetime_seconds": 60}, Role.OPERATOR)
    api.clock.at += 61
    listed = await api.get("tokens", Role.OPERATOR)

    assert made["token"]["expires_at"] - made["token"]["created_at"] == 86_400
    assert {one["id"]: one["state"] for one in listed} == {
        made["token"]["id"]: "usable",
        short["token"]["id"]: "expired",
    }
    assert "secret" not in json.dumps(listed)
    assert made["text"] not in json.dumps(listed)


async def test_events_are_listed_newest_first(api: Api) -> None:
    with api.store.begin() as tx:
        tx.devices.put(device("pi-01", {}, {}))
        tx.telemetry.add_events(
            [
                StoredEvent("pi-01", "s", at, at, f"event.{at}", "info", "", 0, "", "", {"a": "b"})
                for at in (1, 2)
            ]
        )
    found = await api.get("events", device="pi-01")

    assert [one["name"] for one in found] == ["event.2", "event.1"]
    assert (await api.refusal("GET", "events?device=pi-99"))[:2] == (404, "not-found")


async def test_drift_of_what_nobody_told_of_is_not_found(api: Api) -> None:
    assert await api.refusal("GET", "drift/digits") == (404, "not-found", "no model 'digits'")
