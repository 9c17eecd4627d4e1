"""Where a version comes from, how it does beside its parent, and what devices may train of it."""

from collections.abc import Mapping
from typing import Any

from controller.cli.client import ApiClient, place


def card_of(api: ApiClient, version: Mapping[str, Any]) -> bytes:
    """The version's card; empty where it tells nothing that ``descent`` shows."""
    manifest = version["manifest"]
    if manifest["lineage"]["parent"] is None and "train_step" not in manifest["files"]:
        return b""
    return api.download(
        place("models", version["model"], "versions", str(version["version"]), "card")
    )


def beside_of(card: bytes) -> Mapping[str, float]:
    """What the version's parent had on the same rows; empty without a parent."""
    from controller.registry.card import parent_metrics  # noqa: PLC0415 - quick --help

    return parent_metrics(card) if card else {}


def descent(manifest: Mapping[str, Any], card: bytes) -> dict[str, Any]:
    """Fields for people."""
    lineage, files = manifest["lineage"], manifest["files"]
    needed = sum(one["length"] for role, one in files.items() if role != "model_step")
    found: dict[str, Any] = {"bytes": needed}
    parent = f"{manifest['model']}/{lineage['parent']}"
    if lineage["training_run"]:
        found["origin"] = f"{parent}, trained on devices: run {lineage['training_run']}"
        if lineage["round"] is not None:
            found["origin"] += f", {lineage['round']} rounds"
    elif lineage["parent"] is not None:
        found["origin"] = f"follows {parent}"
    if "train_step" in files:
        found["trainable"] = _trainable(card)
    if "model_step" in files:
        step, whole = files["model_step"]["length"], files["model"]["length"]
        found["step"] = f"{step:,} bytes in place of {whole:,} for devices that have {parent}"
    metrics, beside = manifest["metrics"], beside_of(card)
    both = [name for name in sorted(metrics) if name in beside]
    found["beside"] = ", ".join(f"{name} {beside[name]:.4g} → {metrics[name]:.4g}" for name in both)
    return found


def _trainable(card: bytes) -> str:
    from controller.registry.card import training_told  # noqa: PLC0415 - quick --help

    told = training_told(card) if card else {}
    if not {"numbers", "parameters", "loss", "optimizer"} <= told.keys():
        return "on devices"
    count = f"{int(told['numbers']):,} numbers of {told['parameters']}"
    return f"on devices: {count}; {told['loss']} by {told['optimizer']}"
