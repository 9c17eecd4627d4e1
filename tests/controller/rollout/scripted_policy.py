"""A policy in the words of a script: ``canary=2 all=100% soak=60 on-breach=rollback-stage``."""

from collections.abc import Iterable, Mapping
from typing import Any

from controller.rollout.policy import AT_ONCE, STAGED, Policy

SHARED = {"soak": "soak_seconds", "deadline": "deadline_seconds", "on-breach": "on_breach"}
OWN = {"approval", "start"}
PARTS = {
    "control": ("control_percent",),
    "silence": ("silence_seconds",),
    "failed": ("budget", "failed"),
    "unreachable": ("budget", "unreachable"),
    "pace": ("pace", "per_minute"),
    "per-site": ("pace", "per_site"),
    "devices": ("proof", "minimum_devices"),
    "failing-below": ("proof", "failing_below"),
}


def scripted(words: Mapping[str, str], plain: list[str], now: float) -> Policy:
    """``staged``, ``at-once``, or stages by name with their size and what they share.

    ``approval=NAME`` and ``start=NAME:SECONDS`` are of the stage of that name.
    """
    if plain:
        return {"staged": STAGED, "at-once": AT_ONCE}[plain[0]]
    shared = {SHARED[key]: value for key, value in words.items() if key in SHARED}
    known = {*SHARED, *PARTS, *OWN}
    stages: list[dict[str, Any]] = [
        {"name": name, **_size(size), **shared} for name, size in words.items() if name not in known
    ]
    later, _, seconds = words.get("start", "").partition(":")
    for stage in stages:
        stage["approval"] = words.get("approval") == stage["name"]
        stage["not_before"] = now + float(seconds) if later == stage["name"] else 0.0
    policy: dict[str, Any] = {"stages": stages, "stratify_by": []}
    for key, where in PARTS.items():
        if key in words:
            part = policy.setdefault(where[0], {}) if len(where) > 1 else policy
            part[where[-1]] = words[key]
    return Policy.model_validate(policy)


def _size(text: str) -> dict[str, str]:
    if text.endswith("%"):
        return {"percent": text[:-1]}
    return {"count": text} if text.isdigit() else {"selector": text}


def pairs(words: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """Words of the form ``name=value``, and the others."""
    named = dict(word.split("=", 1) for word in words if "=" in word)
    return named, [word for word in words if "=" not in word]
