"""Where two features meet: a version that passed its gates waits for its approvers at once."""

from collections.abc import Iterable

from controller.errors import Conflict
from controller.registry.version import Model, State, Version
from controller.signing.actions import propose_version
from controller.signing.publication import Act
from controller.store.store import Transaction


def propose_if_possible(tx: Transaction, version: Version, act: Act) -> bool:
    """Proposes a validated version; False if its model has no approvers yet."""
    model = tx.registry.model(version.model)
    if model is None or not model.approvers:
        return False
    try:
        propose_version(tx, version.model, version.version, act)
    except Conflict:
        # Something else of the version waits; whoever proposed that decides.
        return False
    return True


def propose_all(tx: Transaction, models: Iterable[Model], act: Act) -> None:
    """Proposes what was validated before the models had approvers."""
    for model in models:
        for version in tx.registry.versions(model.name):
            waits = tx.registry.pending(version.model, version.version) is not None
            if version.state is State.VALIDATED and not waits:
                propose_if_possible(tx, version, act)
