"""One value of each kind that the controller stores of federated runs."""

from controller.federated.exchange import PhaseRecord
from controller.federated.readiness import DeviceReadiness
from controller.federated.run import Run, RunState
from controller.federated.task import ArraysReference, Encoding, Phase, Task, node_id, task_id

RUN = Run(
    id="digits-r1",
    number=2**64 - 3,
    model="digits",
    version=3,
    manifest_sha256="m" * 64,
    file='[run]\nmodel = "digits/3"\n',
    state=RunState.RUNNING,
    rounds=5,
    created_ms=2**41,
    created_by="ada",
    reasons=("drift on 9 of 10 devices",),
)
TASK = Task(
    id=task_id("digits-r1", 1, node_id("dev-1")),
    run="digits-r1",
    step=1,
    round=1,
    phase=Phase.TRAIN,
    node=node_id("dev-1"),
    device="dev-1",
    message=b"\x00message",
    arrays=(ArraysReference("arrays", "a" * 64, 1000),),
    encoding=Encoding.INT8_STEP,
    posted_ms=2**41,
    deadline_ms=2**41 + 60_000,
    reply_bytes=4_000,
)
PHASE = PhaseRecord(
    step=1,
    round=1,
    phase=Phase.TRAIN,
    eligible=8,
    selected=6,
    admitted=3,
    declined=1,
    refused=1,
    surplus=0,
    silent=1,
    reasons={"busy": 1, "norm": 1},
    metrics={"loss": 0.25},
    bytes_down=2**33,
    bytes_up=700,
    began_ms=2**41,
    ended_ms=2**41 + 9,
    why="deadline",
)
READY = DeviceReadiness(
    device="dev-1",
    model="digits",
    version=3,
    manifest_sha256="m" * 64,
    eligible=True,
    examples=200,
    held_out=50,
    told_ms=2**41,
)
