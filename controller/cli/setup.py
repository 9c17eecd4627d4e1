"""`muster init`, `muster serve`, `muster login`: a controller, and a way to it."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from controller.cli.client import ApiClient, trusted
from controller.cli.output import CommandFailed, Output, OutputOption, say, show_json
from controller.cli.profile import NewProfile, Profile, fits_a_header, is_address

if TYPE_CHECKING:
    from controller.config import ControllerConfig

MOST_TOKEN: Final = 1000
"""Characters: standard input may be anything, and need not end."""

HomeOption = Annotated[
    Path, typer.Option("--home", envvar="MUSTER_HOME", help="The controller's folder.")
]


def init(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Where to make it; must be empty or missing.")
    ],
    name: Annotated[
        list[str] | None,
        typer.Option(
            help="Host name or address that devices and operators use; may come several times. "
            "The first stands in join tokens. Else localhost."
        ),
    ] = None,
    api_port: Annotated[int, typer.Option(min=1, max=65535, help="For operators.")] = 8443,
    session_port: Annotated[int, typer.Option(min=1, max=65535, help="For devices.")] = 8444,
    enrolment_port: Annotated[
        int, typer.Option(min=1, max=65535, help="For machines that join.")
    ] = 8445,
    root_keys: Annotated[int, typer.Option(min=1, max=64, help="How many root keys to make.")] = 3,
    root_threshold: Annotated[int, typer.Option(min=1, help="How many of them must sign.")] = 2,
    output: OutputOption = Output.TABLE,
) -> None:
    """Make a controller: keys, certificates, database and your administrator's profile.

    FOLDER/offline holds the root and targets keys: carry them to a machine that is never online. The
    profile holds your token; it stands nowhere else.

    ```
    muster init controller
    muster init /srv/muster --name muster.example.org --name 192.0.2.7
    ```
    """
    if len({api_port, session_port, enrolment_port}) < 3:
        raise typer.BadParameter("--api-port, --session-port, --enrolment-port: one for each")
    if root_threshold > root_keys:
        raise typer.BadParameter(f"--root-threshold {root_threshold} of --root-keys {root_keys}")
    if not is_text(folder):  # the profile, which is a text, could not say where it is
        raise typer.BadParameter(f"{folder!s}: its name is not UTF-8")
    from controller.config import ControllerConfig, Listening  # noqa: PLC0415 - quick --help

    names = tuple(name or ()) or ("localhost", "127.0.0.1")
    listening = Listening(
        api_port=api_port, session_port=session_port, enrolment_port=enrolment_port
    )
    config = ControllerConfig(names=names, listening=listening)
    made = _make(folder.absolute(), config, root_keys, root_threshold)
    if output is Output.JSON:
        show_json(made)
        return
    say(f"a controller is in {made['home']}")
    say(f"  you are its administrator   {made['profile']}")
    if made["former_profile"]:
        say(f"  your former profile         {made['former_profile']}")
    say(f"  offline keys                {made['offline']}  (carry them away)")
    say(f"  approvers pin               {made['root']}")
    say(f"next: `muster serve --home {folder}`")


def _make(
    folder: Path, config: "ControllerConfig", root_keys: int, root_threshold: int
) -> dict[str, str]:
    """Makes the controller and its administrator's profile; returns where everything stands."""
    from controller.errors import ConfigError  # noqa: PLC0415 - quick --help
    from controller.home import Founding, Home, found  # noqa: PLC0415

    home = Home(folder)
    first, port = config.names[0], config.listening.api_port
    url = f"https://[{first}]:{port}" if ":" in first else f"https://{first}:{port}"
    with NewProfile() as profile:
        try:
            token = found(home, Founding(config, root_keys, root_threshold), datetime.now(UTC))
        except ConfigError as error:
            raise CommandFailed(error.code, error.detail, "Name another folder.") from error
        former = profile.write(Profile(url=url, token=token, ca=str(home.ca), root=str(home.root)))
    return {
        "home": str(home.path),
        "url": url,
        "profile": str(profile.path),
        "former_profile": str(former or ""),
        "offline": str(home.offline),
        "root": str(home.root),
    }


def serve(home: HomeOption = Path("controller")) -> None:
    """Run the controller, until it is told to end (Ctrl-C, or SIGTERM).

    Its configuration is controller.toml in its folder.

    ```
    muster serve --home controller
    ```
    """
    from controller.config import read_config  # noqa: PLC0415 - quick --help

    config = read_config(home)
    import asyncio  # noqa: PLC0415
    import logging  # noqa: PLC0415

    from controller.app import run  # noqa: PLC0415
    from controller.config import FILE_NAME  # noqa: PLC0415
    from controller.errors import ConfigError  # noqa: PLC0415
    from controller.home import Home  # noqa: PLC0415

    levels = logging.getLevelNamesMapping()
    if config.log_level not in levels:
        raise ConfigError(
            f"{home / FILE_NAME}: `log_level` is {config.log_level!r}; it must be DEBUG, INFO, "
            "WARNING or ERROR"
        )
    logging.basicConfig(
        level=config.log_level, format="%(asctime)s %(levelname)s %(message)s", force=True
    )
    for chatty in ("alembic", "uvicorn", "httpx", "tuf"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    place = Home(home.absolute())
    place.require_whole()
    with place.claim():
        asyncio.run(run(place, config))


def login(
    url: Annotated[
        str, typer.Argument(metavar="URL", help="https://HOST:PORT of the controller's API.")
    ],
    ca: Annotated[Path, typer.Option(help="The controller's server-ca.crt, from its owner.")],
    root: Annotated[Path, typer.Option(help="The controller's root.json, from its owner.")],
    token: Annotated[
        str | None,
        typer.Option(
            envvar="MUSTER_TOKEN",
            help="Your token. Better left out: then it is asked for, or read from standard input, "
            "and nobody sees it in the list of processes.",
        ),
    ] = None,
) -> None:
    r"""Write your profile, once the controller has accepted your token.

    The two files are public, and what you trust: get them from the controller's owner, not over the
    network that you don't trust yet.

    ```
    muster login https://muster.example.org:8443 \
        --ca server-ca.crt --root root.json
    muster login https://muster.example.org:8443 \
        --ca server-ca.crt --root root.json < token.txt
    ```
    """
    if not is_address(url, "https"):
        raise typer.BadParameter(f"{url!r} is not https://HOST:PORT")
    for path in (ca, root):
        if not is_text(path.absolute()):
            raise typer.BadParameter(f"{path!s}: its name is not UTF-8")
    _check_root(root)
    trusted(str(ca.absolute()))
    if token is None:
        asked = sys.stdin.isatty()
        token = typer.prompt("token", hide_input=True) if asked else sys.stdin.readline(MOST_TOKEN)
    token = token.strip()
    if not fits_a_header(token):
        raise CommandFailed(
            "bad-input", "this is no operator's token", "Copy the whole token, or ask for another."
        )
    made = Profile(
        url=url.rstrip("/"), token=token, ca=str(ca.absolute()), root=str(root.absolute())
    )
    with ApiClient(made) as api:
        me = api.get("/whoami")
        if not isinstance(me, dict) or not {"name", "role"} <= me.keys():
            raise api.no_controller()
    with NewProfile() as profile:
        former = profile.write(made)
    say(f"you are {me['name']} ({me['role']}) at {made.url}: {profile.path}")
    if former is not None:
        say(f"your former profile is kept: {former}")


def is_text(path: Path) -> bool:
    """Whether the path can be written into a text; a name on Linux may be any bytes."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_root(path: Path) -> None:
    from controller.signing.metadata import parse  # noqa: PLC0415 - quick --help
    from protos.tuf import Root  # noqa: PLC0415

    try:
        data = path.read_bytes()
    except OSError as error:
        raise CommandFailed("bad-input", f"{path}: {error.strerror}", "Check the path.") from error
    parse(data, Root, str(path))
