"""Rules for sums, products, and other functions of each element."""

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from controller.train_step.emitter import Emitter
from controller.train_step.site import Gradients, Rule, Site

Derivative = Callable[[Emitter, str, str, str], str]
"""Of emitter, input, output and the output's gradient: the input's gradient."""


def elementwise(derivative: Derivative) -> Rule:
    """The rule of a function of one tensor that keeps its shape."""

    def rule(site: Site) -> Gradients:
        return [derivative(site.emitter, site.input(0), site.output, site.gradient)]

    return rule


def total(site: Site) -> Gradients:
    """Add, Sub, Sum."""
    gradients: list[str | None] = []
    for index, (name, needed) in enumerate(zip(site.node.input, site.needed, strict=True)):
        if not needed:
            gradients.append(None)
            continue
        gradient = site.unbroadcast(site.gradient, site.output, name)
        negative = site.node.op_type == "Sub" and index == 1
        gradients.append(site.emitter.op("Neg", gradient) if negative else gradient)
    return gradients


def product(site: Site) -> Gradients:
    """Mul."""
    first, second = site.node.input
    return [
        site.unbroadcast(site.emitter.op("Mul", site.gradient, other), site.output, name)
        if needed
        else None
        for name, other, needed in zip((first, second), (second, first), site.needed, strict=True)
    ]


def quotient(site: Site) -> Gradients:
    """Div: ``d(a/b) = da/b - (a/b) db/b``."""
    e, (above, below) = site.emitter, site.node.input
    share = e.op("Div", site.gradient, below)
    of_above = site.unbroadcast(share, site.output, above) if site.needed[0] else None
    if not site.needed[1]:
        return [of_above, None]
    moved = site.unbroadcast(e.op("Mul", share, site.output), site.output, below)
    return [of_above, e.op("Neg", moved)]


def power(site: Site) -> Gradients:
    """Pow with an exponent that is not trained."""
    if site.needed[1]:
        raise site.refusal("its exponent can't be trained")
    e, (base, exponent) = site.emitter, site.node.input
    known = site.constants.get(exponent)
    if known is not None and known.size == 1 and float(known.ravel()[0]) == 2.0:
        return [e.op("Mul", site.gradient, e.op("Mul", base, e.number(2.0)))]
    if site.types.get(exponent, e.precision) != e.precision:
        exponent = e.op("Cast", exponent, to=e.precision)
    lower = e.op("Pow", base, e.op("Sub", exponent, e.number(1.0)))
    slope = e.op("Mul", exponent, lower)
    return [site.unbroadcast(e.op("Mul", site.gradient, slope), site.output, base)]


def unchanged(site: Site) -> Gradients:
    """Identity, and Dropout as it is in inference."""
    return [site.gradient]


def cast(site: Site) -> Gradients:
    """Cast, CastLike."""
    return [site.emitter.op("Cast", site.gradient, to=site.types[site.input(0)])]


def chosen(site: Site) -> Gradients:
    """Where."""
    e, (condition, yes, no) = site.emitter, site.node.input
    nothing = e.number(0.0)
    of_yes = of_no = None
    if site.needed[1]:
        gradient = e.op("Where", condition, site.gradient, nothing)
        of_yes = site.unbroadcast(gradient, site.output, yes)
    if site.needed[2]:
        gradient = e.op("Where", condition, nothing, site.gradient)
        of_no = site.unbroadcast(gradient, site.output, no)
    return [None, of_yes, of_no]


def extreme(site: Site) -> Gradients:
    """Max, Min of two; of equal ones the first is it."""
    if len(site.node.input) != 2:
        raise site.refusal("only two inputs have a rule")
    e, (one, other) = site.emitter, site.node.input
    nothing = e.number(0.0)
    compare = "GreaterOrEqual" if site.node.op_type == "Max" else "LessOrEqual"
    first = e.op(compare, one, other)
    of_one = of_other = None
    if site.needed[0]:
        gradient = e.op("Where", first, site.gradient, nothing)
        of_one = site.unbroadcast(gradient, site.output, one)
    if site.needed[1]:
        gradient = e.op("Where", first, nothing, site.gradient)
        of_other = site.unbroadcast(gradient, site.output, other)
    return [of_one, of_other]


def _sqrt(e: Emitter, _x: str, y: str, g: str) -> str:
    return e.op("Div", e.op("Mul", g, e.number(0.5)), y)


def _reciprocal(e: Emitter, _x: str, y: str, g: str) -> str:
    return e.op("Neg", e.op("Mul", g, e.op("Mul", y, y)))


def _erf(e: Emitter, x: str, _y: str, g: str) -> str:
    bell = e.op("Exp", e.op("Neg", e.op("Mul", x, x)))
    return e.op("Mul", g, e.op("Mul", e.number(2 / np.sqrt(np.pi)), bell))


def _cos(e: Emitter, x: str, _y: str, g: str) -> str:
    return e.op("Neg", e.op("Mul", g, e.op("Sin", x)))


RULES: Final[Mapping[str, Rule]] = {
    "Add": total,
    "Sub": total,
    "Sum": total,
    "Mul": product,
    "Div": quotient,
    "Pow": power,
    "Identity": unchanged,
    "Dropout": unchanged,
    "Cast": cast,
    "CastLike": cast,
    "Where": chosen,
    "Max": extreme,
    "Min": extreme,
    "Neg": elementwise(lambda e, _x, _y, g: e.op("Neg", g)),
    "Exp": elementwise(lambda e, _x, y, g: e.op("Mul", g, y)),
    "Log": elementwise(lambda e, x, _y, g: e.op("Div", g, x)),
    "Sqrt": elementwise(_sqrt),
    "Reciprocal": elementwise(_reciprocal),
    "Abs": elementwise(lambda e, x, _y, g: e.op("Mul", g, e.op("Sign", x))),
    "Sin": elementwise(lambda e, x, _y, g: e.op("Mul", g, e.op("Cos", x))),
    "Cos": elementwise(_cos),
    "Erf": elementwise(_erf),
}
