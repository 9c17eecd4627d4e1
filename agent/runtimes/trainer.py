"""Trains and evaluates in a process of its own, which stands still while requests are answered."""

import asyncio
import contextlib
import logging
import math
import os
import signal
import time
from asyncio.subprocess import Process
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeVar

import msgspec
import numpy as np

from agent import errors as agent_errors
from agent.errors import AgentError, NoProcess
from agent.federated import errors
from agent.federated.errors import (
    InferenceFirst,
    OverBudget,
    StepRefused,
    TrainerCrashed,
    TrainingInterrupted,
)
from agent.federated.evaluation import Evaluation
from agent.federated.examples import ExampleStore, Part
from agent.federated.layout import Layout, layout_of
from agent.federated.parameters import Parameters, check_parameters
from agent.federated.rejection import check_held_out, check_training
from agent.federated.step_file import StepFile, read_step
from agent.federated.tally import Spent
from agent.federated.trainer import Bounds, Budget, EvaluateJob, Plan, TrainJob, TrainResult
from agent.federated.yielding import Pace, Pressure, asked, looked
from agent.runtimes.child import end_child, resident_bytes, send, signal_name, start_child
from agent.runtimes.trainer_job import LENGTH, LINE_BYTES, Job, Outcome, Started
from protos.limits import MIB
from protos.manifest import Manifest, Role

log = logging.getLogger(__name__)

NICENESS: Final = 10
POLL_SECONDS: Final = 0.1
CPU_SLACK_SECONDS: Final = 10.0
_BY_CODE: Final[dict[str, type[AgentError]]] = {
    one.code: one
    for one in (
        agent_errors.HashMismatch,
        errors.NotFinite,
        errors.OverBudget,
        errors.ParametersUnfit,
        errors.StepRefused,
        errors.TooFewExamples,
        errors.WorseOnHoldOut,
    )
}
_FOREIGN_SIGNALS: Final = {signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}

M = TypeVar("M", Started, Outcome)


@dataclass(frozen=True, slots=True)
class _Task:
    """A job, and what the version's files say of it. ``plan`` is None if it only evaluates."""

    manifest: Manifest
    parameters: Parameters
    plan: Plan | None
    bounds: Bounds
    file: StepFile
    layout: Layout


@dataclass(frozen=True, slots=True)
class _Done:
    outcome: Outcome
    parameters: Parameters
    pace: Pace
    ended: float


class ProcessTrainer:
    """See ``agent.federated.trainer.Trainer``.

    Args:
        path_of: where the blob of a digest lies. The process checks the digest of what it reads.
        examples: what it learns from.
        budget: what it may take of the device.
        pressure: what inference needs now.
        quiet_seconds: it goes on when nothing has been asked for so long.

    Attributes:
        spent: what its processes took, those that failed or were cancelled, too.
    """

    def __init__(
        self,
        path_of: Callable[[str], Path],
        examples: ExampleStore,
        budget: Budget,
        pressure: Pressure,
        quiet_seconds: float = 0.02,
    ) -> None:
        self._path_of = path_of
        self._examples = examples
        self._budget = budget
        self._pressure = pressure
        self._quiet_seconds = quiet_seconds
        self._turn = asyncio.Lock()
        self.spent = Spent()

    async def train(self, job: TrainJob) -> TrainResult:
        """See ``Trainer``."""
        plan = replace(job.plan, most_steps=_fewer(job.plan.most_steps, self._budget.steps))
        done = await self._carry_out(job.manifest, job.parameters, plan, job.bounds)
        outcome = done.outcome
        return TrainResult(
            parameters=done.parameters,
            steps=outcome.steps,
            examples=outcome.examples,
            first_loss=outcome.first_loss,
            last_loss=outcome.last_loss,
            before=outcome.before,
            after=outcome.after,
            seconds=done.pace.ran_until(done.ended),
            waited_seconds=done.pace.waited_until(done.ended),
            peak_bytes=outcome.peak_bytes,
        )

    async def evaluate(self, job: EvaluateJob) -> Evaluation:
        """See ``Trainer``."""
        bounds = Bounds(fewest_held_out=max(1, job.fewest_held_out))
        done = await self._carry_out(job.manifest, job.parameters, None, bounds)
        return done.outcome.before

    async def _carry_out(
        self, manifest: Manifest, parameters: Parameters, plan: Plan | None, bounds: Bounds
    ) -> _Done:
        async with self._turn:
            file, layout = await asyncio.to_thread(self._read, manifest)
            check_parameters(file.spec, parameters)
            held = await asyncio.to_thread(self._examples.held, manifest.model, layout)
            check_held_out(bounds, held.held_out)  # no process is started in vain
            if plan is not None:
                check_training(bounds, held.training)
            task = _Task(manifest, parameters, plan, bounds, file, layout)
            child = await _started(manifest)
            try:
                return await self._attended(child, task)
            finally:
                await end_child(child)

    def _read(self, manifest: Manifest) -> tuple[StepFile, Layout]:
        listed = manifest.files.get(Role.TRAIN_STEP)
        if listed is None:
            raise StepRefused(f"{manifest.reference}: the version has no training step")
        try:
            file = read_step(self._path_of(listed.sha256).read_bytes())
        except OSError as error:
            raise agent_errors.HashMismatch(
                f"{manifest.reference}: training step: {error.strerror}"
            ) from error
        return file, layout_of(manifest, file.spec, file.classes)

    # --- Attending to the process -----------------------------------------------------------------

    async def _attended(self, child: Process, task: _Task) -> _Done:
        """What the process answers; it stands still while requests are under way."""
        pacer = _Pacer(child, self._pressure, self._quiet_seconds)
        memory = _Memory()
        talking = asyncio.ensure_future(self._converse(child, task, memory))
        try:
            while not talking.done():
                await asyncio.wait({talking}, timeout=pacer.look_again_after())
                pacer.look()
                if not talking.done():
                    self._hold_to_budget(task, pacer, memory.taken(child))
            outcome, parameters = talking.result()
            return _Done(outcome, parameters, pacer.pace, time.monotonic())
        finally:
            pacer.close()
            self.spent.add(pacer.pace, time.monotonic(), pacer.stops)
            talking.cancel()
            await asyncio.gather(talking, return_exceptions=True)

    def _hold_to_budget(self, task: _Task, pacer: "_Pacer", taken: int) -> None:
        budget, now = self._budget, time.monotonic()
        if pacer.pace.ran_until(now) > budget.seconds:
            raise OverBudget(f"{task.manifest.reference}: not done after {budget.seconds:g} s")
        if pacer.pace.waited_until(now) > budget.waiting_seconds:
            raise InferenceFirst(
                f"{task.manifest.reference}: requests kept it waiting for "
                f"{budget.waiting_seconds:g} s"
            )
        if taken > budget.memory_bytes:
            raise OverBudget(
                f"{task.manifest.reference}: training took {taken / MIB:.0f} MiB; the budget is "
                f"{budget.memory_bytes / MIB:.0f} MiB"
            )

    async def _converse(
        self, child: Process, task: _Task, memory: "_Memory"
    ) -> tuple[Outcome, Parameters]:
        if child.stdin is None or child.stdout is None:
            raise TrainerCrashed(f"{task.manifest.reference}: the process has no pipes")
        telling = asyncio.ensure_future(self._tell(child.stdin, task))
        hearing = asyncio.ensure_future(_hear(child, child.stdout, task, memory))
        try:
            await asyncio.wait({telling, hearing}, return_when=asyncio.FIRST_EXCEPTION)
            if telling.done():
                telling.result()  # raises why the examples could not be read
            return hearing.result()
        finally:
            telling.cancel()
            hearing.cancel()
            await asyncio.gather(telling, hearing, return_exceptions=True)

    async def _tell(self, stdin: asyncio.StreamWriter, task: _Task) -> None:
        with contextlib.suppress(ConnectionError):  # it is dead already: reading says so
            stdin.write(msgspec.json.encode(self._job(task)) + b"\n")
            for one in task.file.spec.parameters:
                stdin.write(task.parameters[one.name].astype("<f4", copy=False).tobytes())
                await stdin.drain()
            if task.plan is not None:
                await self._tell_rows(stdin, task, Part.TRAINING)
            stdin.write(LENGTH.pack(0))
            await self._tell_rows(stdin, task, Part.HELD_OUT)
            stdin.write(LENGTH.pack(0))
            await stdin.drain()

    async def _tell_rows(self, stdin: asyncio.StreamWriter, task: _Task, part: Part) -> None:
        rows = self._examples.rows(task.manifest.model, task.layout, part)
        while piece := await asyncio.to_thread(next, rows, b""):
            stdin.write(LENGTH.pack(len(piece)) + piece)
            await stdin.drain()

    def _job(self, task: _Task) -> Job:
        manifest, budget = task.manifest, self._budget
        listed = manifest.files[Role.TRAIN_STEP]
        return Job(
            parent=os.getpid(),
            reference=manifest.reference,
            step_path=str(self._path_of(listed.sha256).absolute()),
            step_sha256=listed.sha256,
            model_sha256=manifest.files[Role.MODEL].sha256,
            layout=task.layout,
            plan=task.plan,
            bounds=task.bounds,
            threads=budget.threads,
            seconds=budget.seconds * budget.threads + CPU_SLACK_SECONDS,
            memory_bytes=budget.memory_bytes,
        )


@dataclass(slots=True)
class _Memory:
    """What the process had before it loaded anything; None until it has said so."""

    before: int | None = None

    def taken(self, child: Process) -> int:
        """What it has now beyond that, in bytes."""
        return 0 if self.before is None else resident_bytes(child) - self.before


class _Pacer:
    """Stops the process for a request at once, and lets it go on when it is quiet."""

    def __init__(self, child: Process, pressure: Pressure, quiet_seconds: float) -> None:
        self._child = child
        self._pressure = pressure
        self._quiet_seconds = quiet_seconds
        self.pace = Pace(running=True, since=time.monotonic())
        self.stops = 0
        self._end = pressure.watch(self._on_request)
        self.look()

    def look_again_after(self) -> float:
        """Seconds until something may have to be done, if no request comes."""
        return POLL_SECONDS if self.pace.running else self._quiet_seconds

    def look(self) -> None:
        """Lets it go on if it may."""
        self._keep(
            looked(self.pace, self._pressure.under_way(), time.monotonic(), self._quiet_seconds)
        )

    def close(self) -> None:
        """No request is of interest any more."""
        self._end()

    def _on_request(self) -> None:
        self._keep(asked(self.pace, time.monotonic()))

    def _keep(self, pace: Pace) -> None:
        if pace.running != self.pace.running:
            send(self._child, signal.SIGCONT if pace.running else signal.SIGSTOP)
            self.stops += not pace.running
        self.pace = pace


async def _started(manifest: Manifest) -> Process:
    try:
        child = await start_child("agent.runtimes.trainer_process", LINE_BYTES)
    except OSError as error:
        raise NoProcess(f"{manifest.reference}: no process to train in: {error}") from error
    with contextlib.suppress(OSError):  # it has ended already: reading says so
        os.setpriority(os.PRIO_PROCESS, child.pid, NICENESS)
    return child


async def _hear(
    child: Process, stdout: asyncio.StreamReader, task: _Task, memory: _Memory
) -> tuple[Outcome, Parameters]:
    memory.before = (await _message(child, stdout, Started, task)).resident_bytes
    outcome = await _message(child, stdout, Outcome, task)
    if outcome.code:
        log.warning("training.failed version=%s code=%s", task.manifest.reference, outcome.code)
        raise _BY_CODE.get(outcome.code, TrainerCrashed)(outcome.detail)
    if task.plan is None:
        return outcome, {}
    return outcome, await _parameters(stdout, task)


async def _message(child: Process, stdout: asyncio.StreamReader, kind: type[M], task: _Task) -> M:
    try:
        line = await stdout.readline()
        if line:
            return msgspec.json.decode(line, type=kind)
    except ValueError as error:  # longer than the limit, or no such message
        raise TrainerCrashed(f"{task.manifest.reference}: the process babbled") from error
    raise _died(await child.wait(), task.manifest.reference)


async def _parameters(stdout: asyncio.StreamReader, task: _Task) -> Parameters:
    found = {}
    try:
        for one in task.file.spec.parameters:
            data = await stdout.readexactly(4 * math.prod(one.shape))
            found[one.name] = np.frombuffer(data, "<f4").astype(np.float32).reshape(one.shape)
    except asyncio.IncompleteReadError as error:
        raise TrainerCrashed(f"{task.manifest.reference}: the process broke off") from error
    return found


def _died(status: int, reference: str) -> AgentError:
    if status < 0 and -status in _FOREIGN_SIGNALS:
        return TrainingInterrupted(
            f"{reference}: the process was ended from outside by {signal_name(-status)}"
        )
    if status == -signal.SIGXCPU:
        return OverBudget(f"{reference}: training took more processor time than it may")
    if status < 0:
        return TrainerCrashed(f"{reference}: the process was ended by {signal_name(-status)}")
    return TrainerCrashed(f"{reference}: the process ended with status {status} and no result")


def _fewer(steps: int, most: int) -> int:
    """The smaller bound; 0 is none."""
    return min(steps, most) if steps and most else steps or most
