"""Installs, slots and directives to decide about."""

from agent.errors import SelfTestMismatch
from agent.install.machine import State
from agent.install.outcome import outcome_of
from agent.install.reconcile import Device
from agent.install.record import Deployed, Install, Slot
from agent.store.device_store import Quarantine
from protos.documents import Directive
from tests.agent.install.outside import bundle

NOW = 1_700_000_000.0
ONE, TWO, THREE = (bundle(version=number) for number in (1, 2, 3))
BAD = outcome_of(SelfTestMismatch("off"))


def deployed(version: int) -> Deployed:
    sha256 = bundle(version=version).sha256
    return Deployed("digits", version, sha256, f"m{version}", version, approvals=2)


def install(state: State, version: int = 2, generation: int = 5, code: str = "") -> Install:
    one = bundle(version=version)
    return Install(
        model="digits", slot="champion", version=version, generation=generation,
        target="t", sha256=one.sha256, length=9, state=state, since=NOW - 60, code=code,
        candidate=deployed(version),
    )  # fmt: skip


def wanting(*versions: int, generation: int = 6) -> Directive:
    assignments = tuple(bundle(version=version).assignment() for version in versions)
    return Directive(device="d", generation=generation, issued_at=0, assignments=assignments)


def device(*installs: Install, slots: tuple[Slot, ...] = (), kept_out: str = "") -> Device:
    kept = Quarantine(kept_out, "digits", 2, "self-test-mismatch", "off", NOW - 60)
    return Device(slots, installs, lambda sha256: kept if sha256 == kept_out else None)


SLOT = Slot("digits", "champion", active=deployed(1), committed=deployed(1))
