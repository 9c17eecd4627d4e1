"""Values for every ``DeviceStore`` to keep, and how one is opened anew."""

from collections.abc import Callable

from msgspec.structs import replace

from agent.federated import machine as task_machine
from agent.federated.record import Carry, Journal, Rest, Task
from agent.install.machine import State
from agent.install.record import Deployed, Install, Slot
from agent.store.device_store import DeviceStore, Identity
from protos.documents import Conditions, Window

DEPLOYED = Deployed("digits", 3, "a" * 64, "b" * 64, release_counter=3, approvals=2)
SLOT = Slot("digits", "champion", active=DEPLOYED, committed=replace(DEPLOYED, version=2))
INSTALL = Install(
    model="digits", slot="champion", version=3, generation=7, target="models/digits/3.json",
    sha256="a" * 64, length=900, state=State.SELF_TEST, since=1700000000.25, rollout="r1",
    resumptions=2, not_before=1700000100.5, code="transport", detail="nobody answered: 连接",
    approvals=2, candidate=DEPLOYED, attempt=3,
    conditions=Conditions(
        windows=(Window(start_minute=60, minutes=90, days=(0, 6)),), battery_percent=40, unmetered=True
    ),
)  # fmt: skip
IDENTITY = Identity(
    "dev-1", b"\x00pem\xff", b"ca", "host:1", "host:2", b"{}", "broker:3", "broker:4", b"other ca"
)
TASK = Task(
    id="0f", run="digits-r1", round=3, phase="train", model="digits", version=3,
    state=task_machine.State.SENDING, since=1700000000.25, resumptions=1, rested=True,
    arrays="d" * 64, reply="e" * 64, reply_bytes=900, carry="f" * 64, code="not-finite",
    detail="连接", examples=40,
)  # fmt: skip
JOURNAL = Journal(
    task=TASK, carries=(Carry("digits-r0", "1" * 64), Carry("digits-r1", "2" * 64)),
    rest=Rest(1700000000.5, 1700000100.5), trained=1700000000.75, pace=0.125,
    paced="digits",
)  # fmt: skip
Opener = Callable[..., DeviceStore]


def reopened(store: DeviceStore, opened: Opener) -> DeviceStore:
    store.close()
    return opened()
