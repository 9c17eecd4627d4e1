"""Pools before activations: the activation then has a quarter of the elements, or less."""

from controller.train_step.emitter import node
from controller.train_step.forms.forward import Forward
from controller.train_step.graph import is_standard


def pool_first(forward: Forward) -> None:
    """Lets MaxPool and the Relu or Clip before it change places.

    The largest of what never falls is that of the largest. Where several are equal only when they have
    been cut off, no gradient goes through them.
    """
    users = forward.users()
    for active in list(forward.nodes):
        if not is_standard(active, "Relu", "Clip") or not forward.trains(active):
            continue
        cut, behind = active.output[0], users.get(active.output[0], [])
        if len(behind) != 1 or cut == forward.output or not is_standard(behind[0], "MaxPool"):
            continue
        pool, output = behind[0], behind[0].output[0]
        if len(pool.output) > 1:
            continue
        pooled = forward.made("pooled", forward.shapes[output])
        first = node("MaxPool", [active.input[0]], [pooled])
        first.attribute.extend(pool.attribute)
        second = node(active.op_type, [pooled, *active.input[1:]], [output])
        second.attribute.extend(active.attribute)
        forward.replace([active, pool], [first, second], at=pool)
