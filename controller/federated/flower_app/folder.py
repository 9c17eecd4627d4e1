"""What stands in the app's folder: everything that `flwr run` needs, and how it is used."""

import json
import re
import zlib
from collections.abc import Iterator, Mapping
from typing import Final

from controller.federated.flower_app.errors import NoFlowerApp
from controller.federated.flower_app.version import FILES, ROLES, written
from controller.federated.plan import AdmissionTable, Mode, Plan, RoundTable
from protos.limits import MIB
from protos.manifest import Manifest, Role

PACKAGE: Final = "muster_app"
PLAN_FILE: Final = "run.toml"
VERSION_FILE: Final = "version.json"
MOST_BUNDLE_BYTES: Final = 9 * MIB
"""Of what Flower bundles, which is ten megabytes at most."""

MOST_NAME: Final = 32

_PROJECT: Final = """\
# {reference} of Muster's, as an app of Flower's. README.md says how it is run.
[project]
name = "{name}"
version = "1.0.0"
description = "Train {reference} on Flower's own SuperLink and SuperNodes."
license = "Apache-2.0"
dependencies = []  # what it needs is Muster with Flower, which is installed on each machine

[tool.flwr.app]
publisher = "muster"

[tool.flwr.app.components]
serverapp = "{package}.server:app"
clientapp = "{package}.client:app"

[tool.flwr.app.config]
rounds = {rounds}
nodes = {nodes}          # so many there must be for a round to begin
result = "trained.onnx"  # where the ServerApp writes the trained model
files = ""               # a folder with model.onnx, if that is not in the bundle
examples = ""            # of a simulation: an .npz file that all its clients share
"""

_MODULE: Final = """\
\"\"\"The {kind} of {reference}.\"\"\"

from pathlib import Path

from controller.federated.flower_app.{module} import {module}_app

app = {module}_app(Path(__file__).parent)
"""

_README: Final = """\
# {reference} as an app of Flower's

Every machine has Muster with Flower: `pip install 'muster[federated]'`.

    export FLWR_TELEMETRY_ENABLED=0 FLWR_DISABLE_UPDATE_CHECK=1
    flower-superlink --insecure --disable-runtime-dependency-installation
    flower-supernode --insecure --superlink HOST:8000 --node-config 'examples="/path/to/own.npz"'
    flwr run . HOST --stream        # in this folder

`HOST` is a connection in `~/.flwr/config.toml`: `[superlink.HOST]`, `address = "HOST:8000"`,
`insecure = true`. `examples` is an .npz file with an array for each input of the model and `y` with the
truth. The trained model is in `trained.onnx` where the SuperLink was started.

{beside}What is different from a run on Muster's own channel stands in Muster's docs/flower.md.
"""

_BESIDE: Final = """\
The model is too large for Flower's bundle. Bring this folder to each machine, and say where it is:
`--run-config 'files="/path"'` for the ServerApp, `files="/path"` in `--node-config` for each SuperNode.

"""


AS_THERE: Final = frozenset({"minimum_cohort", "deadline", "mode", "rotation"})
"""Keys of ``[round]`` that hold there, too: of a rotation that is off, since there is none."""


def files_of(
    manifest: Manifest, signed: bytes, files: Mapping[Role, bytes], plan: Plan, text: str
) -> dict[str, bytes]:
    """The folder's files by path.

    Args:
        manifest: of the version that the run begins with.
        signed: its exact bytes.
        files: of the version; ``ROLES`` at least.
        plan: what the run file says, which has passed ``check_fits``.
        text: the run file.
    """
    carried = {role: files[role] for role in ROLES}
    beside = sum(len(zlib.compress(one, 1)) for one in carried.values()) > MOST_BUNDLE_BYTES
    said = {
        "reference": manifest.reference,
        "name": name_of(manifest),
        "package": PACKAGE,
        "rounds": plan.run.rounds,
        "nodes": plan.round.minimum_cohort,
        "beside": _BESIDE if beside else "",
    }
    server = _MODULE.format(kind="ServerApp", module="server", **said)
    client = _MODULE.format(kind="ClientApp", module="client", **said)
    return {
        "pyproject.toml": _PROJECT.format(**said).encode(),
        "README.md": _README.format(**said).encode(),
        f"{PACKAGE}/__init__.py": f'"""{manifest.reference} as an app of Flower\'s."""\n'.encode(),
        f"{PACKAGE}/server.py": server.encode(),
        f"{PACKAGE}/client.py": client.encode(),
        f"{PACKAGE}/{PLAN_FILE}": text.encode(),
        f"{PACKAGE}/{VERSION_FILE}": written(signed, {} if beside else carried),
        **({FILES[role]: data for role, data in carried.items()} if beside else {}),
    }


def check_fits(manifest: Manifest, plan: Plan) -> None:
    """Passes if the run can be an app of Flower's.

    Raises:
        NoFlowerApp: the version has no train step, or the run is of a kind that Flower has not.
    """
    if plan.round.mode is Mode.BUFFERED:
        raise NoFlowerApp('[round] mode = "buffered": Flower has synchronous rounds only')
    missing = [role for role in ROLES if role not in manifest.files]
    if missing:
        raise NoFlowerApp(f"{manifest.reference} has no {missing[0]}: devices can't train it")


def name_of(manifest: Manifest) -> str:
    """The app's name: a letter, then letters, digits and hyphens."""
    plain = re.sub(r"[^A-Za-z0-9]+", "-", manifest.model).strip("-")
    ending = f"-{manifest.version}"
    return f"{plain[: MOST_NAME - len(ending)].rstrip('-')}{ending}"


def without_effect(plan: Plan) -> Iterator[str]:
    """Settings of the run file that are not as always, and that Flower's own channel has not."""
    for table, now, usual in (
        ("round", plan.round, RoundTable()),
        ("admission", plan.admission, AdmissionTable()),
    ):
        for key in sorted(now.model_fields_set - AS_THERE):
            value = getattr(now, key)
            if value != getattr(usual, key):
                yield f"[{table}] {key} = {json.dumps(value)}"
    if plan.run.selector != "all":
        yield f"[run] selector = {json.dumps(plan.run.selector)}"
