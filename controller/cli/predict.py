"""`muster predict`: asks a model on a device, as an application beside its agent would."""

from pathlib import Path
from typing import Annotated

import typer

from controller.cli.arguments import named
from controller.cli.output import Output, OutputOption, say, show_json, show_rows
from controller.cli.profile import is_address

URL = "http://127.0.0.1:8500"


def predict(
    model: Annotated[str, typer.Argument(metavar="NAME", help="MODEL, or MODEL/VERSION.")],
    inputs: Annotated[
        Path,
        typer.Option("--input", help=".npz with an array for each input, or the protocol's .json."),
    ],
    url: Annotated[
        str, typer.Option(help="Where the agent serves REST: `muster-agent status` says.")
    ] = URL,
    rows: Annotated[int, typer.Option(min=1, help="Send at most so many rows of an .npz.")] = 10,
    truth: Annotated[
        str,
        typer.Option(
            metavar="ARRAY",
            help="The array of the .npz with what was true of each row: the device may learn from it.",
        ),
    ] = "",
    output: OutputOption = Output.TABLE,
) -> None:
    r"""Ask a model on a device for predictions.

    Speaks the Open Inference Protocol to the agent on this machine, or at --url, as any client of the
    protocol would. Arrays are named as the model's inputs; a single one may have any name.

    ```
    muster predict digits --input photographs.npz
    muster predict digits --input labelled.npz --truth y --rows 500
    muster predict digits/2 --input request.json --output json \
        --url http://127.0.0.1:8510
    ```
    """
    asked = named(model)
    if asked.alias:
        raise typer.BadParameter(f"{model!r}: a device knows versions, no aliases")
    if not is_address(url, "http", "https"):
        raise typer.BadParameter(f"--url {url!r} is not http://HOST:PORT")
    if truth and inputs.suffix == ".json":
        raise typer.BadParameter("--truth goes with an .npz file")
    from controller.cli.inference_client import KEPT, as_rows, infer  # noqa: PLC0415 - quick --help

    answer = infer(url, asked, inputs, rows, truth)
    if output is Output.JSON:
        show_json(answer)
        return
    shown = as_rows(answer, url)
    columns = {key: key for key in (shown[0] if shown else {"row": 0})}
    show_rows(shown, columns, output, "no rows")
    say(f"answered by {answer.get('model_name', '?')}/{answer.get('model_version', '?')}")
    if KEPT in answer:
        say(f"the device keeps {answer[KEPT]} rows with their truth")
