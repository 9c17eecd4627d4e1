"""What a new version's card and manifest say of where it comes from."""

from controller.registry.card import CardFacts
from controller.registry.preparation import Prepared
from controller.registry.registration import Registration
from protos.documents import sha256
from protos.limits import BLOB_BYTES
from protos.manifest import Lineage, Role
from protos.model_step import read_header


def lineage_of(request: Registration, prepared: Prepared, actor: str) -> Lineage:
    """Where the version comes from; ``actor`` registers it."""
    return Lineage(
        parent=prepared.parent,
        parent_model=_parent_model(prepared),
        parent_train_step=prepared.origin.parent_train_step if prepared.origin else "",
        training_run=request.training_run,
        round=request.round,
        data_profile=sha256(prepared.files[Role.REFERENCE]),
        git_commit=request.git_commit,
        registered_by=actor,
    )


def card_facts(
    request: Registration, prepared: Prepared, version: int, lineage: Lineage, now: float
) -> CardFacts:
    """What the card says that was not written by a person. ``now`` is Unix seconds."""
    known = {
        "parent": "" if lineage.parent is None else f"{request.model}/{lineage.parent}",
        "training_run": lineage.training_run,
        "round": "" if lineage.round is None else str(lineage.round),
        "git_commit": lineage.git_commit,
        "data_profile": lineage.data_profile,
        "registered_by": lineage.registered_by,
    }
    return CardFacts(
        model=request.model,
        version=version,
        registered_at=now,
        onnx=prepared.onnx,
        model_sha256=sha256(prepared.files[Role.MODEL]),
        reference_rows=prepared.reference_rows,
        signature=prepared.signature,
        metrics=prepared.metrics,
        lineage=known,
        training=prepared.training,
        parent=prepared.candidate.parent,
        parent_metrics=prepared.candidate.parent_metrics,
        origin=prepared.origin,
    )


def _parent_model(prepared: Prepared) -> str:
    """The file that the bundle's step is for; empty if it has none."""
    step = prepared.files.get(Role.MODEL_STEP)
    return read_header(step, BLOB_BYTES).parent_sha256 if step else ""
