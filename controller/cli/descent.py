"""Where a version comes from, and how it does beside its parent."""

from collections.abc import Mapping
from typing import Any

from controller.cli.client import ApiClient, place


def parents_metrics(api: ApiClient, version: Mapping[str, Any]) -> Mapping[str, float]:
    """What the version's parent had on the same rows, as its card says; empty without a parent."""
    from controller.registry.card import parent_metrics  # noqa: PLC0415 - quick --help

    if version["manifest"]["lineage"]["parent"] is None:
        return {}
    where = place("models", version["model"], "versions", str(version["version"]), "card")
    return parent_metrics(api.download(where))


def descent(manifest: Mapping[str, Any], beside: Mapping[str, float]) -> dict[str, Any]:
    """Fields for people; ``beside`` are the parent's metrics on the same rows."""
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
        found["trainable"] = "by devices, as its card says"
    if "model_step" in files:
        step, whole = files["model_step"]["length"], files["model"]["length"]
        found["step"] = f"{step:,} bytes in place of {whole:,} for devices that have {parent}"
    metrics = manifest["metrics"]
    both = [name for name in sorted(metrics) if name in beside]
    found["beside"] = ", ".join(f"{name} {beside[name]:.4g} → {metrics[name]:.4g}" for name in both)
    return found
