"""From a canonical inference model to its train-step graph."""

from collections import ChainMap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Final

import onnx
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from agent.inference.datatypes import Array
from agent.runtimes.runtime import Runtime
from controller.train_step.backward import backward
from controller.train_step.canonical import OPSET, canonical
from controller.train_step.emitter import FLOAT, Emitter
from controller.train_step.errors import FixedBatch, NoParameters, NotConvertible, UnknownOutput
from controller.train_step.forms.table import FORMS, Form, Forms, put_into_form
from controller.train_step.graph import (
    ancestors,
    initializers,
    minimal_ir_version,
    model_inputs,
    names,
    opset,
    ordered,
)
from controller.train_step.losses import CLASSES, append_loss
from controller.train_step.optimizer import Descent, StateNames, append_descent, descending
from controller.train_step.options import TrainOptions
from controller.train_step.output import output_of
from controller.train_step.parameters import parameters_of, with_parameters
from controller.train_step.refusals import (
    refuse_forward,
    refuse_parameters,
    refuse_probabilities,
)
from controller.train_step.rules.table import RULES
from controller.train_step.selection import select
from controller.train_step.shapes import Probe, probe, varies
from controller.train_step.site import Rule
from protos.documents import sha256
from protos.train_step import (
    LOSS,
    METADATA_KEY,
    OUTPUT,
    SAMPLE_WEIGHT,
    TARGET,
    Loss,
    Parameter,
    TrainStepSpec,
)

__all__ = [
    "TrainOptions",
    "TrainStep",
    "build_train_step",
    "canonical",
    "parameters_of",
    "with_parameters",
]

RESERVED: Final = "train/"
LARGEST_CONSTANT: Final = 4096  # elements of an initializer that a rule may look into


@dataclass(frozen=True, slots=True)
class TrainStep:
    """What a device trains with.

    Attributes:
        graph: an ONNX file; ``protos.train_step`` says what it takes and gives.
        spec: what stands in its metadata.
        options: of which it was made.
    """

    graph: bytes
    spec: TrainStepSpec
    options: TrainOptions


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is differentiated: the model, up to where, by what, and what was seen of its tensors."""

    model: ModelProto
    output: str
    parameters: Sequence[str]
    forward: Sequence[NodeProto]
    seen: Probe


def build_train_step(
    model: bytes,
    options: TrainOptions,
    runtime: Runtime,
    rules: Mapping[str, Rule] = RULES,
    forms: Forms = FORMS,
) -> TrainStep:
    """The train-step graph of a model that ``canonical`` made; the same bytes each time.

    ``forms`` make it faster, and change no value but by rounding.

    Raises:
        NotTrainable: there is none with these options; names the operator and the node.
    """
    plan = _planned(ModelProto.FromString(model), options, runtime)
    spec = _spec(plan, options, sha256(model))
    emitter = Emitter(names(plan.model.graph))
    plan = _in_form(emitter, plan, forms.first)
    state = _append_step(emitter, plan, options, rules)
    plan = _in_form(emitter, plan, forms.last)
    graph = _graph(emitter, plan, options, spec, state)
    step = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset(plan.model))])
    step.ir_version = minimal_ir_version(step)
    step.producer_name = "muster"
    helper.set_model_props(step, {METADATA_KEY: spec.encode()})
    try:
        onnx.checker.check_model(step)
    except onnx.checker.ValidationError as error:
        raise NotConvertible(f"the train-step graph is not valid: {error}") from error
    return TrainStep(bytes(step.SerializeToString(deterministic=True)), spec, options)


def _planned(model: ModelProto, options: TrainOptions, runtime: Runtime) -> _Plan:
    if opset(model) < OPSET:
        raise NotConvertible(f"operator set {opset(model)}: make the model canonical first")
    if taken := sorted(name for name in names(model.graph) if name.startswith(RESERVED)):
        raise NotConvertible(
            f"{taken[0]!r}: names that begin with {RESERVED!r} are the train step's"
        )
    output = output_of(model, options)
    forward = [_copy(node) for node in ancestors(model.graph, [output])]
    parameters = select(model.graph, options.trainable, output)
    refuse_parameters(model, forward, parameters)
    refuse_forward(model, forward)
    seen = probe(model, runtime)
    shape = seen.shapes.get(output)
    if shape is None or seen.types.get(output) != FLOAT:
        raise UnknownOutput(f"{output!r} is no float32 tensor")
    if not any(varies(axis) for axis in shape):
        raise FixedBatch(f"{output!r} is of the same shape whatever the batch")
    if options.sample_weight and not varies(shape[0]):
        raise UnknownOutput(f"{output!r} has another first axis than the batch")
    if options.loss in CLASSES and len(shape) != 2:
        raise UnknownOutput(
            f"{output!r} has {len(shape)} axes; {options.loss} takes [batch, classes]"
        )
    refuse_probabilities(options.loss, output, forward, seen.values.get(output))
    return _Plan(model, output, parameters, forward, seen)


def _in_form(e: Emitter, plan: _Plan, forms: Sequence[Form]) -> _Plan:
    forward, seen = put_into_form(
        e, plan.forward, plan.seen, _constants(plan), plan.parameters, plan.output, forms
    )
    return replace(plan, forward=forward, seen=seen)


def _copy(node: NodeProto) -> NodeProto:
    copied = NodeProto()
    copied.CopyFrom(node)
    return copied


def _append_step(
    e: Emitter, plan: _Plan, options: TrainOptions, rules: Mapping[str, Rule]
) -> StateNames:
    """Loss, gradients and descent, appended to ``e``."""
    target = TARGET
    if options.loss is Loss.RECONSTRUCTION:
        target = _inputs(plan)[0].name
    weight = SAMPLE_WEIGHT if options.sample_weight else ""
    values = append_loss(e, options.loss, plan.output, target, weight, options.huber_delta)
    descent = Descent(options.optimizer, options.proximal, options.weight_decay, options.clip_norm)
    known = ChainMap(_constants(plan), e.constants)
    seeds = {plan.output: descending(e, descent, values.gradient)}
    found = backward(e, plan.forward, plan.seen, known, seeds, plan.parameters, rules)
    gradients = {name: one for name, one in found.items() if one is not None}
    if idle := [name for name in plan.parameters if name not in gradients]:
        raise NoParameters(f"the loss does not depend on {', '.join(map(repr, idle))}")
    state = append_descent(e, descent, plan.parameters, gradients)
    e.op("Identity", values.loss, out=LOSS)
    e.op("Identity", plan.output, out=OUTPUT)
    return state


def _constants(plan: _Plan) -> dict[str, Array]:
    """Tensors whose values rules may rely on."""
    small = {
        name: numpy_helper.to_array(one)
        for name, one in initializers(plan.model.graph).items()
        if name not in plan.parameters and prod(one.dims) <= LARGEST_CONSTANT
    }
    return {**plan.seen.fixed, **small}


def _inputs(plan: _Plan) -> list[ValueInfoProto]:
    """Those of the model's inputs that the output depends on."""
    used = {name for node in plan.forward for name in node.input}
    found = [one for one in model_inputs(plan.model.graph) if one.name in used]
    if not found:
        raise UnknownOutput(f"{plan.output!r} depends on no input")
    return found


def _spec(plan: _Plan, options: TrainOptions, digest: str) -> TrainStepSpec:
    tensors = initializers(plan.model.graph)
    return TrainStepSpec(
        model_sha256=digest,
        loss=options.loss,
        optimizer=options.optimizer,
        parameters=tuple(
            Parameter(name, tuple(int(one) for one in tensors[name].dims))
            for name in plan.parameters
        ),
        inputs=tuple(one.name for one in _inputs(plan)),
        target_shape=_target_shape(plan, options.loss),
        sample_weight=options.sample_weight,
        proximal=options.proximal,
        weight_decay=options.weight_decay,
        clip_norm=options.clip_norm,
        classes=options.classes,
    )


def _target_shape(plan: _Plan, loss: Loss) -> tuple[int, ...]:
    if loss is Loss.RECONSTRUCTION:
        return ()
    if loss in CLASSES:
        return (-1,)
    return tuple(-1 if varies(axis) else axis[0] for axis in plan.seen.shapes[plan.output])


def _graph(
    e: Emitter, plan: _Plan, options: TrainOptions, spec: TrainStepSpec, state: StateNames
) -> onnx.GraphProto:
    shapes = {one.name: one.shape for one in spec.parameters}
    outputs = [*(name for name, _ in state.outputs), LOSS, OUTPUT]
    nodes = ordered([*plan.forward, *e.nodes], outputs)
    live = {name for node in nodes for name in node.input}
    weights = [
        tensor
        for name, tensor in initializers(plan.model.graph).items()
        if name in live and name not in shapes
    ]
    inputs = [_float(name, shape) for name, shape in shapes.items()]
    inputs += [_float(name, shapes[of]) for name, of in state.inputs]
    inputs += _data_inputs(plan, options, spec)
    inputs += [_float(name, ()) for name in state.scalars]
    given = [_float(name, shapes[of]) for name, of in state.outputs]
    given += [_float(LOSS, ()), _float(OUTPUT, _open(plan.seen.shapes[plan.output]))]
    return helper.make_graph(nodes, "train_step", inputs, given, [*weights, *e.tensors(live)])


def _data_inputs(plan: _Plan, options: TrainOptions, spec: TrainStepSpec) -> list[ValueInfoProto]:
    inputs = _inputs(plan)
    if spec.loss in CLASSES:
        inputs.append(helper.make_tensor_value_info(TARGET, TensorProto.INT64, ["batch"]))
    elif spec.target_shape:
        inputs.append(_float(TARGET, _open(plan.seen.shapes[plan.output])))
    if options.sample_weight:
        inputs.append(_float(SAMPLE_WEIGHT, ("batch",)))
    return inputs


def _open(shape: Sequence[tuple[int, int]]) -> list[int | str]:
    """A shape as a graph declares it: axes that vary have names, the same ones the same."""
    first = {axis: number for number, axis in reversed(list(enumerate(shape)))}
    called = {axis: f"axis{number}" if number else "batch" for axis, number in first.items()}
    return [called[axis] if varies(axis) else axis[0] for axis in shape]


def _float(name: str, shape: Sequence[int | str]) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
