"""Cases of matrix products."""

from collections.abc import Iterator
from itertools import product

from tests.controller.train_step.oracle.generate.case import Case, node


def cases() -> Iterator[Case]:
    """Gemm with all of its flags, MatMul with all of its ranks."""
    for turned, weight_turned in product((0, 1), repeat=2):
        yield gemm(turned, weight_turned)
    yield Case(
        "Gemm with one bias for all",
        (node("Gemm", ["h", "w", "b"], ["out"]),),
        (5,),
        lambda h, w, b: h @ w + b,
        weights={"w": (5, 3), "b": (1,)},
    )
    yield Case(
        "Gemm without a bias",
        (node("Gemm", ["h", "w"], ["out"]),),
        (5,),
        lambda h, w: h @ w,
        weights={"w": (5, 3)},
    )
    for shape, weight in (
        ((5,), (5, 3)),
        ((4, 5), (5, 3)),
        ((4, 5), (1, 5, 3)),
        ((2, 4, 5), (2, 5, 3)),
    ):
        yield Case(
            f"MatMul of {list(shape)} with {list(weight)}",
            (node("MatMul", ["h", "w"], ["out"]),),
            shape,
            lambda h, w: h @ w,
            weights={"w": weight},
        )
    yield Case(
        "MatMul from the left",
        (node("MatMul", ["w", "h"], ["out"]),),
        (4, 5),
        lambda h, w: w @ h,
        weights={"w": (3, 4)},
    )
    yield Case(
        "MatMul with itself",
        (node("Transpose", ["h"], ["t"], perm=[0, 2, 1]), node("MatMul", ["h", "t"], ["out"])),
        (4, 5),
        lambda h: h @ h.transpose(1, 2),
    )


def gemm(turned: int, weight_turned: int) -> Case:
    """Gemm with both factors and these transpositions."""
    first = "h_turned" if turned else "h"
    product_ = node(
        "Gemm", [first, "w", "b"], ["out"],
        transA=turned, transB=weight_turned, alpha=0.75, beta=1.25,
    )  # fmt: skip
    turn = (node("Transpose", ["h"], ["h_turned"], perm=[1, 0]),) if turned else ()
    return Case(
        f"Gemm transA={turned} transB={weight_turned}",
        (*turn, product_),
        (5,),
        lambda h, w, b: 0.75 * h @ (w.T if weight_turned else w) + 1.25 * b,
        weights={"w": (3, 5) if weight_turned else (5, 3), "b": (3,) if turned else (1, 3)},
    )
