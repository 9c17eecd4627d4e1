"""What one client does: it learns on its own examples, as a device does, and Flower is not needed."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from agent.errors import InvalidRequest
from agent.federated.errors import TruthUnfit
from agent.federated.evaluation import Evaluation
from agent.federated.examples import Part, examples_of
from agent.federated.layout import Array, Layout, finite, packed, records, truth_of
from agent.federated.local_training import Step, evaluate, known_classes, train
from agent.federated.order import Request, Scalar, plan_of
from agent.federated.parameters import Parameters, check_parameters
from agent.federated.record import TRAIN
from agent.federated.rejection import check_held_out, check_no_worse, check_training
from agent.federated.retention import Retention
from agent.federated.trainer import Bounds, Plan, TrainResult
from controller.federated.flower_app.errors import ExamplesUnfit
from protos.train_step import TrainStepSpec

TRUTHS = ("y", "label", "labels", "target", "targets", "truth")


@dataclass(frozen=True, slots=True)
class Examples:
    """Packed rows; what is held out is what every device would hold out of them."""

    training: Array
    held_out: Array


def examples_in(
    arrays: Mapping[str, Array], layout: Layout, part: int = 0, parts: int = 1
) -> Examples:
    """The examples in ``arrays``: by input name, and the truth as one of ``TRUTHS``.

    Of ``parts`` clients that share them, each has every so-manieth row, from row ``part`` on.

    Raises:
        ExamplesUnfit: they are not what the model takes; names the array.
    """
    names = [field.name for field in layout.inputs]
    inputs = {name: array for name, array in arrays.items() if name not in TRUTHS}
    if len(names) == len(inputs) == 1:  # a single input's may have any name
        inputs = dict(zip(names, inputs.values(), strict=True))
    inputs = {name: array[part::parts] for name, array in inputs.items() if array.ndim}
    told = next((arrays[name][part::parts] for name in TRUTHS if name in arrays), None)
    try:
        if layout.truth is None:
            truth = None
        elif told is None:
            raise ExamplesUnfit(f"no array is called {TRUTHS[0]!r}: the truth is missing")
        else:
            rows = max((len(array) for array in inputs.values()), default=len(told))
            truth = truth_of(layout, told, rows)
        found = finite(layout, packed(layout, inputs, truth))
    except (InvalidRequest, TruthUnfit) as error:
        raise ExamplesUnfit(error.detail) from error
    parted: dict[Part, list[bytes]] = {Part.TRAINING: [], Part.HELD_OUT: []}
    for one in examples_of(layout, found, Retention(), 0.0, ""):
        parted[one.part].append(one.data)
    training, held_out = (records(layout, b"".join(one)) for one in parted.values())
    return Examples(training, held_out)


def of_known_classes(examples: Examples, spec: TrainStepSpec, classes: int) -> Examples:
    """Without rows whose class the step does not have."""
    return Examples(
        known_classes(spec, classes, examples.training),
        known_classes(spec, classes, examples.held_out),
    )


def plan_asked(config: Mapping[str, Scalar], message: str) -> Plan:
    """How a message asks to train; its id is the seed, if it names none. Raises ``TaskUnfit``."""
    asked = Request(phase=TRAIN, key="", sha256="", length=0, steps=False, config=config)
    return plan_of(asked, message)


def learnt(
    step: Step,
    parameters: Parameters,
    examples: Examples,
    plan: Plan,
    rng: np.random.Generator,
    bounds: Bounds = Bounds(),  # noqa: B008 - frozen
) -> TrainResult:
    """What training comes to.

    Raises:
        ParametersUnfit: the parameters are not those of the step.
        TooFewExamples, NotFinite, WorseOnHoldOut: there is no update.
    """
    check_parameters(step.spec, parameters)
    check_training(bounds, len(examples.training))
    before = evaluate(step, parameters, examples.held_out)
    trained = train(step, parameters, examples.training, plan, rng)
    after = evaluate(step, trained.parameters, examples.held_out)
    check_no_worse(bounds, before, after)
    return TrainResult(
        parameters=trained.parameters,
        steps=trained.steps,
        examples=len(examples.training),
        first_loss=trained.first_loss,
        last_loss=trained.last_loss,
        before=before,
        after=after,
    )


def judged(step: Step, parameters: Parameters, examples: Examples) -> Evaluation:
    """How good the parameters are on what is held out.

    Raises:
        ParametersUnfit, NotFinite: nothing can be said of them.
        TooFewExamples: nothing is held out.
    """
    check_parameters(step.spec, parameters)
    check_held_out(Bounds(fewest_held_out=1), len(examples.held_out))
    return evaluate(step, parameters, examples.held_out)
