"""`muster federated export`: a run file as an app of Flower's own."""

from pathlib import Path
from typing import Annotated

import typer

from controller.cli.arguments import named
from controller.cli.client import ApiClient, place
from controller.cli.federated import text_of
from controller.cli.output import CommandFailed, note, say


def export(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A run file.")],
    to: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Where it goes; a former export is replaced.")
    ],
) -> None:
    """Make a run an app of Flower's, for its own SuperLink and SuperNodes, or its simulation.

    The strategy and the devices' training stay the same; docs/flower.md says what does not. Nothing
    is started here.

    ```
    muster federated export run.toml --to digits-app
    flwr run digits-app CONNECTION --stream
    ```
    """
    from controller.federated.flower_app.actions import write_folder  # noqa: PLC0415 - quick --help
    from controller.federated.flower_app.folder import (  # noqa: PLC0415
        PACKAGE,
        check_fits,
        files_of,
        without_effect,
    )
    from controller.federated.flower_app.version import ROLES  # noqa: PLC0415
    from controller.federated.run_file import read_plan  # noqa: PLC0415
    from protos.manifest import read_manifest  # noqa: PLC0415

    text = text_of(file)
    plan = read_plan(text, file.name)
    model, number, alias = named(plan.run.model)
    with ApiClient() as api:
        version = place("models", model, "versions", alias or number)
        signed = api.download(f"{version}/manifest")
        manifest = read_manifest(signed)
        check_fits(manifest, plan)
        found = {role: api.download(f"{version}/files/{role}") for role in ROLES}
    made = files_of(manifest, signed, found, plan, text)
    try:
        if to.exists() and any(to.iterdir()) and not (to / PACKAGE).is_dir():
            raise CommandFailed("bad-input", f"{to} has other files", "Name a new folder.")
        write_folder(to, made)
    except OSError as error:
        detail = f"{error.filename or to}: {error.strerror}"
        raise CommandFailed("bad-input", detail, "Name a folder that can be written.") from error
    say(f"{manifest.reference} is an app of Flower's: `flwr run {to} CONNECTION --stream`")
    for line in without_effect(plan):
        note(f"{line} has no effect there")
