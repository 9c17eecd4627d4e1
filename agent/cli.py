"""The command `muster-agent`: enrol, run, status, doctor. Small on purpose: it runs on the device."""

import argparse
import asyncio
import json
import logging
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

from agent.config import read_config
from agent.errors import AgentError
from agent.home import DEFAULT, VARIABLE, Home, home_of

DONE, FAILED = 0, 1


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs the command line. Status 0: done. 1: refused or failed. 2: wrong usage."""
    given = _parser().parse_args(arguments)
    home = home_of(given.home)
    try:
        status = given.act(home, given)
    except AgentError as error:
        sys.stderr.write(f"error: {error.detail} [{error.code}]\n")
        sys.stderr.write(f"  what to do: {error.remedy}\n")
        status = FAILED
    except KeyboardInterrupt:
        status = FAILED
    raise SystemExit(status)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="muster-agent",
        description="Verifies, tests, serves and watches the models of this device.",
        epilog="Status 0: done. 1: refused or failed. 2: wrong usage. Errors say what to do.",
    )
    parser.add_argument(
        "--home",
        type=Path,
        metavar="DIR",
        help=f"the agent's folder; else ${VARIABLE}, else {DEFAULT}",
    )
    verbs = parser.add_subparsers(required=True, metavar="COMMAND")
    enrol = verbs.add_parser("enrol", help="make this machine a device, with a join token")
    enrol.add_argument(
        "ticket", metavar="TOKEN", help="from `muster token create`; - reads it from standard input"
    )
    enrol.add_argument("--name", default="", help="what the device would like to be called")
    enrol.add_argument("--anew", action="store_true", help="replace the identity that is here")
    enrol.set_defaults(act=_enrol)
    run = verbs.add_parser("run", help="run the agent, until it is told to end")
    run.set_defaults(act=_run)
    status = verbs.add_parser("status", help="what runs here, what is tried, what waits")
    doctor = verbs.add_parser("doctor", help="check everything that the agent needs")
    status.set_defaults(act=_status)
    doctor.set_defaults(act=_doctor)
    for verb in (status, doctor):
        verb.add_argument("--output", "-o", choices=("table", "json"), default="table")
    return parser


def _enrol(home: Home, given: argparse.Namespace) -> int:
    from agent.facts import read_facts  # noqa: PLC0415 - a quick --help
    from agent.identity.actions import join  # noqa: PLC0415
    from agent.store.sqlite_store import SqliteStore  # noqa: PLC0415
    from agent.transport.enrolment_client import EnrolmentClient  # noqa: PLC0415

    ticket = sys.stdin.read() if given.ticket == "-" else given.ticket
    store = SqliteStore(home.path)
    try:
        identity = asyncio.run(
            join(
                ticket.strip(),
                given.name,
                read_facts(home.path),
                home.key,
                store,
                datetime.now(UTC),
                EnrolmentClient,
                given.anew,
            )
        )
    finally:
        store.close()
    sys.stdout.write(f"this machine is device {identity.device}\n")
    sys.stdout.write(f"next: muster-agent --home {home.path} run\n")
    return DONE


def _run(home: Home, _: argparse.Namespace) -> int:
    from agent.app import run  # noqa: PLC0415 - a quick --help

    config = read_config(home.path)
    logging.basicConfig(
        level=config.log_level.upper(), format="%(asctime)s %(levelname)s %(message)s", force=True
    )
    asyncio.run(run(home, config))
    return DONE


def _status(home: Home, given: argparse.Namespace) -> int:
    from agent.status import read_status  # noqa: PLC0415 - a quick --help

    status = read_status(home)
    if given.output == "json":
        sys.stdout.write(json.dumps(status.as_json(), indent=2) + "\n")
    else:
        sys.stdout.write("\n".join(status.lines()) + "\n")
    return DONE


def _doctor(home: Home, given: argparse.Namespace) -> int:
    from agent.doctor import examine  # noqa: PLC0415 - a quick --help

    findings = examine(home, datetime.now(UTC))
    if given.output == "json":
        sys.stdout.write(json.dumps([one.as_json() for one in findings], indent=2) + "\n")
    else:
        for one in findings:
            sys.stdout.write(f"{one.mark:4}  {one.what}: {one.detail}\n")
            if one.remedy:
                sys.stdout.write(f"      what to do: {one.remedy}\n")
    return FAILED if any(one.failed for one in findings) else DONE
