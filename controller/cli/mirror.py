"""`muster mirror`: what devices fetch, as files that any web server can serve."""

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from controller.cli.client import ApiClient, place
from controller.cli.device import moment
from controller.cli.output import CommandFailed, Output, OutputOption, counted, say, show_json
from protos.documents import sha256
from protos.manifest import Manifest, parse_reference, read_manifest
from protos.mirror import TIMESTAMP, blob_path, metadata_path

if TYPE_CHECKING:
    from controller.store.mirror_folder import MirrorFolder
    from protos.tuf import MetaFile, Targets, Timestamp

app = typer.Typer(
    no_args_is_help=True, help="What devices fetch, for a web server near them: sync."
)

MIB = 1 << 20


@dataclass
class Account:
    """What a synchronisation has done.

    Attributes:
        versions: how many are listed, whose files are all there now.
        brought: files that came.
        bytes: of those.
        present: files that were there already.
        removed: files that no listed version needs any more.
        expires: until when devices take the metadata, in Unix seconds.
    """

    folder: str
    versions: int = 0
    brought: int = 0
    bytes: int = 0
    present: int = 0
    removed: int = 0
    expires: float = 0.0


@app.command()
def sync(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where the files are to stand.")],
    prune: Annotated[
        bool, typer.Option("--prune", help="Also remove files of what is not listed any more.")
    ] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Bring everything that devices may fetch into a folder; run it again and again.

    The folder is a static tree for any web server: nobody has to trust it, for devices check all of
    it. What is there already is not fetched again. A viewer's token is enough. Run it from cron or a
    systemd timer, at least once in half of the lifetime of the timestamp.

    ```
    muster mirror sync /srv/muster --prune
    ```
    """
    from controller.store.mirror_folder import MirrorFolder  # noqa: PLC0415 - quick --help

    with ApiClient() as api, MirrorFolder(folder) as tree:
        account = _Sync(api, tree, Account(str(folder))).run(prune=prune)
    if output is Output.JSON:
        show_json(dataclasses.asdict(account))
        return
    say(_sentence(account))
    if prune:
        say(f"{counted(account.removed, 'file')} removed")


def _sentence(account: Account) -> str:
    size = f"{account.bytes / MIB:.1f} MiB" if account.bytes >= MIB else f"{account.bytes} bytes"
    return (
        f"{account.folder} has {counted(account.versions, 'version')}: "
        f"{counted(account.brought, 'file')} brought ({size}), {account.present} there already; "
        f"good until {moment(account.expires)}"
    )


class _Sync:
    """One run. The timestamp is written last: until then no reader finds what else is new."""

    def __init__(self, api: ApiClient, tree: "MirrorFolder", account: Account) -> None:
        self._api = api
        self._tree = tree
        self._account = account
        self._paths: set[str] = set()

    def run(self, *, prune: bool) -> Account:
        """Brings everything.

        Raises:
            CommandFailed, ControllerError, DocumentError: it could not be brought; what the mirror
                had before is whole.
        """
        timestamp, roots = self._api.download(f"/metadata/{TIMESTAMP}"), self._roots()
        shown = _checked_timestamp(timestamp, roots[-1])
        for manifest in self._listed(shown.snapshot_meta):
            self._account.versions += 1
            for role, file in manifest.files.items():
                source = place(
                    "models", manifest.model, "versions", manifest.version, "files", role
                )
                self._bring(blob_path(file.sha256), file.sha256, source)
        for number, root in enumerate(roots, start=1):
            self._write(metadata_path(f"{number}.root.json"), root)
        self._write(metadata_path(TIMESTAMP), timestamp)
        self._account.expires = shown.expires.timestamp()
        if prune:
            self._account.removed = self._tree.keep_only(self._paths)
        return self._account

    def _roots(self) -> list[bytes]:
        """Every version of root, the first one first: a device may know any of them."""
        from controller.cli.signing import stored_metadata  # noqa: PLC0415 - quick --help

        roots: list[bytes] = []
        while (data := stored_metadata(self._api, f"{len(roots) + 1}.root.json")) is not None:
            roots.append(data)
        return roots

    def _listed(self, snapshot_meta: "MetaFile") -> Iterator[Manifest]:
        """The manifest of every version that is listed; all but the last metadata are there then."""
        from controller.signing.metadata import parse  # noqa: PLC0415 - quick --help
        from protos.tuf import Snapshot, Targets  # noqa: PLC0415

        snapshot = parse(
            self._metadata("snapshot.json", snapshot_meta), Snapshot, "snapshot"
        ).signed
        for name, meta in sorted(snapshot.meta.items()):
            targets = parse(self._metadata(name, meta), Targets, name).signed
            yield from self._manifests(targets)

    def _manifests(self, targets: "Targets") -> Iterator[Manifest]:
        for path, target in sorted(targets.targets.items()):
            model, version = parse_reference(path.removeprefix("models/").removesuffix(".json"))
            digest = target.hashes["sha256"]
            source = place("models", model, "versions", version, "manifest")
            yield read_manifest(self._small(blob_path(digest), digest, source))

    def _metadata(self, name: str, meta: "MetaFile") -> bytes:
        """Metadata by its name without version."""
        versioned = f"{meta.version}.{name}"
        digest = (meta.hashes or {}).get("sha256", "")
        return self._small(metadata_path(versioned), digest, place("metadata", versioned))

    def _small(self, path: str, digest: str, source: str) -> bytes:
        data = self._tree.read(path, digest)
        if data is None:
            data = self._api.download(source)
            self._put(path, [data], digest)
        else:
            self._there(path)
        return data

    def _bring(self, path: str, digest: str, source: str) -> None:
        if path in self._paths:
            return  # of another version, too
        if self._tree.holds(path, digest):
            self._there(path)
        else:
            self._put(path, self._api.pieces(source), digest)

    def _write(self, path: str, data: bytes) -> None:
        if self._tree.holds(path, sha256(data)):
            self._there(path)
        else:
            self._put(path, [data], sha256(data))

    def _there(self, path: str) -> None:
        self._account.present += 1
        self._paths.add(path)

    def _put(self, path: str, pieces: Iterable[bytes], digest: str) -> None:
        self._account.bytes += self._tree.put(path, pieces, digest)
        self._account.brought += 1
        self._paths.add(path)


def _checked_timestamp(timestamp: bytes, root: bytes) -> "Timestamp":
    """The timestamp, if the newest root names who has signed it."""
    from controller.errors import BadSignature  # noqa: PLC0415 - quick --help
    from controller.signing.metadata import parse, require_signed  # noqa: PLC0415
    from protos.tuf import Root, Timestamp  # noqa: PLC0415

    newest: Root = parse(root, Root, "root").signed
    metadata: Any = parse(timestamp, Timestamp, "timestamp")
    try:
        require_signed(newest, "timestamp", metadata)
    except BadSignature as error:
        raise CommandFailed(
            "conflict", f"root was replaced at this moment: {error.detail}", "Run it once more."
        ) from error
    shown: Timestamp = metadata.signed
    return shown
