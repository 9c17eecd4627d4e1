"""Whether an update is fit to be sent: judged on examples that training never saw."""

from agent.federated.errors import TooFewExamples, WorseOnHoldOut
from agent.federated.evaluation import Evaluation
from agent.federated.trainer import Bounds


def check_training(bounds: Bounds, examples: int) -> None:
    """Passes if there are examples enough to learn from.

    Raises:
        TooFewExamples: there are not; says how many.
    """
    fewest = max(1, bounds.fewest_examples)
    if examples < fewest:
        raise TooFewExamples(f"{examples} examples to learn from; {fewest} are asked for")


def check_held_out(bounds: Bounds, examples: int) -> None:
    """Passes if there are held-out examples enough to check on.

    Raises:
        TooFewExamples: there are not; says how many.
    """
    if examples < bounds.fewest_held_out:
        raise TooFewExamples(f"{examples} held out; {bounds.fewest_held_out} are asked for")


def check_no_worse(bounds: Bounds, before: Evaluation, after: Evaluation) -> None:
    """Passes if the loss on the hold-out has not grown beyond its bound, or there is no hold-out.

    Raises:
        WorseOnHoldOut: it has; says by how much.
    """
    was, became = before.loss, after.loss
    if was is None or became is None:
        return
    allowed = was + abs(was) * bounds.worse_by + bounds.worse_by_more
    if became > allowed:
        raise WorseOnHoldOut(
            f"the loss on {after.examples} held-out examples went from {was:.4g} to {became:.4g}; "
            f"{allowed:.4g} is allowed"
        )
