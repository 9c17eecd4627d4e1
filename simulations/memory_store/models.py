"""Models, their versions and the image metadata in memory."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from controller.errors import Conflict
from controller.registry.version import Model, Pending, Version
from controller.store.metadata_name import role_and_version
from controller.store.store import METADATA_KEPT, ONLINE_ROLES
from simulations.memory_store.journal import Journal


class MemoryRegistry:
    """``controller.store.store.Registry``."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._models: dict[str, Model] = {}
        self._versions: dict[tuple[str, int], Version] = {}
        self._pending: dict[tuple[str, int], Pending] = {}
        self._aliases: dict[tuple[str, str], int] = {}

    def model(self, name: str) -> Model | None:  # noqa: D102 - see the Protocol
        return self._models.get(name)

    def models(self) -> Sequence[Model]:  # noqa: D102
        return sorted(self._models.values(), key=lambda model: model.name)

    def put_model(self, model: Model) -> None:  # noqa: D102
        kept = replace(model, approvers=dict(model.approvers))
        self._journal.put(self._models, model.name, kept)

    def version(self, model: str, version: int) -> Version | None:  # noqa: D102
        return self._versions.get((model, version))

    def versions(self, model: str | None = None) -> Sequence[Version]:  # noqa: D102
        found = [one for one in self._versions.values() if model in {None, one.model}]
        return sorted(found, key=lambda one: (one.model, one.version))

    def put_version(self, version: Version) -> None:  # noqa: D102
        if version.model not in self._models:
            raise Conflict(f"a version of model {version.model!r}, which does not exist")
        self._journal.put(self._versions, (version.model, version.version), version)

    def pending(self, model: str, version: int) -> Pending | None:  # noqa: D102
        return self._pending.get((model, version))

    def all_pending(self, model: str | None = None) -> Sequence[Pending]:  # noqa: D102
        found = [one for one in self._pending.values() if model in {None, one.model}]
        return sorted(found, key=lambda one: (one.model, one.version))

    def put_pending(self, pending: Pending) -> None:  # noqa: D102
        self._require(pending.model, pending.version)
        self._journal.put(self._pending, (pending.model, pending.version), pending)

    def remove_pending(self, model: str, version: int) -> None:  # noqa: D102
        self._journal.remove(self._pending, (model, version))

    def aliases(self, model: str) -> Mapping[str, int]:  # noqa: D102
        return {
            alias: version for (of, alias), version in sorted(self._aliases.items()) if of == model
        }

    def put_alias(self, model: str, alias: str, version: int) -> None:  # noqa: D102
        self._require(model, version)
        self._journal.put(self._aliases, (model, alias), version)

    def remove_alias(self, model: str, alias: str) -> None:  # noqa: D102
        self._journal.remove(self._aliases, (model, alias))

    def _require(self, model: str, version: int) -> None:
        if (model, version) not in self._versions:
            raise Conflict(f"there is no version {model}/{version}")


class MemoryImageMetadata:
    """``controller.store.store.ImageMetadata``."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._files: dict[tuple[str, int], bytes] = {}
        self._newest: dict[str, int] = {}

    def get(self, name: str) -> bytes | None:  # noqa: D102
        match role_and_version(name):
            case (role, None):
                return self.current(role)
            case (role, int(version)):
                return self._files.get((role, version))
            case _:
                return None

    def current(self, role: str) -> bytes | None:  # noqa: D102
        return self._files.get((role, self._newest.get(role, 0)))

    def put(self, role: str, version: int, metadata: bytes) -> None:  # noqa: D102
        known = self._files.get((role, version))
        if known is None and version <= self._newest.get(role, 0):
            raise Conflict(f"version {version} of {role!r} is older than the current one")
        if known not in {None, metadata}:
            raise Conflict(f"version {version} of {role!r} is there already, with other content")
        self._journal.put(self._files, (role, version), metadata)
        self._journal.put(self._newest, role, max(version, self._newest.get(role, 0)))
        if role in ONLINE_ROLES:
            for of, number in list(self._files):
                if of == role and number <= version - METADATA_KEPT:
                    self._journal.remove(self._files, (of, number))
