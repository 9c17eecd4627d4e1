"""Makes every file of references anew: ``make oracle``, or ``make oracle ONLY="models losses"``.

Runs where PyTorch is, in an environment of its own. The same versions give the same bytes.
"""

import logging
import sys
from collections.abc import Callable, Iterable
from typing import Final

from tests.controller.train_step.oracle.generate import (
    arithmetic,
    convolution,
    elementwise,
    exports,
    further,
    linear,
    losses,
    normalization,
    optimizers,
    pooling,
    shapes,
)
from tests.controller.train_step.oracle.generate.case import Case
from tests.controller.train_step.oracle.reference import Reference, write

OPERATORS: Final = (
    arithmetic, convolution, elementwise, further, linear, normalization, pooling, shapes,
)  # fmt: skip
Making = Callable[[], Iterable[Reference]]

MODELS: Final[dict[str, Making]] = {
    "fixed_batches": exports.fixed_batches,
    "losses": losses.losses,
    "models": exports.models_as_exported,
    "opsets": exports.opsets,
    "optimizers": optimizers.optimizers,
}


def main() -> int:
    """Writes the files, and says how many references each has and its size."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    made: dict[str, Making] = {
        family.__name__.rpartition(".")[2]: operators_of(family.cases) for family in OPERATORS
    }
    made |= MODELS
    wanted = sys.argv[1:] or list(made)
    if unknown := set(wanted) - set(made):
        sys.exit(f"no such file of references: {', '.join(sorted(unknown))}")
    for name in wanted:
        references = list(made[name]())
        size = write(name, references)
        sys.stdout.write(f"{name}: {len(references)} references, {size / 1024:.0f} KiB\n")
        sys.stdout.flush()
    return 0


def operators_of(cases: Callable[[], Iterable[Case]]) -> Callable[[], list[Reference]]:
    """The references of a family's cases, when asked for."""
    return lambda: [one.reference() for one in cases()]


if __name__ == "__main__":
    sys.exit(main())
