"""The options of `muster model register` that let devices train a version."""

from typing import Annotated, Any

import typer

TrainableOption = Annotated[
    str,
    typer.Option(
        help="Let devices train it: all, head, last:K (layers), or names of initializers, with "
        "commas and wildcards. What devices may do with it is signed for as its model is."
    ),
]
LossOption = Annotated[
    str,
    typer.Option(
        help="What training minimises, where the outputs do not tell: softmax_cross_entropy, nll, "
        "bce_with_logits, mse, mae, huber or reconstruction."
    ),
]
OptimizerOption = Annotated[str, typer.Option(help="How devices train: sgd (default) or momentum.")]
ProximalOption = Annotated[
    bool,
    typer.Option("--proximal", help="Devices can be held to the global parameters (for FedProx)."),
]
TrainOutputOption = Annotated[
    str, typer.Option(help="The tensor that the loss takes, where the outputs do not tell.")
]


def training_options(
    trainable: str, loss: str, optimizer: str, output: str, *, proximal: bool
) -> dict[str, Any]:
    """What the controller is sent; empty where devices shall not train it.

    Raises:
        typer.BadParameter: an option is none, or goes only with ``--trainable``.
    """
    from protos.train_step import Loss, Optimizer  # noqa: PLC0415 - quick --help

    others = {"loss": loss, "optimizer": optimizer, "output": output, "proximal": proximal}
    given = {name: value for name, value in others.items() if value}
    if not trainable:
        if given:
            option = {"output": "train-output"}.get(next(iter(given)), next(iter(given)))
            raise typer.BadParameter(f"--{option} goes with --trainable, such as --trainable all")
        return {}
    for name, value, known in (("loss", loss, set(Loss)), ("optimizer", optimizer, set(Optimizer))):
        if value and value not in known:
            raise typer.BadParameter(f"--{name} {value}: must be one of {', '.join(sorted(known))}")
    return {"trainable": trainable, **given}
