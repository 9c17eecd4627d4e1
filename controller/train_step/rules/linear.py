"""Rules for matrix products."""

from collections.abc import Mapping
from typing import Final

from controller.train_step.site import Gradients, Rule, Site


def gemm(site: Site) -> Gradients:
    """Gemm: ``alpha A' B' + beta C``."""
    e, g, (a, b) = site.emitter, site.gradient, site.node.input[:2]
    flip_a, flip_b = (site.attributes.integer(name, 0) for name in ("transA", "transB"))
    alpha, beta = site.attributes.number("alpha", 1.0), site.attributes.number("beta", 1.0)
    of_a = of_b = of_c = None
    if site.needed[0] and flip_a:
        of_a = e.op("Gemm", b, g, transA=flip_b, transB=1, alpha=alpha)
    elif site.needed[0]:
        of_a = e.op("Gemm", g, b, transB=1 - flip_b, alpha=alpha)
    if site.needed[1] and flip_b:
        of_b = e.op("Gemm", g, a, transA=1, transB=flip_a, alpha=alpha)
    elif site.needed[1]:
        of_b = e.op("Gemm", a, g, transA=1 - flip_a, alpha=alpha)
    if any(site.needed[2:]):
        of_c = site.unbroadcast(g, site.output, site.input(2))
        of_c = of_c if beta == 1.0 else e.op("Mul", of_c, e.number(beta))
    return [of_a, of_b, of_c]


def matmul(site: Site) -> Gradients:
    """MatMul of two tensors with two axes or more each."""
    a, b = site.node.input
    if min(site.rank(a), site.rank(b)) < 2:
        raise site.refusal("an operand with one axis has no rule")
    return [
        _of_left(site) if site.needed[0] else None,
        _of_right(site) if site.needed[1] else None,
    ]


def _of_left(site: Site) -> str:
    e, (a, b) = site.emitter, site.node.input
    if site.rank(a) == site.rank(b) == 2:
        return e.op("Gemm", site.gradient, b, transB=1)
    product = e.op("MatMul", site.gradient, _transposed(site, b))
    return site.unbroadcast(product, site.output, a)


def _of_right(site: Site) -> str:
    e, (a, b) = site.emitter, site.node.input
    if site.rank(b) > 2:
        return site.unbroadcast(_batched(site), site.output, b)
    if site.rank(a) == 2:
        return e.op("Gemm", a, site.gradient, transA=1)
    # All leading axes folded into one: one Gemm, instead of a product for each and their sum.
    rows, columns = site.static(b)
    left = e.op("Reshape", a, e.integers([-1, rows]))
    right = e.op("Reshape", site.gradient, e.integers([-1, columns]))
    return e.op("Gemm", left, right, transA=1)


def _batched(site: Site) -> str:
    """By a right side of several matrices; many rows are rather multiplied with the wider of both."""
    e, (a, b) = site.emitter, site.node.input
    *_, rows, columns = site.static(b)
    if site.static(a)[-2] >= 0 or not 0 < columns < rows:
        return e.op("MatMul", _transposed(site, a), site.gradient)
    rank = site.rank(site.output)
    order = [*range(rank - 2), rank - 1, rank - 2]
    flipped = e.op("MatMul", e.op("Transpose", site.gradient, perm=order), a)
    return e.op("Transpose", flipped, perm=order)


def _transposed(site: Site, name: str) -> str:
    rank = site.rank(name)
    return site.emitter.op("Transpose", name, perm=[*range(rank - 2), rank - 1, rank - 2])


RULES: Final[Mapping[str, Rule]] = {"Gemm": gemm, "MatMul": matmul}
