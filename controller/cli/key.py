"""`muster key`: keys that people sign with, on their own machines."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from controller.cli.output import CommandFailed, Output, OutputOption, show_fields, show_rows

if TYPE_CHECKING:
    from controller.store.key_files import KeyFiles

app = typer.Typer(no_args_is_help=True, help="Keys to sign with: approvers', administrators'.")

FolderOption = Annotated[
    Path, typer.Option("--folder", envvar="MUSTER_KEYS", help="Where your keys are.")
]
DEFAULT_FOLDER = Path("keys")


@app.command()
def create(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="What people will call the key: your name.")
    ],
    folder: FolderOption = DEFAULT_FOLDER,
    output: OutputOption = Output.TABLE,
) -> None:
    """Make a key: NAME.pem is private and stays here, NAME.json is for the administrator.

    For an HSM or a KMS, write NAME.json by hand: its `uri` says where the private key is.

    ```
    muster key create alice
    muster key create alice --folder /media/stick
    ```
    """
    from controller.errors import Conflict  # noqa: PLC0415 - quick --help
    from controller.store.key_files import KeyFiles  # noqa: PLC0415

    files = KeyFiles(folder)
    try:
        files.create(name)
    except Conflict as error:
        remedy = "Use the key that is there, or give the new one another NAME or another --folder."
        raise CommandFailed(error.code, error.detail, remedy) from error
    show_fields(_row(files, folder, name), TITLES, output)


@app.command("list")
def list_(
    folder: FolderOption = DEFAULT_FOLDER,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show the keys in a folder."""
    from controller.store.key_files import KeyFiles  # noqa: PLC0415 - quick --help

    files = KeyFiles(folder)
    rows = [_row(files, folder, name) for name in files.names()]
    show_rows(rows, TITLES, output, f"no keys in {folder}: make one with `muster key create NAME`")


TITLES = {
    "name": "name",
    "holder": "holder",
    "keyid": "key id",
    "public": "public",
    "uri": "private",
}


def _row(files: "KeyFiles", folder: Path, name: str) -> dict[str, str]:
    entry = files.public(name)
    return {
        "name": name,
        "holder": entry.holder,
        "keyid": entry.key.keyid,
        "public": str(folder / f"{name}.json"),
        "uri": str(folder / entry.uri.removeprefix("file2:"))
        if entry.uri.startswith("file2:")
        else entry.uri,
    }
