"""The policy that options of `muster rollout start` ask for, as the API takes it."""

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Final

import typer

_UNITS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_TIME: Final = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,3})?)([smhd]?)")


def asked_policy(at_once: bool, stages: str, soak: str) -> Mapping[str, Any] | None:
    """The policy; None if nothing is asked for, and the controller's default holds.

    Raises:
        typer.BadParameter: what is asked for can't be, or not together.
    """
    if at_once and (stages or soak):
        raise typer.BadParameter("--at-once has no --stages and no --soak")
    if not (at_once or stages or soak):
        return None
    from pydantic import ValidationError  # noqa: PLC0415 - quick --help

    from controller.rollout.policy import AT_ONCE, STAGED, Policy  # noqa: PLC0415 - quick --help

    if at_once:
        return AT_ONCE.model_dump(mode="json", exclude_defaults=True)
    seconds = _seconds(soak) if soak else STAGED.stages[0].soak_seconds
    shares = _percents(stages) if stages else [one.percent or 100.0 for one in STAGED.stages]
    made = [
        {
            "name": "all" if share == 100 else f"{share:g}-percent".replace(".", "-"),
            "percent": share,
            "soak_seconds": seconds,
            "deadline_seconds": max(86_400.0, 2 * seconds),
        }
        for share in shares
    ]
    try:
        changed = Policy.model_validate({**STAGED.model_dump(), "stages": made})
    except ValidationError as error:
        wrong = dict.fromkeys(
            ": ".join((*(str(one) for one in each["loc"][-1:]), each["msg"]))
            for each in error.errors()
        )
        raise typer.BadParameter("; ".join(wrong)) from error
    return changed.model_dump(mode="json", exclude_defaults=True)


def _seconds(text: str) -> float:
    match = _TIME.fullmatch(text.strip())
    if match is None:
        raise typer.BadParameter(f"--soak: {text!r} is no time such as 90s, 30m, 2h or 1d")
    return float(match[1]) * _UNITS[match[2]]


def _percents(text: str) -> list[float]:
    try:
        shares = [float(one.strip().removesuffix("%")) for one in text.split(",")]
    except ValueError:
        raise typer.BadParameter(f"--stages: {text!r} is no list such as 5,25,100") from None
    grows = all(earlier < later for earlier, later in pairwise(shares))
    if not grows or shares[0] <= 0 or shares[-1] != 100:
        raise typer.BadParameter("--stages: percentages grow, and the last one is 100")
    return shares
