"""Files of a version that need not be fetched where its parent's are: they are made of them.

Whatever is made has the SHA-256 that the manifest is signed with, or is dropped.
"""

import contextlib

from agent.errors import HashMismatch, MalformedDocument
from agent.store.blob_store import BlobStore
from protos.errors import DocumentError
from protos.manifest import File, Manifest, Role
from protos.model_step import applied
from protos.train_step import renamed


def parent_of(manifest: Manifest, role: Role) -> str:
    """The blob that the file can be made of; empty if it can't."""
    if role is Role.MODEL and Role.MODEL_STEP in manifest.files:
        return manifest.lineage.parent_model
    return manifest.lineage.parent_train_step if role is Role.TRAIN_STEP else ""


def make_file(blobs: BlobStore, manifest: Manifest, role: Role) -> None:
    """Puts the file into the blob store. Takes memory for three of it.

    Raises:
        MalformedDocument, HashMismatch: it did not come out; nothing of it is kept.
        StoreError: what it is made of is not there any more.
        DiskFull: no room; what fitted is kept.
    """
    file = manifest.files[role]
    try:
        made = _made(blobs, manifest, role)
    except DocumentError as error:
        raise MalformedDocument(error.detail) from error
    try:
        _write(blobs, file, made)
    except HashMismatch:  # it had begun with other bytes
        _write(blobs, file, made)


def _made(blobs: BlobStore, manifest: Manifest, role: Role) -> bytes:
    parent = blobs.read(parent_of(manifest, role))
    if role is Role.TRAIN_STEP:
        model = manifest.files[Role.MODEL].sha256
        return renamed(parent, manifest.lineage.parent_model, model)
    step = blobs.read(manifest.files[Role.MODEL_STEP].sha256)
    return applied(parent, step, manifest.files[role].length)


def _write(blobs: BlobStore, file: File, data: bytes) -> None:
    """Goes on where an earlier writer stopped."""
    with contextlib.closing(blobs.writer(file.sha256, file.length)) as writer:
        writer.write(data[writer.offset :])
        writer.finish()
