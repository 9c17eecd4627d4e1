"""What must not run any more, whatever a directive says: recalled versions, and those below a floor.

It binds every slot, the version that a revert would go back to included.
"""

from collections.abc import Iterable

from agent.errors import BelowFloor, Recalled, Untrusted
from agent.install.record import Deployed
from agent.store.device_store import TrustedState
from protos.image import Restrictions


def recall_key(model: str, manifest_sha256: str) -> str:
    """How a recalled manifest stands in ``TrustedState.recalled``.

    Bound to the model, so that approvers of one model can't recall the versions of another.
    """
    return f"{model}/{manifest_sha256}"


def objection(
    state: TrustedState, model: str, manifest_sha256: str, release_counter: int
) -> Untrusted | None:
    """Why this version of ``model`` must not run; None if it may."""
    if recall_key(model, manifest_sha256) in state.recalled:
        return Recalled(f"{model}: the manifest {manifest_sha256[:12]} was recalled")
    lowest = state.floors.get(model, 0)
    if release_counter < lowest:
        return BelowFloor(f"{model}: release counter {release_counter}; the floor is {lowest}")
    return None


def objection_to(state: TrustedState, deployed: Deployed) -> Untrusted | None:
    """Why what a slot points at must not run (again); None if it may."""
    return objection(state, deployed.model, deployed.manifest_sha256, deployed.release_counter)


def raised(
    floors: dict[str, int], recalled: Iterable[str], model: str, held: Restrictions
) -> tuple[dict[str, int], frozenset[str]]:
    """Floors and recalls once the approvers of ``model`` forbid ``held``. Neither ever shrinks."""
    lowest = max(floors.get(model, 0), held.release_floor)
    more = (recall_key(model, digest) for digest in held.recalled)
    return (floors | {model: lowest} if lowest else floors), frozenset(recalled).union(more)
