"""No row of an example is in what a device sends: not in an update, a count, or the words of an error.

That no module which talks to the controller can even reach one is a contract in ``pyproject.toml``.
"""

from collections.abc import Iterator

import pytest

from agent.errors import AgentError
from agent.federated.errors import NotFinite, ParametersUnfit, TooFewExamples
from agent.federated.evaluation import Evaluation
from agent.federated.reply import FlowerError, error_reply, evaluate_reply, train_reply
from agent.federated.trainer import Bounds, EvaluateJob, Plan, TrainJob
from agent.federated.update import as_floats, as_steps
from protos.flower import message_pb2
from simulations.memory_examples import MemoryExamples
from simulations.memory_trainer import MemoryTrainer
from tests.agent.federated.learners import HALF, Floats, Learner, classifier, clouds, keep

REQUEST = message_pb2.Message(metadata=message_pb2.Metadata(message_id="m1", run_id=7))


@pytest.fixture(scope="module")
def learner() -> Learner:
    return classifier()


def traces(rows: Floats) -> Iterator[bytes]:
    """Every value of every row: as bytes either way, and as people write it."""
    for value in rows.ravel():
        yield from (value.astype("<f4").tobytes(), value.astype(">f4").tobytes())
        yield from (value.astype("<f8").tobytes(), f"{value:.4g}".encode())


async def test_replies_have_parameters_and_counts_and_no_rows(learner: Learner) -> None:
    x, truth = clouds(200)
    store = MemoryExamples(HALF)
    keep(store, learner, x, truth)
    trainer = MemoryTrainer(learner.blobs.__getitem__, store)
    job = TrainJob(manifest=learner.manifest, parameters=learner.parameters, plan=Plan(epochs=2))

    result = await trainer.train(job)
    counts = await trainer.evaluate(
        EvaluateJob(manifest=learner.manifest, parameters=result.parameters)
    )

    told = b"".join(
        [
            train_reply(REQUEST, "arrays", as_floats(learner.parameters, result.parameters).record, result),
            train_reply(REQUEST, "arrays", as_steps(learner.parameters, result.parameters, {}).record, result),
            evaluate_reply(REQUEST, counts),
        ]
    )  # fmt: skip
    assert [trace for trace in traces(x) if len(trace) > 3 and trace in told] == []
    assert len(told) < 3 * 4 * sum(one.size for one in learner.parameters.values()) + 4000


async def test_the_words_of_a_decline_name_limits_and_no_values(learner: Learner) -> None:
    x, truth = clouds(40)
    store = MemoryExamples(HALF)
    keep(store, learner, x, truth)
    trainer = MemoryTrainer(learner.blobs.__getitem__, store)
    good = learner.parameters
    jobs = [
        (TooFewExamples, TrainJob(manifest=learner.manifest, parameters=good, bounds=Bounds(fewest_examples=99))),
        (NotFinite, TrainJob(manifest=learner.manifest, parameters=good, plan=Plan(learning_rate=1e38))),
        (ParametersUnfit, TrainJob(manifest=learner.manifest, parameters={"w1": good["w1"]})),
    ]  # fmt: skip

    for error, job in jobs:
        with pytest.raises(error) as declined:
            await trainer.train(job)
        told = said(declined.value)
        assert [trace for trace in traces(x) if len(trace) > 3 and trace in told] == []


def said(error: AgentError) -> bytes:
    return error_reply(REQUEST, FlowerError.APP_RAISED, error.code, error.detail)


def test_an_evaluation_can_hold_nothing_but_numbers() -> None:
    for value in Evaluation().metrics().values():
        assert isinstance(value, int | float)
