"""The app's files: written by who exports it, read by Flower's processes."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np

from agent.federated.layout import Array
from controller.federated.flower_app.errors import AppDamaged, ExamplesUnfit
from controller.federated.flower_app.folder import PLAN_FILE, VERSION_FILE
from controller.federated.flower_app.version import AppVersion, read_version
from controller.federated.plan import Plan
from controller.federated.run_file import decode, read_plan
from controller.registry.npz_file import REFERENCE_DATA_BYTES, read_arrays


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Writes the files. What is there already of the same name is replaced. Raises ``OSError``."""
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def plan_in(package: Path) -> Plan:
    """The run file's.

    Raises:
        AppDamaged, BadRunFile: it can't be read.
    """
    return read_plan(decode(_read(package / PLAN_FILE), PLAN_FILE), PLAN_FILE)


@cache
def version_in(package: Path, files: str) -> AppVersion:
    """The version, which is read once in a process; ``files`` is where its files are, if outside.

    Raises:
        AppDamaged: it can't be read, or is not what was exported.
    """

    def beside(name: str) -> bytes:
        if not files:
            raise AppDamaged(f"{name} is not in the bundle, and `files` does not say where it is")
        return _read(Path(files) / name)

    return read_version(_read(package / VERSION_FILE), beside)


def arrays_at(path: str) -> Mapping[str, Array]:
    """The arrays of an .npz file.

    Raises:
        ExamplesUnfit: no file is named, or it can't be read.
        BadReference, TooLarge: it is no such file.
    """
    if not path:
        raise ExamplesUnfit("no examples are named")
    try:
        file = Path(path)
        if file.stat().st_size > REFERENCE_DATA_BYTES:
            raise ExamplesUnfit(f"{path}: more than {REFERENCE_DATA_BYTES:,} bytes")
        return read_arrays(file.read_bytes(), path)
    except OSError as error:
        raise ExamplesUnfit(f"{path}: {error.strerror}") from error


def generator(seed: int) -> np.random.Generator:
    """As devices have it: the same seed gives the same bits."""
    return np.random.default_rng(seed)


def write_result(path: str, model: bytes) -> None:
    """Writes the trained model, whole or not at all. Raises ``OSError``."""
    target = Path(path)
    scratch = target.with_name(f"{target.name}.part")
    scratch.write_bytes(model)
    scratch.replace(target)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise AppDamaged(f"{path}: {error.strerror}") from error
