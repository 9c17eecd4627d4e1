"""What a device knows of what it can learn, and of how things are."""

from datetime import UTC, datetime, timedelta

from msgspec.structs import replace

from agent.errors import HashMismatch
from agent.federated.record import Journal, Rest
from agent.federated.retention import Retention
from agent.federated.surroundings import Surroundings
from agent.federated.task.knowledge import Knowledge
from agent.install.gates import Circumstances
from protos.documents import sha256
from protos.manifest import Role
from simulations.memory_examples import MemoryExamples
from tests.agent.federated.learners import HALF, classifier, clouds, keep, with_step
from tests.agent.federated.world import START, HandClock


def test_a_version_with_a_training_step_is_a_subject_with_its_examples() -> None:
    learner = classifier()
    examples = MemoryExamples(HALF)
    keep(examples, learner, *clouds(40))
    knowledge = Knowledge(
        lambda: {"learner": learner.manifest}, lambda digest: learner.blobs[digest], examples
    )

    subject = knowledge.subjects()["learner"]

    held = examples.held("learner", learner.layout)
    assert subject.has_step
    assert subject.spec == learner.spec
    assert subject.ground.trainable
    assert (subject.ground.held, subject.ground.held_out) == (held.training, held.held_out)
    assert held.examples == 40


def test_a_version_without_a_step_or_with_a_foreign_one_says_why_not() -> None:
    learner = classifier()
    files = {role: file for role, file in learner.manifest.files.items() if role != Role.TRAIN_STEP}
    bare = replace(learner.manifest, files=files)
    foreign = with_step(learner.manifest, b"no ONNX file")
    blobs = {sha256(b"no ONNX file"): b"no ONNX file"}
    knowledge = Knowledge(
        lambda: {"bare": bare, "foreign": foreign}, blobs.__getitem__, MemoryExamples(Retention())
    )

    found = knowledge.subjects()

    assert not found["bare"].has_step
    assert found["foreign"].has_step
    assert not any(one.ground.trainable for one in found.values())
    assert "training step" in found["foreign"].ground.objection


def test_a_step_is_read_once_and_again_if_the_disk_could_not_give_it() -> None:
    learner = classifier()
    reads: list[str] = []

    def read(digest: str) -> bytes:
        reads.append(digest)
        if len(reads) == 1:
            raise HashMismatch("the disk has changed it")
        return learner.blobs[digest]

    knowledge = Knowledge(lambda: {"learner": learner.manifest}, read, MemoryExamples(Retention()))
    trainable = [knowledge.subjects()["learner"].ground.trainable for _ in range(4)]

    assert trainable == [False, True, True, True]
    assert len(reads) == 2


def test_surroundings_say_how_busy_inference_was_lately() -> None:
    clock, seconds = HandClock(), {("digits", 3): 0.0}
    surroundings = Surroundings(Circumstances, lambda: seconds, 2, clock)
    busy = []
    for _ in range(12):
        clock.go(5)
        seconds["digits", 3] += 5.0  # one of two threads is always at it
        busy.append(surroundings.condition(Journal()).busy)
    for _ in range(12):
        clock.go(5)
        busy.append(surroundings.condition(Journal()).busy)

    assert busy[0] == busy[11] == 0.5
    assert busy[12] < 0.5
    assert busy[-1] == 0.0


def test_surroundings_say_how_long_it_rests() -> None:
    clock = HandClock()
    surroundings = Surroundings(Circumstances, dict, 1, clock)
    now = START.timestamp()
    journal = Journal(rest=Rest(now - 10, now + 50), trained=now - 30)

    condition = surroundings.condition(journal)

    assert (condition.rests, condition.since_trained) == (50, 30)
    assert condition.circumstances.now == datetime(2030, 1, 1, 12, tzinfo=UTC)
    assert surroundings.condition(Journal()).since_trained is None
    later = Journal(trained=(START + timedelta(days=1)).timestamp())
    assert surroundings.condition(later).since_trained is None, "the clock was set back"
