"""`muster init`, `muster serve`, `muster login`: a controller, and a way to it."""

import asyncio
import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from controller.cli.client import ApiClient
from controller.cli.output import CommandFailed, Output, OutputOption, console, show_json
from controller.cli.profile import Profile, profile_path, write_profile

HomeOption = Annotated[
    Path, typer.Option("--home", envvar="MUSTER_HOME", help="The controller's folder.")
]


def init(
    folder: Annotated[Path, typer.Argument(help="Where to make it; must be empty or missing.")],
    name: Annotated[
        list[str] | None,
        typer.Option(
            help="Host name or address that devices use; the first stands in join tokens."
        ),
    ] = None,
    api_port: Annotated[int, typer.Option(help="For operators.")] = 8443,
    session_port: Annotated[int, typer.Option(help="For devices.")] = 8444,
    enrolment_port: Annotated[int, typer.Option(help="For machines that join.")] = 8445,
    root_keys: Annotated[int, typer.Option(min=1, help="How many root keys to make.")] = 3,
    root_threshold: Annotated[int, typer.Option(min=1, help="How many of them must sign.")] = 2,
    output: OutputOption = Output.TABLE,
) -> None:
    """Make a controller: keys, certificates, database and your administrator's profile.

    FOLDER/offline holds the root and targets keys: carry them to a machine that is never online.
    """
    from controller.config import ControllerConfig, Listening  # noqa: PLC0415 - quick --help
    from controller.home import Founding, Home, found  # noqa: PLC0415

    names = tuple(name or ()) or ("localhost", "127.0.0.1")
    listening = Listening(
        api_port=api_port, session_port=session_port, enrolment_port=enrolment_port
    )
    config = ControllerConfig(names=names, listening=listening)
    home = Home(folder.absolute())
    token = found(home, Founding(config, root_keys, root_threshold), datetime.now(UTC))
    url = f"https://{names[0]}:{api_port}"
    profile = write_profile(Profile(url=url, token=token, ca=str(home.ca), root=str(home.root)))
    if output is Output.JSON:
        show_json({"home": str(home.path), "url": url, "profile": str(profile)})
        return
    console().print(
        f"[bold]A controller is in {home.path}[/bold]\n"
        f"  you are its administrator   {profile}\n"
        f"  offline keys                {home.offline}  (carry them away)\n"
        f"  approvers pin               {home.root}\n"
        f"next: [bold]muster serve --home {folder}[/bold]"
    )


def serve(home: HomeOption = Path("controller")) -> None:
    """Run the controller, until it is told to end."""
    from controller.app import run  # noqa: PLC0415 - quick --help
    from controller.config import read_config  # noqa: PLC0415
    from controller.home import Home  # noqa: PLC0415

    config = read_config(home)
    logging.basicConfig(
        level=config.log_level, format="%(asctime)s %(levelname)s %(message)s", force=True
    )
    # It tells of every signature that is not there yet, as of an approver who has not signed.
    logging.getLogger("tuf").setLevel(logging.WARNING)
    asyncio.run(run(Home(home.absolute()), config))


def login(
    url: Annotated[str, typer.Argument(help="https://HOST:PORT of the controller.")],
    ca: Annotated[Path, typer.Option(help="The controller's server-ca.crt, from its owner.")],
    root: Annotated[Path, typer.Option(help="The controller's root.json, from its owner.")],
    token: Annotated[
        str, typer.Option(help="Your token.", prompt=True, hide_input=True, envvar="MUSTER_TOKEN")
    ],
) -> None:
    """Write your profile, once the controller has accepted your token."""
    for path in (ca, root):
        if not path.is_file():
            raise CommandFailed("bad-input", f"{path}: no such file")
    profile = Profile(
        url=url.rstrip("/"), token=token, ca=str(ca.absolute()), root=str(root.absolute())
    )
    with ApiClient(profile) as api:
        me = api.get("/whoami")
    write_profile(profile)
    console().print(f"you are {me['name']} ({me['role']}) at {url}: {profile_path()}")
