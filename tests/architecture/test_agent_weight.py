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
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The commands of an environment with what `pip install muster[agent]` puts on a device."""
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
    return python.parent


@pytest.fixture(scope="module")
def device(scripts: Path) -> dict[str, list[str]]:
    """What is installed there, and what the agent imports of it."""
    done = subprocess.run(
        [scripts / "python", "-P", "-c", PROBE],
        check=True,
        capture_output=True,
        text=True,
        cwd=scripts,
    )
    answer: dict[str, list[str]] = json.loads(done.stdout)
    return answer


def test_the_agent_extra_installs_nothing_heavy(device: dict[str, list[str]]) -> None:
    assert TOO_HEAVY & set(device["installed"]) == set()
    assert {"muster", "onnxruntime", "grpcio", "tuf"} <= set(device["installed"])


def test_the_agent_imports_nothing_of_the_controller(device: dict[str, list[str]]) -> None:
    assert {"controller", "simulations"} & set(device["imported"]) == set()
    assert TOO_HEAVY & set(device["imported"]) == set()


def test_an_operators_command_says_what_to_install_on_a_device(scripts: Path) -> None:
    done = subprocess.run(
        [scripts / "muster", "device", "list"], capture_output=True, text=True, check=False
    )

    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "pip install 'muster[controller]'" in done.stderr


def test_the_agent_loads_no_transport_before_it_goes_that_way(device: dict[str, list[str]]) -> None:
    assert {"grpc", "aiomqtt", "paho"} & set(device["imported"]) == set()


def test_an_agent_that_keeps_no_examples_loads_nothing_of_training() -> None:
    assert (
        loaded("agent.app", "agent.serving.faces")
        & {
            *("agent.federated.local_training", "agent.federated.collecting.actions"),
            *("agent.federated.loop", "agent.runtimes.trainer", "agent.store.sqlite_examples"),
            "agent.training",
        }
        == set()
    )


def test_an_agent_that_waits_for_tasks_has_nothing_loaded_of_the_training_itself() -> None:
    modules = loaded(
        "agent.app", "agent.training", "agent.serving.faces", "agent.store.sqlite_examples"
    )

    assert (
        modules
        & {
            *("agent.federated.local_training", "agent.runtimes.train_step", "onnxruntime"),
            *("agent.runtimes.trainer_process", "numpy.random"),
        }
        == set()
    )


def test_the_process_that_trains_loads_what_it_computes_with_and_little_else() -> None:
    needed = {"agent", "protos", "numpy", "msgspec", "typing_extensions", "cython_runtime"}
    packages = {name.partition(".")[0] for name in loaded("agent.runtimes.trainer_process")}
    others = {name for name in packages - needed if not name.startswith("_")}

    assert others <= sys.stdlib_module_names
    assert others & {"asyncio", "ssl", "sqlite3", "email", "http", "multiprocessing"} == set()


def loaded(*modules: str) -> set[str]:
    """All that is there once these are imported."""
    code = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())
