"""`muster predict`: asks a model on a device, as an application beside its agent would."""

from pathlib import Path
from typing import Annotated

import typer

from controller.cli.output import Output, OutputOption, show_json, show_rows

URL = "http://127.0.0.1:8500"


def predict(
    model: Annotated[str, typer.Argument(help="The model, or MODEL/VERSION.")],
    inputs: Annotated[
        Path, typer.Option("--input", help=".npz with one array an input, or the protocol's .json.")
    ],
    url: Annotated[str, typer.Option(help="Where the agent answers.")] = URL,
    rows: Annotated[int, typer.Option(min=1, help="Send at most so many rows.")] = 10,
    output: OutputOption = Output.TABLE,
) -> None:
    """Ask a model on a device for predictions.

    Speaks the Open Inference Protocol to the agent on this machine, or at --url.
    """
    from controller.cli.inference_client import as_rows, infer  # noqa: PLC0415 - a quick --help

    answer = infer(url, model, inputs, rows)
    if output is Output.JSON:
        show_json(answer)
        return
    shown = as_rows(answer)
    columns = {key: key for key in (shown[0] if shown else {"row": 0})}
    show_rows(shown, columns, output, "no rows")
    typer.echo(f"answered by {answer['model_name']}/{answer.get('model_version', '?')}")
