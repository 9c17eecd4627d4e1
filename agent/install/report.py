"""What the device does run, as the document that it signs."""

from collections.abc import Mapping, Sequence

from agent.install.gates import detail_of
from agent.install.machine import State
from agent.install.record import Install, Slot, SlotKey
from protos.documents import Report, SlotReport


def report(
    *,
    device: str,
    counter: int,
    generation: int,
    reported_at: int,
    agent_version: str,
    slots: Sequence[Slot],
    installs: Sequence[Install],
    loaded: Mapping[SlotKey, str],
) -> Report:
    """The report, not yet signed.

    ``generation`` is of the directive that the device acts on; ``reported_at`` is in Unix seconds.
    ``loaded`` has, by (model, slot), the digest of the model file that the runtime was given and that
    answers; a slot that is not in it does not answer.
    """
    return Report(
        device=device,
        counter=counter,
        generation=generation,
        reported_at=reported_at,
        agent_version=agent_version,
        running=tuple(_running(slot, loaded) for slot in slots if slot.active is not None),
        wanted=tuple(
            _wanted(install, reported_at)
            for install in installs
            if install.state not in {State.IDLE, State.COMMITTED}
        ),
    )


def _running(slot: Slot, loaded: Mapping[SlotKey, str]) -> SlotReport:
    active = slot.active
    if active is None:
        raise ValueError("an empty slot runs nothing")
    model_sha256 = loaded.get(slot.key, "")
    return SlotReport(
        model=slot.model,
        slot=slot.name,
        version=active.version,
        state=State.COMMITTED if active == slot.committed else State.PROBATION,
        manifest_sha256=active.manifest_sha256,
        model_sha256=model_sha256,
        approvals=active.approvals,
        code="" if model_sha256 else "not-ready",
        detail="" if model_sha256 else "its model is not loaded",
        soaked=slot.soaked if active == slot.committed else 0,
    )


def _wanted(install: Install, now: float) -> SlotReport:
    candidate = install.candidate
    return SlotReport(
        model=install.model,
        slot=install.slot,
        version=install.version,
        state=install.state,
        manifest_sha256=install.sha256,
        approvals=candidate.approvals if candidate is not None else install.approvals,
        code=install.code,
        detail=detail_of(install, now),
        generation=install.generation,
    )
