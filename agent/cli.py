"""The command `muster-agent`. Small on purpose: it runs on the device."""

import argparse
import json
import logging
import os
import re
import sys
import unicodedata
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NoReturn

from agent.errors import AgentError, ConfigError, NotEnrolled, StoreError
from agent.home import DEFAULT, VARIABLE, Home, home_of
from agent.streams import abandon_output, open_streams

DONE, FAILED = 0, 1
MOST_DIGITS: Final = 9
MOST_SHOWN: Final = 2000
"""Characters of an error: what somebody passed by mistake may be a whole file."""

ENROL: Final = """\
The token works once. It pins whom this device will trust from now on. The device's
key is made here and never leaves.

  muster-agent --home device enrol muster-join-eyJ...
  muster-agent enrol muster-join-eyJ... --over mqtt
  muster-agent enrol - --name cam-1 < token.txt"""
RUN: Final = """\
Its configuration is agent.toml in its folder; it may be missing.

  muster-agent --home device run"""
STATUS: Final = """\
Works beside a running agent, and without one.

  muster-agent status
  muster-agent --home device status --output json"""
LIFT: Final = """\
A version that failed on this device is refused here until operators ask for another
attempt, or somebody here lifts that: once its cause is mended, it is tried again as if
for the first time, if the controller wants it here. Works beside a running agent, and
without one.

  muster-agent lift digits/3"""
EXAMPLES: Final = """\
Where training.collect is on, truths that applications tell are kept with the inputs
that they belong to. They never leave this device. What is forgotten is gone from the
disk; works beside a running agent, and without one.

  muster-agent examples
  muster-agent examples clear
  muster-agent examples clear digits"""
DOCTOR: Final = """\
Every line says ok, warn or FAIL. Status 1 if one says FAIL.

  muster-agent doctor"""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs the command line. Status 0: done. 1: refused or failed. 2: wrong usage."""
    open_streams()
    # What gRPC's core would write to standard error is told by our own errors, and in words.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    given = _parser().parse_args(arguments)
    try:
        status = given.act(_usable(home_of(given.home)), given)
        sys.stdout.flush()  # while a failure can still be told
    except AgentError as error:
        sys.stderr.write(f"error: {_shown(error.detail)} [{error.code}]\n")
        sys.stderr.write(f"  what to do: {error.remedy}\n")
        status = FAILED
    except KeyboardInterrupt:
        sys.stderr.write("ended\n")
        status = FAILED
    except OSError as error:  # files and links are seen to where they are used: this was the output
        abandon_output()
        if not isinstance(error, BrokenPipeError):
            sys.stderr.write(f"error: {error.filename or 'output'}: {error.strerror} [output]\n")
        status = FAILED
    raise SystemExit(status)


def _usable(home: Home) -> Home:
    """``home``, if a folder may stand there.

    Raises:
        StoreError: something else does, or it can't be looked at.
    """
    try:
        there = next(path for path in (home.path, *home.path.parents) if path.exists())
        if not there.is_dir():
            raise StoreError(f"--home: {home.path}: {there} is no folder")
        os.fsencode(home.path).decode()
    except OSError as error:
        raise StoreError(f"--home: {home.path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise StoreError(f"--home: {home.path}: its name is not UTF-8") from error
    return home


def _shown(text: str) -> str:
    """The text with its control characters shown and not sent, in short: others may have written it."""
    if len(text) > MOST_SHOWN:
        text = f"{text[: MOST_SHOWN // 2]} … {text[-MOST_SHOWN // 2 :]}"
    return "".join(one if unicodedata.category(one)[0] != "C" else repr(one)[1:-1] for one in text)


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
    parser.add_argument(
        "--version", action=_Version, nargs=0, help="say which version of Muster this is"
    )
    verbs = parser.add_subparsers(required=True, metavar="COMMAND")

    def verb(name: str, summary: str, text: str) -> argparse.ArgumentParser:
        return verbs.add_parser(
            name,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}.\n\n{text}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    enrol = verb("enrol", "make this machine a device, with a join token", ENROL)
    enrol.add_argument(
        "ticket", metavar="TOKEN", help="from `muster token create`; - reads it from standard input"
    )
    enrol.add_argument("--name", default="", help="what the device would like to be called")
    enrol.add_argument("--anew", action="store_true", help="replace the identity that is here")
    enrol.add_argument(
        "--over",
        choices=("grpc", "mqtt"),
        help="only this way; else each that the token names, as agent.toml orders transports",
    )
    enrol.set_defaults(act=_enrol)
    verb("run", "run the agent, until it is told to end", RUN).set_defaults(act=_run)
    status = verb("status", "say what runs here, what is tried, what waits", STATUS)
    lift = verb("lift", "let a version be tried again that failed here", LIFT)
    lift.add_argument("version", metavar="MODEL/VERSION", type=_reference)
    lift.set_defaults(act=_lift)
    examples = verb("examples", "say how many examples are kept here, or forget them", EXAMPLES)
    examples.add_argument("what", nargs="?", choices=("list", "clear"), default="list")
    examples.add_argument("model", nargs="?", default="", help="forget those of that model only")
    examples.set_defaults(act=_examples)
    doctor = verb("doctor", "check everything that the agent needs", DOCTOR)
    status.set_defaults(act=_status)
    doctor.set_defaults(act=_doctor)
    for one in (status, examples, doctor):
        one.add_argument(
            "--output",
            "-o",
            choices=("table", "json"),
            default="table",
            help="a table for people (as it is without this), or JSON for programs",
        )
    return parser


def _reference(text: str) -> tuple[str, int]:
    model, _, version = text.rpartition("/")
    if not model or not version.isascii() or not version.isdecimal() or len(version) > MOST_DIGITS:
        raise argparse.ArgumentTypeError(f"{_shown(text)!r} is no MODEL/VERSION, such as digits/3")
    return model, int(version)


class _Version(argparse.Action):
    """Looks the version up when it is asked for, and not before."""

    def __call__(self, *_: object) -> None:
        from agent.facts import agent_version  # noqa: PLC0415 - a quick --help

        sys.stdout.write(f"muster-agent {agent_version()}\n")
        raise SystemExit(DONE)


def _enrol(home: Home, given: argparse.Namespace) -> int:
    import asyncio  # noqa: PLC0415 - a quick --help

    from agent.clock import SystemClock  # noqa: PLC0415
    from agent.config import only_over, read_config  # noqa: PLC0415
    from agent.facts import read_facts  # noqa: PLC0415
    from agent.identity.actions import join  # noqa: PLC0415
    from agent.identity.token import MAX_CHARACTERS, parse  # noqa: PLC0415
    from agent.routes import enrolment_dialer  # noqa: PLC0415
    from agent.store.sqlite_store import SqliteStore  # noqa: PLC0415

    text = sys.stdin.read(MAX_CHARACTERS * 2) if given.ticket == "-" else given.ticket
    ticket = parse(text)  # nothing is made for a token that is none
    config = read_config(home.path)
    if given.over:
        config = only_over(config, given.over)
    store = SqliteStore(home.path)
    try:
        identity, way = asyncio.run(
            join(
                text.strip(),
                given.name,
                read_facts(home.path, config.device.timezone),
                home.key,
                store,
                datetime.now(UTC),
                enrolment_dialer(home, config, SystemClock()),
                given.anew,
            )
        )
    finally:
        store.close()
    home.link.unlink(missing_ok=True)  # it was about who this machine was before
    sys.stdout.write(f"this machine is device {identity.device}\n")
    if ticket.broker or way.transport != "grpc":
        sys.stdout.write(f"  it joined over {way.transport}, at {way.address}\n")
    if given.name not in {"", identity.device}:
        sys.stdout.write(f"  {_why_not(given.name, identity.device)}\n")
    sys.stdout.write(f"next: muster-agent --home {home.path} run\n")
    return DONE


def _why_not(wanted: str, name: str) -> str:
    """Why the controller has given the device another name than it wished for."""
    if re.search("-[0-9a-f]{8}$", name):  # a part of its key's digest makes it the only one
        return (
            f"not {_shown(wanted)!r}: a device of that name has joined before, perhaps this machine; "
            "a name is never given to another key"
        )
    return f"not {_shown(wanted)!r}: names are lowercase letters, digits and hyphens"


def _run(home: Home, _: argparse.Namespace) -> int:
    if not home.path.is_dir():
        raise NotEnrolled(f"{home.path}: there is no agent")
    from agent.config import FILE_NAME, read_config  # noqa: PLC0415 - a quick --help

    config = read_config(home.path)
    if config.log_level.upper() not in logging.getLevelNamesMapping():
        raise ConfigError(
            f"{home.path / FILE_NAME}: `log_level` is {config.log_level!r}; it must be DEBUG, INFO, "
            "WARNING or ERROR"
        )
    import asyncio  # noqa: PLC0415

    from agent.app import run  # noqa: PLC0415

    logging.basicConfig(
        level=config.log_level.upper(), format="%(asctime)s %(levelname)s %(message)s", force=True
    )
    asyncio.run(run(home, config))
    return DONE


def _status(home: Home, given: argparse.Namespace) -> int:
    from agent.status import read_status  # noqa: PLC0415 - a quick --help

    status = read_status(home, datetime.now(UTC))
    if given.output == "json":
        sys.stdout.write(json.dumps(status.as_json(), indent=2) + "\n")
    else:
        sys.stdout.write("\n".join(map(_shown, status.lines())) + "\n")
    return DONE


def _lift(home: Home, given: argparse.Namespace) -> int:
    from agent.install.lifting.actions import ask  # noqa: PLC0415 - a quick --help
    from agent.store.lift_requests import LiftRequests  # noqa: PLC0415
    from agent.store.sqlite_store import SqliteStore  # noqa: PLC0415

    if not home.path.is_dir():
        raise NotEnrolled(f"{home.path}: there is no agent")
    model, version = given.version
    store = SqliteStore(home.path, read_only=True)
    try:
        lifted = ask(store.installs, LiftRequests(home.path), model, version)
    finally:
        store.close()
    for one in lifted:
        why = f"{one.code}: {one.detail}" if one.detail else one.code
        sys.stdout.write(f"{model}/{version} was kept out for {_shown(why)}\n")
    sys.stdout.write("the agent tries it again in a few seconds, or when it runs next\n")
    return DONE


def _examples(home: Home, given: argparse.Namespace) -> int:
    from agent.federated.retention import Retention  # noqa: PLC0415 - a quick --help
    from agent.store.sqlite_examples import EXAMPLES_NAME, SqliteExamples  # noqa: PLC0415

    path = home.path / EXAMPLES_NAME
    store = SqliteExamples(path, Retention()) if path.exists() else None
    try:
        if given.what == "clear":
            gone = 0 if store is None else store.clear(given.model)
            sys.stdout.write(f"{gone} example{'s' * (gone != 1)} forgotten\n")
            return DONE
        models = () if store is None else store.models()
    finally:
        if store is not None:
            store.close()
    rows = [
        {"model": model, "training": one.training, "held_out": one.held_out, "bytes": one.size}
        for model, one in models
    ]
    if given.output == "json":
        sys.stdout.write(json.dumps(rows, indent=2) + "\n")
        return DONE
    told = "{model}: {training} to learn from, {held_out} held out, {bytes} bytes\n"
    sys.stdout.write("".join(told.format(**row) for row in rows) or "no examples are kept here\n")
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
