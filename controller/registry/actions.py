"""What people ask of the registry. Nothing here publishes: that takes approvers' signatures."""

import dataclasses
import logging
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import psutil

from agent.runtimes.runtime import Runtime
from controller.audit import Entry
from controller.errors import Conflict, InvalidInput, NotFound
from controller.registry import bundle, card
from controller.registry.card_facts import card_facts, lineage_of
from controller.registry.preparation import Parent, Prepared, prepare
from controller.registry.registration import Registered, Registration, check
from controller.registry.trial import Gauges, Progress
from controller.registry.version import Event, Model, Pending, State, Version, step
from controller.store.blob_store import BlobStore
from controller.store.store import Store, Transaction
from protos.limits import MODEL_NAME
from protos.manifest import Lineage, Manifest, Role, read_manifest

_ALIAS: Final = re.compile(f"(?=.*[a-z]){MODEL_NAME}")  # a number would read as a version
_NAMED: Final = re.compile(f"({MODEL_NAME})(?:@({MODEL_NAME})|/([1-9][0-9]{{0,8}}))?")
_GAUGES: Final = Gauges(
    seconds=time.perf_counter, resident_bytes=lambda: int(psutil.Process().memory_info().rss)
)

Preparing = Callable[[Registration, Parent | None], Prepared]
"""What ``prepare`` does, wherever that is done."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class VersionView:
    """A version with what hangs off it. ``pending`` is what waits for signatures."""

    version: Version
    manifest: Manifest
    aliases: tuple[str, ...]
    pending: Pending | None


@dataclass(frozen=True, slots=True)
class ModelView:
    """A model, its versions ascending, and its aliases."""

    model: Model
    versions: tuple[VersionView, ...]
    aliases: Mapping[str, int]


def silent(_what: str, _share: float) -> None:
    """A ``Progress`` that tells nobody."""


def register(
    store: Store,
    blobs: BlobStore,
    runtime: Runtime,
    request: Registration,
    actor: str,
    now: float,
    rng: np.random.Generator,
    progress: Progress = silent,
) -> Registered:
    """A new version of a model: validated if it passes its gates, else rejected with all reasons.

    Takes seconds: the model is run over the reference, and the thresholds are calibrated. A model
    that is not there yet is made, without approvers.

    Raises:
        BadModel, BadReference, TooLarge, InvalidInput: a file or the request is not what it must
            be; the message names it. Nothing is stored.
        NotFound: the parent is not there.
        Conflict: the same is registered already; names the version.
    """

    def here(request: Registration, parent: Parent | None) -> Prepared:
        prepared = prepare(runtime, request, parent, _GAUGES, rng, progress)
        progress("judge", 1.0)
        return prepared

    return register_by(store, blobs, here, request, actor, now)


def register_by(
    store: Store,
    blobs: BlobStore,
    preparing: Preparing,
    request: Registration,
    actor: str,
    now: float,
) -> Registered:
    """As ``register``, with whatever prepares: a process of its own, where authors are strangers."""
    check(request)
    prepared = preparing(request, _parent(store, blobs, request))
    return insert(store, blobs, request, prepared, actor, now)


def insert(
    store: Store,
    blobs: BlobStore,
    request: Registration,
    prepared: Prepared,
    actor: str,
    now: float,
) -> Registered:
    """Makes what was prepared the model's next version.

    Files go to the blobs first, then one transaction makes the version be: a crash before leaves
    blobs that nothing names.

    Raises:
        Conflict: the same is registered already; names the version.
    """
    for data in prepared.files.values():
        blobs.put(data)
    lineage = lineage_of(request, prepared, actor)
    with store.begin() as tx:
        registered = _insert(tx, blobs, request, prepared, lineage, now)
    version = registered.version
    log.info(
        "version.registered version=%s/%d state=%s by=%s",
        version.model,
        version.version,
        version.state,
        actor,
    )
    return registered


def _parent(store: Store, blobs: BlobStore, request: Registration) -> Parent | None:
    with store.read() as tx:
        if request.parent is not None:
            found = _version(tx, request.model, request.parent)
        else:
            newest = _newest_published(tx, request.model)
            if newest is None:
                return None
            found = newest
    manifest = read_manifest(found.manifest)
    return Parent(manifest, b"".join(blobs.read(manifest.files[Role.MODEL].sha256)))


def _insert(
    tx: Transaction,
    blobs: BlobStore,
    request: Registration,
    prepared: Prepared,
    lineage: Lineage,
    now: float,
) -> Registered:
    versions = tx.registry.versions(request.model)
    place = bundle.next_place(versions)
    page = card.card(card_facts(request, prepared, place.version, lineage, now), request.text)
    parts = bundle.Parts(
        model=request.model,
        onnx=prepared.onnx,
        signature=prepared.signature,
        files={**prepared.files, Role.CARD: page},
        measured=prepared.measured,
        demands=request.demands,
        metrics=prepared.metrics,
        lineage=lineage,
    )
    manifest = bundle.assemble(parts, place.version, place.release_counter)
    same = bundle.same_as(manifest, request.demands, versions)
    if same is not None:
        raise Conflict(
            f"{request.onnx_name} with {request.reference_name} is {same.model}/{same.version} "
            f"already ({same.state})"
        )
    encoded = manifest.encode()
    for data in (page, encoded):
        blobs.put(data)
    if tx.registry.model(request.model) is None:
        tx.registry.put_model(Model(name=request.model, created_at=now, threshold=1))
    objections = tuple(request.gates.objections(prepared.candidate))
    event = Event.GATES_FAILED if objections else Event.GATES_PASSED
    version = Version(
        model=request.model,
        version=place.version,
        state=step(State.DRAFT, event),
        manifest=encoded,
        manifest_sha256=manifest.digest,
        registered_at=now,
        registered_by=lineage.registered_by,
        reasons=objections,
    )
    tx.registry.put_version(version)
    if prepared.estimator is not None:
        tx.totals.put_estimator(request.model, place.version, prepared.estimator)
    detail = {"state": version.state.value, "manifest": version.manifest_sha256}
    _audit(tx, lineage.registered_by, "version.register", manifest.reference, detail, now)
    return Registered(version, manifest, prepared.notes)


def list_models(tx: Transaction) -> tuple[ModelView, ...]:
    """Every model with its versions, by name."""
    return tuple(_model_view(tx, model) for model in tx.registry.models())


def show_model(tx: Transaction, name: str) -> ModelView:
    """One model.

    Raises:
        NotFound: there is none of that name.
    """
    model = tx.registry.model(name)
    if model is None:
        raise NotFound(f"no model {name!r}")
    return _model_view(tx, model)


def show_version(tx: Transaction, named: str) -> VersionView:
    """One version, named as for ``resolve``.

    Raises:
        NotFound, InvalidInput: as ``resolve``.
    """
    version = resolve(tx, named)
    return _version_view(tx, version, tx.registry.aliases(version.model))


def card_of(tx: Transaction, blobs: BlobStore, named: str) -> bytes:
    """A version's card, as CycloneDX JSON.

    Raises:
        NotFound, InvalidInput: as ``resolve``.
    """
    manifest = read_manifest(resolve(tx, named).manifest)
    return b"".join(blobs.read(manifest.files[Role.CARD].sha256))


def resolve(tx: Transaction, named: str) -> Version:
    """``digits/3``, ``digits@champion``, or the newest published version of ``digits``.

    Raises:
        InvalidInput: it is none of these.
        NotFound: there is no such model, version or alias, or none is published.
    """
    match = _NAMED.fullmatch(named)
    if match is None:
        raise InvalidInput(f"{named[:80]!r}: write MODEL, MODEL/VERSION or MODEL@ALIAS")
    model, alias, number = match.groups()
    if tx.registry.model(model) is None:
        raise NotFound(f"no model {model!r}")
    if number is not None:
        return _version(tx, model, int(number))
    if alias is not None:
        aliases = tx.registry.aliases(model)
        if alias not in aliases:
            there = ", ".join(aliases) or "none"
            raise NotFound(f"model {model!r} has no alias {alias!r}; there are: {there}")
        return _version(tx, model, aliases[alias])
    newest = _newest_published(tx, model)
    if newest is None:
        raise NotFound(f"no version of {model!r} is published yet; name one, such as {model}/1")
    return newest


def set_alias(
    tx: Transaction, model: str, alias: str, version: int, actor: str, now: float
) -> None:
    """Makes ``model@alias`` name the version, whatever it named before.

    Raises:
        InvalidInput: the alias is no name.
        NotFound: there is no such version.
        Conflict: the version was rejected or recalled.
    """
    if not _ALIAS.fullmatch(alias):
        raise InvalidInput(f"alias {alias[:80]!r}: lowercase letters, digits and hyphens")
    found = _version(tx, model, version)
    if found.state in {State.REJECTED, State.RECALLED}:
        raise Conflict(f"{model}/{version} is {found.state}: no alias may name it")
    before = tx.registry.aliases(model).get(alias)
    if before == version:
        return
    tx.registry.put_alias(model, alias, version)
    detail = {"version": str(version), "before": "" if before is None else str(before)}
    _audit(tx, actor, "alias.set", f"{model}@{alias}", detail, now)


def remove_alias(tx: Transaction, model: str, alias: str, actor: str, now: float) -> None:
    """Makes ``model@alias`` name nothing.

    Raises:
        NotFound: it names nothing now.
    """
    before = tx.registry.aliases(model).get(alias)
    if before is None:
        raise NotFound(f"model {model!r} has no alias {alias!r}")
    tx.registry.remove_alias(model, alias)
    _audit(tx, actor, "alias.remove", f"{model}@{alias}", {"before": str(before)}, now)


def withdraw(
    tx: Transaction, model: str, version: int, reason: str, actor: str, now: float
) -> Version:
    """Rejects a version that is not published yet, and with it what waits for signatures.

    Raises:
        NotFound: there is no such version.
        Conflict: it is published (then recall it), or at its end already.
    """
    found = _version(tx, model, version)
    if found.state not in {State.DRAFT, State.VALIDATED, State.APPROVED}:
        hint = "; recall it instead" if found.state is State.PUBLISHED else ""
        raise Conflict(f"{model}/{version} is {found.state}: it can't be withdrawn{hint}")
    why = f"withdrawn by {actor}: {reason}" if reason else f"withdrawn by {actor}"
    rejected = dataclasses.replace(
        found, state=step(found.state, Event.WITHDRAWN), reasons=(*found.reasons, why)
    )
    tx.registry.put_version(rejected)
    tx.registry.remove_pending(model, version)
    for alias, of in tx.registry.aliases(model).items():
        if of == version:
            tx.registry.remove_alias(model, alias)
    _audit(tx, actor, "version.withdraw", f"{model}/{version}", {"reason": reason}, now)
    return rejected


def _version(tx: Transaction, model: str, version: int) -> Version:
    found = tx.registry.version(model, version)
    if found is None:
        raise NotFound(f"no version {model}/{version}")
    return found


def _newest_published(tx: Transaction, model: str) -> Version | None:
    published = [one for one in tx.registry.versions(model) if one.state is State.PUBLISHED]
    return published[-1] if published else None


def _model_view(tx: Transaction, model: Model) -> ModelView:
    aliases = tx.registry.aliases(model.name)
    versions = tx.registry.versions(model.name)
    return ModelView(model, tuple(_version_view(tx, one, aliases) for one in versions), aliases)


def _version_view(tx: Transaction, version: Version, aliases: Mapping[str, int]) -> VersionView:
    return VersionView(
        version,
        read_manifest(version.manifest),
        tuple(sorted(alias for alias, of in aliases.items() if of == version.version)),
        tx.registry.pending(version.model, version.version),
    )


def _audit(
    tx: Transaction, actor: str, action: str, subject: str, detail: Mapping[str, str], now: float
) -> None:
    tx.audit.append(Entry(actor, action, subject, detail), int(now * 1000))
