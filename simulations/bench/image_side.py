"""A fleet's signed image metadata, with as many models as wished, as the controller would serve it."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from agent.errors import Refused
from controller.signing import repository
from controller.signing.actions import Act, Founders, OnlineSigners, create_repository
from controller.signing.metadata import sign
from controller.signing.publication import publish, publish_timestamp, require_targets
from protos.documents import Assignment
from protos.keys import CryptoSigner
from protos.limits import MIB
from protos.manifest import Budgets, File, Manifest, Needs, Role, role_name, target_path
from protos.tuf import DelegatedRole
from simulations.memory_store.store import MemoryStore

PEOPLE: Final = 20
APPROVERS: Final = 3
THRESHOLD: Final = 2


class ImageSide:
    """Root of 2 of 3 keys; of every model one version that 2 of its 3 approvers have signed."""

    def __init__(self, models: int) -> None:
        self.director = CryptoSigner.generate_ed25519()
        self._online = OnlineSigners(_key(), _key())
        self._act = Act("bench", datetime.now(UTC))
        self._store = MemoryStore()
        self._served: dict[str, bytes | None] = {}
        targets = _key()
        founders = Founders(
            root=[_key(), _key(), _key()],
            root_threshold=2,
            targets=[targets],
            targets_threshold=1,
            director=[self.director.public_key],
        )
        with self._store.begin() as tx:
            self.root = create_repository(tx, founders, self._online, self._act)
        people = [_key() for _ in range(PEOPLE)]
        approvers = {
            model_name(number): [people[(number + one) % PEOPLE] for one in range(APPROVERS)]
            for number in range(models)
        }
        self._publish(targets, people, approvers)

    def fetch(self, name: str) -> bytes:
        """What the link would bring, at once.

        Raises:
            Refused: there is none of that name.
        """
        if name not in self._served:
            with self._store.begin() as tx:
                self._served[name] = tx.metadata.get(name)
        data = self._served[name]
        if data is None:
            raise Refused("not-found", f"no metadata {name}", "")
        return data

    def new_timestamp(self) -> None:
        """What the controller does every half day: the same snapshot, a newer timestamp."""
        with self._store.begin() as tx:
            snapshot = tx.metadata.current("snapshot")
            if snapshot is None:
                raise LookupError("the repository has no snapshot")
            publish_timestamp(tx, snapshot, self._online, self._act)
        self._served.pop("timestamp.json", None)

    def targets(self) -> bytes:
        """The current top-level targets."""
        return self.fetch("2.targets.json")

    def _publish(
        self,
        signer: CryptoSigner,
        people: Sequence[CryptoSigner],
        approvers: dict[str, list[CryptoSigner]],
    ) -> None:
        act = self._act
        roles = {}
        for model, signers in approvers.items():
            role = repository.with_version(None, manifest(model).encode(), act.now, act.lifetimes)
            roles[role_name(model)] = (1, sign(role, signers[:THRESHOLD]))
        with self._store.begin() as tx:
            # As ``repository.with_delegation`` once a model, which copies all of them each time.
            first = model_name(0)
            keys = [one.public_key for one in approvers[first]]
            targets = repository.with_delegation(
                require_targets(tx), first, keys, THRESHOLD, act.now, act.lifetimes
            )
            delegations = targets.delegations
            if delegations is None or delegations.roles is None:
                raise LookupError("the targets delegate to nobody")
            if len(approvers) > 1:
                delegations.keys |= {one.public_key.keyid: one.public_key for one in people}
            delegations.roles |= {role_name(model): _role(model, approvers) for model in approvers}
            publish(
                tx,
                {"targets": (targets.version, sign(targets, [signer])), **roles},
                self._online,
                act,
            )


def model_name(number: int) -> str:
    """Of the ``number``-th model."""
    return f"model-{number}"


def manifest(model: str) -> Manifest:
    """Of version 1 of the model; its files are nowhere."""
    return Manifest(
        model=model,
        version=1,
        release_counter=1,
        inputs=(),
        outputs=(),
        files={role: File(sha256=f"{1:064x}", length=1000) for role in Role},
        needs=Needs(),
        budgets=Budgets(latency_p99_seconds=0.1, memory_bytes=MIB),
    )


def assignment(model: str) -> Assignment:
    """Version 1 of the model, for the champion's slot."""
    made = manifest(model)
    return Assignment(
        model=model,
        version=1,
        target=target_path(model, 1),
        sha256=made.digest,
        length=len(made.encode()),
    )


def _role(model: str, approvers: dict[str, list[CryptoSigner]]) -> DelegatedRole:
    return DelegatedRole(
        role_name(model),
        [one.public_key.keyid for one in approvers[model]],
        THRESHOLD,
        terminating=True,
        paths=[f"models/{model}/*"],
    )


def _key() -> CryptoSigner:
    return CryptoSigner.generate_ed25519()
