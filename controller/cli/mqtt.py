"""`muster mqtt`: what a broker needs, out of the controller's folder, on the controller's machine."""

from collections.abc import Iterator
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Final

import typer

from controller.cli.output import CommandFailed, counted, say
from controller.cli.setup import HomeOption, is_text

if TYPE_CHECKING:
    from controller.audit import Record
    from controller.broker.listeners import Ports
    from controller.store.certificate_files import Certificates
    from controller.store.store import Audit

app = typer.Typer(
    no_args_is_help=True,
    help="What an MQTT broker needs. These commands run on the controller's machine.",
)

DEFAULT_HOME: Final = Path("controller")
DEFAULT_DATA: Final = "/var/lib/mosquitto"


class Kind(StrEnum):
    """``--for``."""

    MOSQUITTO = "mosquitto"
    EMQX = "emqx"


@app.command()
def acl(
    kind: Annotated[Kind, typer.Option("--for", help="Which broker.")] = Kind.MOSQUITTO,
) -> None:
    """Print who may do what at the broker; everything else is denied.

    Mosquitto has a list for each listener; `muster mqtt setup` writes them. For EMQX it is acl.conf,
    and what its listeners need stands below it.

    ```
    muster mqtt acl
    muster mqtt acl --for emqx
    ```
    """
    from controller.broker import emqx, mosquitto  # noqa: PLC0415 - quick --help
    from controller.broker.listeners import Door, Ports  # noqa: PLC0415

    if kind is Kind.MOSQUITTO:
        parts = [f"## {mosquitto.acl_file(door)}\n{mosquitto.access_list(door)}" for door in Door]
        typer.echo("\n".join(parts).rstrip())
        return
    shown = "\n".join(f"%% {line}".rstrip() for line in emqx.settings(Ports()).splitlines())
    typer.echo(
        f"{emqx.access_rules()}\n%% In emqx.conf, with the files of `muster mqtt setup`:\n%%\n{shown}"
    )


@app.command()
def setup(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Where to write; empty, missing, or of this command.")
    ],
    host: Annotated[
        list[str],
        typer.Option(help="Name or address by which devices and controllers reach the broker; may "
                     "come several times."),
    ],
    home: HomeOption = DEFAULT_HOME,
    devices_port: Annotated[int, typer.Option(min=1, max=65535, help="For devices.")] = 8883,
    controllers_port: Annotated[
        int, typer.Option(min=1, max=65535, help="For controllers; nobody else need reach it.")
    ] = 8884,
    strangers_port: Annotated[
        int, typer.Option(min=1, max=65535, help="For machines that join.")
    ] = 8885,
    installed_in: Annotated[
        str | None, typer.Option(help="Where DIR will be on the broker's machine, if elsewhere.")
    ] = None,
    data: Annotated[
        str, typer.Option(help="The broker's folder for what it keeps.")
    ] = DEFAULT_DATA,
) -> None:  # fmt: skip
    """Write a folder from which Mosquitto runs: configuration, access lists, certificates.

    Once more on the same folder, it makes the broker a new certificate; each is good for 13 months.

    ```
    muster mqtt setup /etc/mosquitto/muster --host broker.example.org
    muster mqtt setup broker --host 192.0.2.7 --installed-in /etc/mosquitto/muster
    ```
    """
    from controller.broker.listeners import Ports  # noqa: PLC0415 - quick --help

    if len({devices_port, controllers_port, strangers_port}) < 3:
        raise typer.BadParameter(
            "--devices-port, --controllers-port, --strangers-port: one for each"
        )
    there = _absolute("--installed-in", installed_in or str(folder.absolute()))
    keeps = _absolute("--data", data)
    ports = Ports(devices_port, controllers_port, strangers_port)
    until = _write(folder, home, there, keeps, ports, host)
    say(f"what Mosquitto needs is in {folder}; its certificate is good until {until:%Y-%m-%d}")
    say("next, on the broker's machine:")
    say(f"  `chown -R mosquitto: {there} && mosquitto -c {there / 'mosquitto.conf'}`")
    say(f"and in {home / 'controller.toml'}, under [mqtt], for the controller's next start:")
    name = f"[{host[0]}]" if ":" in host[0] else host[0]
    say(f'  broker = "{name}:{ports.controllers}"')
    say(f'  address = "{name}:{ports.devices}"')
    say(f'  enrolment_address = "{name}:{ports.strangers}"')


@app.command()
def crl(
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="Where to write it; else it is printed.")
    ] = None,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Write the list of revoked devices' certificates, so that the broker turns them away itself.

    The broker reads it when it gets a SIGHUP; links that it has go on until they end. The controllers
    refuse a revoked device anyway, and at once.

    ```
    muster mqtt crl /etc/mosquitto/muster/revoked.crl && systemctl reload mosquitto
    ```
    """
    from controller.enrolment.authority import revocation_list  # noqa: PLC0415 - quick --help
    from controller.store.broker_folder import not_written, write_broker_file  # noqa: PLC0415

    now = datetime.now(UTC)
    certificates, serials = _opened(home, now)
    text = revocation_list(certificates.device_authority, serials, now)
    if file is None:
        typer.echo(text.decode().rstrip())
        return
    try:
        write_broker_file(file, text)
    except OSError as error:
        raise not_written(file, error) from error
    say(f"{file} names {counted(len(serials), 'revoked certificate')}")
    say("next: `systemctl reload mosquitto`, or send it a SIGHUP")


def _write(
    folder: Path,
    home: Path,
    there: PurePosixPath,
    keeps: PurePosixPath,
    ports: "Ports",
    hosts: list[str],
) -> datetime:
    """Writes the folder; returns until when the broker's certificate is good."""
    from controller.broker.folder import Authorities, broker_files  # noqa: PLC0415 - quick --help
    from controller.broker.mosquitto import Place  # noqa: PLC0415
    from controller.enrolment.authority import SERVER_LIFETIME  # noqa: PLC0415
    from controller.store.broker_folder import write_broker_folder  # noqa: PLC0415

    now = datetime.now(UTC)
    certificates, serials = _opened(home, now)
    authorities = Authorities(certificates.broker_authority, certificates.device_authority)
    files = broker_files(Place(there, keeps, ports), authorities, hosts, serials, now)
    write_broker_folder(folder, files)
    return now + SERVER_LIFETIME


def _opened(path: Path, now: datetime) -> tuple["Certificates", tuple[str, ...]]:
    """The controller's certificates, and the serials of revoked devices'."""
    from controller.config import read_config  # noqa: PLC0415 - quick --help
    from controller.enrolment.revocation import revoked_serials  # noqa: PLC0415
    from controller.home import Home  # noqa: PLC0415
    from controller.store.certificate_files import open_certificates  # noqa: PLC0415

    config = read_config(path)
    home = Home(path.absolute())
    home.require_whole()
    certificates = open_certificates(home.certificates, config.names, now)
    store = home.open_store()
    try:
        with store.read() as tx:
            serials = revoked_serials(tx.devices.all(), _records(tx.audit))
    finally:
        store.close()
    return certificates, tuple(serials)


def _records(audit: "Audit") -> Iterator["Record"]:
    after = 0
    while page := audit.records(after):
        yield from page
        after = page[-1].sequence


def _absolute(option: str, text: str) -> PurePosixPath:
    """A path that can stand in mosquitto.conf, where a line is a line."""
    path = PurePosixPath(text)
    if not path.is_absolute():
        raise typer.BadParameter(f"{option}: {text[:300]!r} does not begin with /")
    if not is_text(Path(text)) or not text.isprintable():
        raise CommandFailed(
            "bad-input", f"{text[:300]!r} can't stand in mosquitto.conf", "Name another folder."
        )
    return path
