"""What a device says of its readiness, and whether that is news to who has heard it before."""

from dataclasses import dataclass
from typing import Final

import msgspec

from agent.federated.eligibility import Condition, Objection, Terms, objection_to
from agent.federated.record import TRAIN
from agent.federated.task.subject import Subject, Subjects
from protos.v1 import federated_pb2

COUNTS_SECONDS: Final = 60.0
"""Counts that have changed a little are told so often."""

MUCH: Final = 1.25
"""Counts that have grown or shrunk by that factor are told at once."""


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """Of one model.

    Attributes:
        code: why the device does not train it now; empty if it would.
        words: the same for people.
        examples: in the training part; ``held_out``: kept from it.
    """

    model: str
    version: int
    manifest_sha256: str
    code: str
    words: str
    examples: int
    held_out: int

    @property
    def stand(self) -> tuple[str, str, str]:
        """What must be told at once when it changes."""
        return self.model, self.manifest_sha256, self.code


@dataclass(frozen=True, slots=True)
class Heard:
    """What the controller has heard last, and when, in monotonic seconds."""

    models: tuple[Told, ...]
    at: float


def told(subjects: Subjects, terms: Terms, condition: Condition) -> tuple[Told, ...]:
    """Of every model that answers here and has a training step, by name."""
    return tuple(
        _told(subject, objection_to(TRAIN, terms, condition, subject.ground))
        for _, subject in sorted(subjects.items())
        if subject.has_step
    )


def _told(subject: Subject, objection: Objection | None) -> Told:
    manifest = subject.manifest
    return Told(
        model=manifest.model,
        version=manifest.version,
        manifest_sha256=manifest.digest,
        code=objection.code if objection else "",
        words=objection.words if objection else "",
        examples=subject.ground.held,
        held_out=subject.ground.held_out,
    )


def is_news(heard: Heard | None, models: tuple[Told, ...], now: float) -> bool:
    """Whether the controller should hear it; ``now`` in monotonic seconds."""
    if heard is None:
        return True
    if [one.stand for one in heard.models] != [one.stand for one in models]:
        return True
    if all(not _much(a, b) for a, b in zip(heard.models, models, strict=True)):
        return heard.models != models and now - heard.at >= COUNTS_SECONDS
    return True


def _much(one: Told, other: Told) -> bool:
    pairs = ((one.examples, other.examples), (one.held_out, other.held_out))
    return any(max(pair) > MUCH * max(1, min(pair)) for pair in pairs)


def message(models: tuple[Told, ...]) -> federated_pb2.Readiness:
    """As it goes to the controller."""
    return federated_pb2.Readiness(
        models=[
            federated_pb2.ModelReadiness(
                model=one.model,
                version=one.version,
                manifest_sha256=one.manifest_sha256,
                eligible=not one.code,
                reason=one.code,
                examples=one.examples,
                held_out=one.held_out,
            )
            for one in models
        ]
    )
