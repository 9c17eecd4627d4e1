"""What is done for one task, from what it asks for to the reply. The loop says when, and for how long.

Every error that is raised here says why the task can't be done: the loop declines it with that.
"""

import hashlib
import logging
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

from agent.errors import EndlessData, HashMismatch, Refused, TransportError
from agent.federated.eligibility import Condition, Terms, objection_to, objection_to_going_on
from agent.federated.errors import (
    KeepsInterrupting,
    NotEligible,
    OtherVersion,
    ParametersLost,
    ParametersUnfit,
    ReplyTooLarge,
    TaskUnfit,
    TooLate,
)
from agent.federated.ledger.actions import Offload
from agent.federated.machine import MAX_RESUMPTIONS
from agent.federated.order import Order, Request, message_of, plan_of, read_request
from agent.federated.parameters import Parameters
from agent.federated.record import TRAIN, Journal
from agent.federated.reply import evaluate_reply, train_reply
from agent.federated.task.subject import Subject, Subjects
from agent.federated.trainer import Bounds, EvaluateJob, Plan, Trainer, TrainJob
from agent.federated.update import (
    Shield,
    as_floats,
    as_steps,
    most_bytes,
    read_carry,
    read_parameters,
    write_parameters,
)
from agent.store.blob_store import BlobStore
from protos.v1 import federated_pb2

log = logging.getLogger(__name__)

LEAST_SECONDS: Final = 0.5
"""With less than that left, nothing is begun."""

HOPELESS: Final = 2.0
"""A training that took so many times what is left, at the pace of the last one, is not begun."""


class Uplink(Protocol):
    """The way to the controller, over whatever link is live."""

    def fetch(self, sha256: str, length: int) -> Awaitable[None]:
        """Brings a blob into the blob store; see ``agent.install.ports.Fetcher``."""
        ...

    def reply(self, piece: federated_pb2.ReplyPiece) -> Awaitable[federated_pb2.ReplyReceipt]:
        """The controller's receipt for a piece of a reply.

        Raises:
            TransportError: no answer; Refused: the controller said no.
        """
        ...


@dataclass(frozen=True, slots=True)
class Means:
    """What the work needs of the world.

    Attributes:
        blobs: of federated runs only: nobody else's are in there.
        subjects: what can be learnt here. Called off the event loop.
        condition: how the device is now, with this journal. Called off the event loop.
        shield: see ``agent.federated.update``.
    """

    blobs: BlobStore
    uplink: Uplink
    trainer: Trainer
    subjects: Callable[[], Subjects]
    condition: Callable[[Journal], Condition]
    terms: Terms
    bounds: Bounds
    shield: Shield
    offload: Offload


@dataclass(frozen=True, slots=True)
class Job:
    """A task that can be done: what it asks for, and of what."""

    request: Request
    subject: Subject


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came of a task.

    Attributes:
        reply: serialised.
        carry: serialised, what rounding has left; None where nothing is rounded.
        examples: that it was done on.
        pace: seconds of a step, with what it waited for inference; 0 if nothing was trained.
        words: for people.
    """

    reply: bytes
    carry: bytes | None = None
    examples: int = 0
    pace: float = 0.0
    words: str = ""


async def examine(means: Means, journal: Journal, order: Order, seconds: float) -> Job:
    """The job, if the device takes it on with so many seconds left.

    Raises:
        TaskUnfit, OtherVersion, NotEligible, ParametersUnfit, KeepsInterrupting, TooLate: why not.
    """
    request = read_request(order)
    task = journal.task
    if task is not None and task.resumptions > MAX_RESUMPTIONS:
        raise KeepsInterrupting(f"the agent has ended {task.resumptions} times in the middle of it")
    if seconds < LEAST_SECONDS:
        raise TooLate(f"{max(seconds, 0.0):.1f} s are left")
    subject = (await means.offload(means.subjects)).get(order.model)
    if subject is None or subject.manifest.digest != order.told.manifest_sha256:
        here = "nothing" if subject is None else subject.manifest.reference
        raise OtherVersion(f"{order.model}/{order.version} is asked for; {here} answers here")
    condition = await means.offload(partial(means.condition, journal))
    objection = objection_to(request.phase, means.terms, condition, subject.ground)
    if objection is not None:
        raise NotEligible(objection.code, objection.words)
    most = most_bytes(subject.spec)
    if request.length > most:
        raise ParametersUnfit(f"parameters: {request.length} bytes; {most} at most")
    _check_shown(request, order, subject, means.terms)
    _check_time(journal, request, order, subject, seconds)
    return Job(request, subject)


def _check_shown(request: Request, order: Order, subject: Subject, terms: Terms) -> None:
    """An update of one step over one example shows that example, however many there are."""
    if request.phase != TRAIN:
        return
    plan, held = plan_of(request, order.id), subject.ground.held
    shown = min(held, plan.batch * steps_of(plan, held))
    if shown < terms.examples:
        raise TaskUnfit(
            f"config 'max-steps': an update of {shown} examples; {terms.examples} are asked for"
        )


def _check_time(
    journal: Journal, request: Request, order: Order, subject: Subject, seconds: float
) -> None:
    if request.phase != TRAIN:
        return
    needed = journal.pace_of(order.model) * steps_of(
        plan_of(request, order.id), subject.ground.held
    )
    if needed > HOPELESS * seconds:
        raise TooLate(f"{seconds:.0f} s are left; at the last pace it takes {needed:.0f} s")


def steps_of(plan: Plan, examples: int) -> int:
    """How many steps the plan has over so many examples."""
    steps = plan.epochs * math.ceil(examples / plan.batch)
    return min(steps, plan.most_steps) if plan.most_steps else steps


async def look_again(means: Means, journal: Journal) -> None:
    """Returns if what was begun may go on.

    Raises:
        NotEligible: somebody has pulled the plug, or the like.
    """
    condition = await means.offload(partial(means.condition, journal))
    objection = objection_to_going_on(means.terms, condition)
    if objection is not None:
        raise NotEligible(objection.code, objection.words)


async def bring(means: Means, job: Job) -> None:
    """Returns when the parameters are here.

    Raises:
        TransportError: they did not come, or not all of them: try again.
        ParametersLost: they never will.
        DiskFull: no room.
    """
    sha256, length = job.request.sha256, job.request.length
    if await means.offload(partial(means.blobs.has, sha256)):
        return
    try:
        await means.uplink.fetch(sha256, length)
    except (Refused, HashMismatch, EndlessData) as error:
        if isinstance(error, Refused) and error.retry_after_ms > 0:
            raise TransportError(f"{sha256[:12]}: {error.detail}") from error
        raise ParametersLost(f"{sha256[:12]}: {error.detail}") from error


async def carried_out(means: Means, journal: Journal, order: Order, job: Job) -> Result:
    """What came of the job; its parameters are here.

    Raises:
        AgentError: what ``Trainer`` raises, or the update can't be sent.
    """
    read = partial(_read, means, job)
    parameters = await means.offload(read)
    if job.request.phase == TRAIN:
        return await _trained(means, journal, order, job, parameters)
    found = await means.trainer.evaluate(
        EvaluateJob(
            manifest=job.subject.manifest,
            parameters=parameters,
            fewest_held_out=max(1, means.bounds.fewest_held_out),
        )
    )
    reply = evaluate_reply(message_of(order), found)
    words = f"loss {found.loss or 0.0:.4g} on {found.examples} examples held out"
    return _sized(order, Result(reply=reply, examples=found.examples, words=words))


def _read(means: Means, job: Job) -> Parameters:
    return read_parameters(means.blobs.read(job.request.sha256), job.subject.spec)


async def _trained(
    means: Means, journal: Journal, order: Order, job: Job, parameters: Parameters
) -> Result:
    plan = plan_of(job.request, order.id)
    found = await means.trainer.train(
        TrainJob(
            manifest=job.subject.manifest, parameters=parameters, plan=plan, bounds=means.bounds
        )
    )

    def encode() -> Result:
        carry = _carry(means, journal, order, parameters) if job.request.steps else {}
        update = (
            as_steps(parameters, found.parameters, carry, means.shield)
            if job.request.steps
            else as_floats(parameters, found.parameters, means.shield)
        )
        return Result(
            reply=train_reply(message_of(order), job.request.key, update.record, found),
            carry=write_parameters(update.carry) if update.carry else None,
            examples=found.examples,
            pace=(found.seconds + found.waited_seconds) / max(1, found.steps),
            words=f"{found.steps} steps on {found.examples} examples, loss {found.last_loss:.4g}",
        )

    return _sized(order, await means.offload(encode))


def _carry(means: Means, journal: Journal, order: Order, parameters: Parameters) -> Parameters:
    """What the run's last update has left; nothing if the disk has lost it: that costs little."""
    sha256 = journal.carry_of(order.run)
    if not sha256 or not means.blobs.has(sha256):
        return {}
    try:
        return read_carry(means.blobs.read(sha256), parameters)
    except HashMismatch as error:
        log.warning("federated.carry-lost run=%s detail=%s", order.run, error.detail)
        return {}


def _sized(order: Order, result: Result) -> Result:
    if order.reply_bytes and len(result.reply) > order.reply_bytes:
        raise ReplyTooLarge(f"{len(result.reply)} bytes; {order.reply_bytes} are allowed")
    return result


def kept(blobs: BlobStore, data: bytes) -> str:
    """SHA-256 of the data, which is durable now.

    Raises:
        DiskFull, StoreError: it is not.
    """
    sha256 = hashlib.sha256(data).hexdigest()
    if not blobs.has(sha256):
        writer = blobs.writer(sha256, len(data))
        try:
            writer.write(data[writer.offset :])
            writer.finish()
        finally:
            writer.close()
    return sha256
