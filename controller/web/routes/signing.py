"""The image metadata: what people sign on their own machines, downloaded and brought back.

The controller publishes nothing that people did not sign; here it only hands out and takes in.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import msgspec
from fastapi import APIRouter, Response
from pydantic import ConfigDict, Field

from controller.errors import BadSignature, InvalidInput, NotFound
from controller.registry.version import Pending
from controller.signing import actions, keyring, repository
from controller.signing.metadata import parse
from controller.signing.proposals import propose_all
from controller.signing.publication import require_root
from controller.signing.roles import TARGETS
from controller.store.store import Transaction
from controller.web.access import Admin, Approver, Operating, Services, Viewer
from protos.keys import Key
from protos.tuf import Targets

router = APIRouter(tags=["signing"])

Hex = Annotated[str, Field(pattern=r"^([0-9a-fA-F]{2}){1,4096}$")]


@dataclass(frozen=True, slots=True)
class PendingAnswer:
    """Metadata that waits for approvers' signatures. ``metadata`` is its exact text."""

    model: str
    version: int
    change: Annotated[str, Field(description="add, recall or renew")]
    metadata: str
    proposed_at: float
    proposed_by: str
    signed_by: Annotated[tuple[str, ...], Field(description="key ids")]
    threshold: int

    @classmethod
    def of(cls, pending: Pending, threshold: int) -> "PendingAnswer":
        """As the store has it."""
        return cls(
            pending.model,
            pending.version,
            pending.change.value,
            pending.metadata.decode(),
            pending.proposed_at,
            pending.proposed_by,
            pending.signed_by,
            threshold,
        )


@dataclass(frozen=True, slots=True)
class SignatureUpload:
    """A signature over the pending metadata, made where the key is."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")
    keyid: str
    sig: Annotated[Hex, Field(description="lowercase hex")]


@dataclass(frozen=True, slots=True)
class AcceptedAnswer:
    """What a signature led to."""

    signed_by: tuple[str, ...]
    threshold: int
    published: bool


@dataclass(frozen=True, slots=True)
class Recall:
    """``release_floor`` forbids every version with a lower release counter, too; 0 leaves it."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")
    release_floor: Annotated[int, Field(ge=0)] = 0


@dataclass(frozen=True, slots=True)
class Approvers:
    """Who decides on a model's versions: public key files (`muster key create`), as they are."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")
    approvers: Annotated[tuple[dict[str, Any], ...], Field(min_length=1, max_length=64)]
    threshold: Annotated[int, Field(ge=1)]


@dataclass(frozen=True, slots=True)
class MetadataText:
    """Metadata as its exact text."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")
    metadata: str


@dataclass(frozen=True, slots=True)
class SignedText:
    """Pending targets, and one administrator's signature over them."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")
    metadata: str
    keyid: str
    sig: Hex


@dataclass(frozen=True, slots=True)
class Delegated:
    """The models that are new, or that others decide on now."""

    models: tuple[str, ...]


@router.get("/metadata/{name}", response_class=Response)
def download_metadata(services: Services, _: Viewer, name: str) -> Response:
    """Image metadata by its file name: `3.root.json`, `targets.json`, `timestamp.json`."""
    with services.store.read() as tx:
        data = tx.metadata.get(name)
    if data is None:
        raise NotFound(f"no metadata {name!r}")
    return Response(data, media_type="application/json")


@router.get("/models/{model}/versions/{version}/pending")
def show_pending(services: Services, _: Viewer, model: str, version: int) -> PendingAnswer:
    """What waits for the approvers' signatures."""
    with services.store.read() as tx:
        pending = tx.registry.pending(model, version)
        if pending is None:
            raise NotFound(f"nothing of {model}/{version} waits for a signature")
        return _answer(tx, pending)


@router.get("/pending")
def list_pending(
    services: Services, _: Viewer, model: str | None = None
) -> Sequence[PendingAnswer]:
    """Everything that waits for signatures, by model and version."""
    with services.store.read() as tx:
        return [_answer(tx, one) for one in tx.registry.all_pending(model)]


@router.post("/models/{model}/versions/{version}/propose", status_code=201)
def propose_version(services: Services, by: Operating, model: str, version: int) -> PendingAnswer:
    """Makes the metadata that would publish a validated version. Asking twice is as once."""
    with services.store.begin() as tx:
        return _answer(tx, actions.propose_version(tx, model, version, services.act(by.name)))


@router.post("/models/{model}/versions/{version}/recall", status_code=201)
def propose_recall(
    services: Services, by: Operating, model: str, version: int, recall: Recall
) -> PendingAnswer:
    """Makes the metadata that would recall a published version for ever."""
    with services.store.begin() as tx:
        act = services.act(by.name)
        return _answer(tx, actions.propose_recall(tx, model, version, act, recall.release_floor))


@router.post("/models/{model}/renewal", status_code=201)
def propose_renewal(services: Services, by: Operating, model: str) -> PendingAnswer:
    """Makes metadata that changes nothing but the expiry of the model's role."""
    with services.store.begin() as tx:
        return _answer(tx, actions.propose_renewal(tx, model, services.act(by.name)))


@router.post("/models/{model}/versions/{version}/signatures")
def upload_signature(
    services: Services, by: Approver, model: str, version: int, signature: SignatureUpload
) -> AcceptedAnswer:
    """Adds an approver's signature; publishes when it is enough."""
    with services.store.begin() as tx:
        done = actions.accept_signature(
            tx,
            model,
            version,
            signature.keyid,
            bytes.fromhex(signature.sig),
            services.online,
            services.act(by.name),
        )
    if done.published:
        _published(services)
    return AcceptedAnswer(done.signed_by, done.threshold, done.published)


@router.post("/models/{model}/delegation", status_code=201)
def propose_delegation(services: Services, by: Admin, model: str, wish: Approvers) -> MetadataText:
    """Unsigned targets in which the approvers decide on the model; nothing is stored yet.

    The administrators sign them where their keys are, and `PUT /targets` brings them back.
    """
    keys = [_key(one, number) for number, one in enumerate(wish.approvers)]
    with services.store.begin() as tx:
        metadata = actions.propose_delegation(
            tx, model, keys, wish.threshold, services.act(by.name)
        )
    return MetadataText(metadata.decode())


@router.post("/targets/signatures")
def sign_targets(services: Services, _: Admin, signed: SignedText) -> MetadataText:
    """The targets with one verified signature more; nothing is stored."""
    with services.store.begin() as tx:
        root = require_root(tx)
    if signed.keyid not in root.roles[TARGETS].keyids:
        raise BadSignature(f"the key {signed.keyid[:12]} is none that may sign targets")
    key = root.get_key(signed.keyid)
    metadata = actions.add_signature(signed.metadata.encode(), key, bytes.fromhex(signed.sig))
    return MetadataText(metadata.decode())


@router.put("/targets")
def publish_targets(services: Services, by: Admin, signed: MetadataText) -> Delegated:
    """Publishes targets that enough administrators have signed."""
    with services.store.begin() as tx:
        act = services.act(by.name)
        changed = actions.accept_targets(tx, signed.metadata.encode(), services.online, act)
        propose_all(tx, changed, act)
    _published(services)
    return Delegated(tuple(one.name for one in changed))


@router.put("/root")
def publish_root(services: Services, by: Admin, signed: MetadataText) -> Mapping[str, int]:
    """Publishes the root that follows the present one; answers with its version."""
    with services.store.begin() as tx:
        root = actions.accept_root(
            tx, signed.metadata.encode(), services.online, services.act(by.name)
        )
    _published(services)
    return {"version": root.version}


def _published(services: Services) -> None:
    services.announce()
    services.wake_rollouts()


def _answer(tx: Transaction, pending: Pending) -> PendingAnswer:
    data = tx.metadata.current(TARGETS) or b""
    role = repository.delegation(parse(data, Targets, "the stored targets").signed, pending.model)
    return PendingAnswer.of(pending, 0 if role is None else role.threshold)


def _key(form: Mapping[str, Any], number: int) -> Key:
    entry = keyring.decode(msgspec.json.encode(form), f"approvers.{number}")
    if not entry.holder:
        raise InvalidInput(f"approvers.{number}: the field holder is empty")
    return repository.named(entry.key, entry.holder)
