"""What a device installs and imports: checked in a clean environment, made for the purpose."""

import json
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOO_HEAVY = {"flwr", "onnx", "pandas", "scipy", "sqlalchemy", "fastapi", "typer", "rich", "torch"}
PROBE = """
import importlib.metadata as m, json, sys
import agent.app, agent.cli
print(json.dumps({
    "installed": sorted(d.metadata["Name"].lower() for d in m.distributions()),
    "imported": sorted({name.split(".")[0] for name in sys.modules}),
}))
"""


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What `pip install muster[agent]` puts on a device, and what the agent imports of it."""
    folder = tmp_path_factory.mktemp("device")
    source = folder / "source"
    source.mkdir()
    for name in ("agent", "controller", "protos", "simulations"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    venv.create(folder / "env", with_pip=False)
    python = folder / "env" / "bin" / "python"
    uv = Path(sys.executable).parent / "uv"
    subprocess.run(
        [uv, "pip", "install", "--quiet", "--python", python, f"{source}[agent]"], check=True
    )
    done = subprocess.run(
        [python, "-P", "-c", PROBE], check=True, capture_output=True, text=True, cwd=folder
    )
    answer: dict[str, list[str]] = json.loads(done.stdout)
    return answer


def test_the_agent_extra_installs_nothing_heavy(device: dict[str, list[str]]) -> None:
    assert TOO_HEAVY & set(device["installed"]) == set()
    assert {"muster", "onnxruntime", "grpcio", "tuf"} <= set(device["installed"])


def test_the_agent_imports_nothing_of_the_controller(device: dict[str, list[str]]) -> None:
    assert {"controller", "simulations"} & set(device["imported"]) == set()
    assert TOO_HEAVY & set(device["imported"]) == set()
