"""What people sign of a model, on their own machines: its approvers, its versions, their recall."""

from pathlib import Path
from typing import Annotated, Any

import typer

from controller.cli.arguments import model_name, version_of
from controller.cli.client import ApiClient, place
from controller.cli.output import counted, say

ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help="The model's name.")]
VersionArgument = Annotated[str, typer.Argument(metavar="MODEL/VERSION")]
KeyOption = Annotated[
    Path,
    typer.Option("--key", help="Your private key: NAME.pem; NAME.json beside it names it too."),
]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask before signing.")]


def create(
    name: ModelArgument,
    approver: Annotated[list[Path], typer.Option(help="An approver's public key file: NAME.json.")],
    threshold: Annotated[int, typer.Option(min=1, help="How many of them must sign a version.")],
    targets_key: Annotated[
        list[Path], typer.Option(help="The offline targets key: offline/targets.pem.")
    ],
    yes: YesOption = False,
) -> None:
    r"""Say who approves a model's versions, or change it: signed with the offline targets key.

    Devices check the approvers' signatures themselves, against what is signed here. It must be done
    once before a model's versions can be approved; the versions may be registered before.

    ```
    muster model create digits --approver alice.json --approver bob.json \
        --threshold 2 --targets-key offline/targets.pem
    ```
    """
    if threshold > len(approver):
        raise typer.BadParameter(f"--threshold {threshold}, with {len(approver)} --approver")
    model_name(name)
    from controller.cli.signing import sign_delegation  # noqa: PLC0415 - quick --help

    with ApiClient() as api:
        sign_delegation(api, name, approver, threshold, targets_key, ask=not yes)
    say(f"versions of {name} need {threshold} of {len(approver)} approvers")


def approve(version: VersionArgument, key: KeyOption, yes: YesOption = False) -> None:
    """Approve a version: sign, here, the metadata that adds just this version.

    It is first checked on this machine, against the root that your profile pins, that it adds what is
    shown and changes nothing else.

    ```
    muster model approve digits/2 --key keys/alice.pem
    ```
    """
    version_of(version)
    from controller.cli.signing import sign_pending  # noqa: PLC0415 - quick --help
    from controller.registry.version import Change  # noqa: PLC0415

    with ApiClient() as api:
        _say(version, sign_pending(api, version, Change.ADD, key, ask=not yes), "published")


def recall(
    version: VersionArgument,
    key: KeyOption,
    floor: Annotated[
        int,
        typer.Option(
            min=0, max=2**53, help="Also forbid every version with a lower release counter."
        ),
    ] = 0,
    yes: YesOption = False,
) -> None:
    """Recall a version for ever: no device runs it again, not even to fall back to it.

    It takes as many approvers' signatures as publishing it: each runs this command.

    ```
    muster model recall digits/2 --key keys/alice.pem
    muster model recall digits/2 --key keys/alice.pem --floor 3
    ```
    """
    model, number = version_of(version)
    from controller.cli.signing import sign_pending, signer_at  # noqa: PLC0415 - quick --help
    from controller.registry.version import Change  # noqa: PLC0415

    signer_at(key)  # nothing is proposed that can't be signed
    with ApiClient() as api:
        _warn_of_recall(api, model, number)
        api.post(place("models", model, "versions", number, "recall"), {"release_floor": floor})
        answer = sign_pending(api, version, Change.RECALL, key, floor, ask=not yes)
        _say(version, answer, "recalled")


def renew(name: ModelArgument, key: KeyOption, yes: YesOption = False) -> None:
    """Begin a new year of a model's role, when no version is to be approved: as many must sign.

    What has expired is installed nowhere any more; what runs goes on running. `muster trust show`
    says what is good until when.

    ```
    muster model renew digits --key keys/alice.pem
    ```
    """
    model_name(name)
    from controller.cli.signing import sign_pending  # noqa: PLC0415 - quick --help
    from controller.registry.version import Change  # noqa: PLC0415

    with ApiClient() as api:
        version = api.post(place("models", name, "renewal"))["version"]
        answer = sign_pending(api, f"{name}/{version}", Change.RENEW, key, ask=not yes)
        _say(name, answer, "renewed")


def _warn_of_recall(api: ApiClient, model: str, version: int) -> None:
    """Says who will run nothing of the model any more: it is an outage there."""
    named = f"{model}/{version}"
    running = [
        device["id"]
        for device in api.get("/devices")
        if any(
            slot["running"] and (slot["model"], slot["version"]) == (model, version)
            for slot in device["slots"]
        )
    ]
    if running:
        run = "runs" if len(running) == 1 else "run"
        say(f"{counted(len(running), 'device')} {run} {named}: {', '.join(sorted(running))}")
        say(f"they answer nothing for {model} until another version is rolled out to them")
    for alias in api.get(place("models", model, "versions", version))["aliases"]:
        say(f"{model}@{alias} still names it: `muster model alias {model}@{alias} VERSION`")


def _say(version: str, answer: dict[str, Any], done: str) -> None:
    signed, threshold = len(answer["signed_by"]), answer["threshold"]
    text = f"{version} is {done}" if answer["published"] else f"{threshold - signed} more must sign"
    say(f"signed: {signed} of {threshold}; {text}")
