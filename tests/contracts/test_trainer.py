"""What every ``Trainer`` promises."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from agent.errors import HashMismatch
from agent.federated.errors import (
    NotFinite,
    ParametersUnfit,
    StepRefused,
    TooFewExamples,
    WorseOnHoldOut,
)
from agent.federated.evaluation import BINS
from agent.federated.examples import ExampleStore
from agent.federated.trainer import Bounds, Budget, EvaluateJob, Plan, Trainer, TrainJob
from agent.runtimes.trainer import ProcessTrainer
from agent.serving.workers import Workers
from protos.manifest import File, Role
from protos.train_step import Loss, Optimizer
from simulations.memory_examples import MemoryExamples
from simulations.memory_trainer import MemoryTrainer
from tests.agent.federated.learners import (
    HALF,
    Learner,
    classifier,
    clouds,
    keep,
    linear,
    with_step,
)

ROWS = 300
Maker = Callable[[Learner], Trainer]


@pytest.fixture(scope="module")
def learner() -> Learner:
    return classifier(optimizer=Optimizer.MOMENTUM, proximal=True, clip_norm=5.0)


@pytest.fixture
def examples(learner: Learner) -> ExampleStore:
    store = MemoryExamples(HALF)
    keep(store, learner, *clouds(ROWS))
    return store


@pytest.fixture(params=["process", "memory"])
def made(request: pytest.FixtureRequest, examples: ExampleStore, tmp_path: Path) -> Maker:
    def process(learner: Learner) -> Trainer:
        for digest, data in learner.blobs.items():
            (tmp_path / digest).write_bytes(data)
        return ProcessTrainer(tmp_path.joinpath, examples, Budget(), Workers(1))

    def memory(learner: Learner) -> Trainer:
        return MemoryTrainer(learner.blobs.__getitem__, examples)

    return process if request.param == "process" else memory


PLAN = Plan(epochs=4, batch=32, learning_rate=0.1, momentum=0.5, proximal=0.01, seed=7)


async def test_it_learns_and_tells_how_good_it_was_and_is(made: Maker, learner: Learner) -> None:
    job = TrainJob(manifest=learner.manifest, parameters=learner.parameters, plan=PLAN)

    result = await made(learner).train(job)

    assert list(result.parameters) == [one.name for one in learner.spec.parameters]
    assert result.examples + result.after.examples == ROWS
    assert result.steps == 4 * -(-result.examples // 32)
    assert result.last_loss < 0.5 * result.first_loss
    assert (result.before.accuracy or 0) < 0.6
    assert (result.after.accuracy or 0) > 0.85
    assert sum(result.after.confusion) == sum(result.after.confidences) == result.after.examples
    assert len(result.after.confidences) == BINS
    assert result.before.metrics().keys() == result.after.metrics().keys()


async def test_every_trainer_finds_the_same_bits_every_time(
    made: Maker, learner: Learner, examples: ExampleStore
) -> None:
    job = TrainJob(manifest=learner.manifest, parameters=learner.parameters, plan=PLAN)
    reference = await MemoryTrainer(learner.blobs.__getitem__, examples).train(job)
    other = await MemoryTrainer(learner.blobs.__getitem__, examples).train(
        TrainJob(
            manifest=learner.manifest,
            parameters=learner.parameters,
            plan=Plan(epochs=4, batch=32, learning_rate=0.1, momentum=0.5, proximal=0.01, seed=8),
        )
    )

    result = await made(learner).train(job)

    for name, array in reference.parameters.items():
        assert result.parameters[name].tobytes() == array.tobytes()
    assert result.after == reference.after
    assert any(
        (other.parameters[one] != reference.parameters[one]).any() for one in other.parameters
    )


async def test_it_evaluates_what_it_is_given(made: Maker, learner: Learner) -> None:
    trainer = made(learner)
    trained = await trainer.train(
        TrainJob(manifest=learner.manifest, parameters=learner.parameters, plan=PLAN)
    )

    found = await trainer.evaluate(
        EvaluateJob(manifest=learner.manifest, parameters=trained.parameters)
    )

    assert found == trained.after


async def test_a_bound_of_steps_ends_the_training_as_if_it_were_done(
    made: Maker, learner: Learner
) -> None:
    plan = Plan(epochs=100, most_steps=3, learning_rate=0.1)

    result = await made(learner).train(
        TrainJob(manifest=learner.manifest, parameters=learner.parameters, plan=plan)
    )

    assert result.steps == 3


async def test_parameters_that_are_not_the_steps_are_refused(made: Maker, learner: Learner) -> None:
    trainer = made(learner)
    good = learner.parameters

    cases: list[tuple[dict[str, Any], str]] = [
        ({name: good[name] for name in list(good)[1:]}, "missing"),
        ({**good, "w9": good["w1"]}, "'w9'"),
        ({**good, "b1": good["b2"]}, "'b1'"),
        ({**good, "b1": good["b1"].astype(np.float64)}, "'b1'"),
        ({**good, "b1": np.full_like(good["b1"], np.nan)}, "'b1'"),
    ]
    for bad, named in cases:
        with pytest.raises(ParametersUnfit, match=named):
            await trainer.train(TrainJob(manifest=learner.manifest, parameters=bad))


@pytest.mark.parametrize(
    "bounds", [Bounds(fewest_examples=ROWS), Bounds(fewest_held_out=ROWS)], ids=["rows", "held out"]
)
async def test_too_few_examples_are_told_before_anything_is_trained(
    made: Maker, learner: Learner, bounds: Bounds
) -> None:
    job = TrainJob(manifest=learner.manifest, parameters=learner.parameters, bounds=bounds)

    with pytest.raises(TooFewExamples, match=f"{ROWS} are asked for"):
        await made(learner).train(job)


async def test_without_examples_there_is_nothing_to_evaluate_on(
    made: Maker, learner: Learner, examples: ExampleStore
) -> None:
    examples.clear()

    with pytest.raises(TooFewExamples):
        await made(learner).evaluate(
            EvaluateJob(manifest=learner.manifest, parameters=learner.parameters)
        )


async def test_a_step_that_runs_away_is_rejected() -> None:
    learner = linear()
    examples = MemoryExamples(HALF)
    x, _ = clouds(60)
    keep(examples, learner, x, x.sum(axis=1, keepdims=True))
    plan = Plan(epochs=100, learning_rate=50.0)

    with pytest.raises(NotFinite, match=r"step|parameter"):
        await MemoryTrainer(learner.blobs.__getitem__, examples).train(
            TrainJob(manifest=learner.manifest, parameters=learner.parameters, plan=plan)
        )


async def test_an_update_that_is_worse_on_what_it_never_saw_is_rejected(
    made: Maker, learner: Learner
) -> None:
    trainer = made(learner)
    good = (
        await trainer.train(
            TrainJob(manifest=learner.manifest, parameters=learner.parameters, plan=PLAN)
        )
    ).parameters
    wild = Plan(epochs=1, learning_rate=20.0, momentum=0.9)

    with pytest.raises(WorseOnHoldOut, match=r"went from .* to"):
        await trainer.train(TrainJob(manifest=learner.manifest, parameters=good, plan=wild))


async def test_a_version_without_a_training_step_trains_nothing(
    made: Maker, learner: Learner
) -> None:
    files = {
        role: file for role, file in learner.manifest.files.items() if role is not Role.TRAIN_STEP
    }
    manifest = replace(learner.manifest, files=files)

    with pytest.raises(StepRefused, match="no training step"):
        await made(learner).train(TrainJob(manifest=manifest, parameters=learner.parameters))


async def test_a_step_that_was_built_from_another_model_is_refused(
    made: Maker, learner: Learner
) -> None:
    other = File(sha256="0" * 64, length=1)
    manifest = replace(learner.manifest, files={**learner.manifest.files, Role.MODEL: other})

    with pytest.raises(StepRefused, match="built from another model"):
        await made(learner).train(TrainJob(manifest=manifest, parameters=learner.parameters))


async def test_a_step_that_is_not_there_is_no_fault_of_the_version(
    made: Maker, learner: Learner
) -> None:
    manifest = with_step(learner.manifest, b"another")

    with pytest.raises(HashMismatch):
        await made(learner).train(TrainJob(manifest=manifest, parameters=learner.parameters))


@pytest.mark.parametrize("loss", [Loss.MSE, Loss.BCE_WITH_LOGITS, Loss.RECONSTRUCTION])
async def test_other_targets_are_learnt_and_counted_as_what_they_are(loss: Loss) -> None:
    wide = 4 if loss is Loss.RECONSTRUCTION else 1
    learner = linear(wide, loss=loss)
    store = MemoryExamples(HALF)
    x, _ = clouds(ROWS)
    truth = x.sum(axis=1, keepdims=True)
    match loss:
        case Loss.RECONSTRUCTION:
            keep(store, learner, x, None)
        case Loss.BCE_WITH_LOGITS:
            keep(store, learner, x, (truth > 2.5).astype(np.float32))
        case _:
            keep(store, learner, x, truth)
    plan = Plan(epochs=5, learning_rate=0.05)

    result = await MemoryTrainer(learner.blobs.__getitem__, store).train(
        TrainJob(manifest=learner.manifest, parameters=learner.parameters, plan=plan)
    )

    after = result.after
    assert (after.loss or 1) < 0.9 * (result.before.loss or 0)
    assert after.judged == after.examples
    assert (after.accuracy is not None) == (loss is Loss.BCE_WITH_LOGITS)
    if loss is Loss.MSE:
        assert after.squared_error_sum == pytest.approx(after.loss_sum, rel=1e-4)
        assert after.absolute_error_sum**2 <= after.squared_error_sum * after.judged * 1.0001
