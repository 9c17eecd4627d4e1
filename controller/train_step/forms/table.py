"""Which forms there are, in the order in which the forward pass is put into them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from onnx import NodeProto

from agent.inference.datatypes import Array
from controller.train_step.backward import active_values
from controller.train_step.emitter import Emitter
from controller.train_step.forms.convolution import multiply_small_pictures
from controller.train_step.forms.forward import Forward
from controller.train_step.forms.linear import join_biases
from controller.train_step.forms.normalization import move_scales
from controller.train_step.forms.parts import split_parts
from controller.train_step.forms.pooling import pool_first
from controller.train_step.forms.transposition import keep_parts_in_place, move_inwards
from controller.train_step.shapes import Probe

Form = Callable[[Forward], None]


@dataclass(frozen=True, slots=True)
class Forms:
    """What is done to a forward pass.

    Attributes:
        first: before it is differentiated, so that gradients go through what they make.
        last: when it has been.
    """

    first: Sequence[Form] = ()
    last: Sequence[Form] = ()


FORMS: Final = Forms(
    first=(
        pool_first,
        multiply_small_pictures,
        split_parts,
        keep_parts_in_place,
        join_biases,
        move_scales,
    ),
    last=(move_inwards,),
)


def put_into_form(
    e: Emitter,
    nodes: Sequence[NodeProto],
    seen: Probe,
    constants: Mapping[str, Array],
    parameters: Sequence[str],
    output: str,
    forms: Sequence[Form],
) -> tuple[list[NodeProto], Probe]:
    """The nodes that compute ``output`` in the form that trains fastest, and what is known of it.

    Raises:
        QuantizedBody: a parameter's value is made an integer on the way.
    """
    forward = Forward(
        nodes=list(nodes),
        shapes=dict(seen.shapes),
        types=dict(seen.types),
        constants=constants,
        active=active_values(nodes, parameters, seen.types),
        output=output,
        emitter=e,
    )
    for form in forms:
        form(forward)
    return forward.nodes, replace(seen, shapes=forward.shapes, types=forward.types)
