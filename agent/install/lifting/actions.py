"""Somebody asks that a version be tried again."""

from agent.errors import NotInQuarantine
from agent.store.device_store import InstallStore, Quarantine
from agent.store.lift_requests import LiftRequests


def ask(
    installs: InstallStore, requests: LiftRequests, model: str, version: int
) -> tuple[Quarantine, ...]:
    """Asks the agent, whether it runs or not, to try the version again; returns what it was kept for.

    Raises:
        NotInQuarantine: it was not kept from running here.
        StoreError: the request can't be left.
    """
    found = tuple(
        one for one in installs.quarantines() if (one.model, one.version) == (model, version)
    )
    if not found:
        raise NotInQuarantine(f"{model}/{version} is not in quarantine on this device")
    for one in found:
        requests.ask(one.manifest_sha256)
    return found
