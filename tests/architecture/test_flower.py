"""Flower is an extra: it is imported in processes of its own, in few files, and nowhere else."""

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ALLOWED = {
    "controller/federated/coordinator/flower.py",
    "controller/federated/coordinator/flower_private.py",
    "controller/federated/coordinator/flower_strategies.py",
    "controller/federated/flower_app/client.py",
    "controller/federated/flower_app/server.py",
    "simulations/study/reference.py",
}


def imports_flower(path: Path) -> bool:
    for node in ast.walk(ast.parse(path.read_text())):
        names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        if any(name.partition(".")[0] == "flwr" for name in names):
            return True
    return False


def test_few_files_import_flower() -> None:
    found = {
        str(path.relative_to(ROOT))
        for side in ("agent", "controller", "protos", "simulations")
        for path in (ROOT / side).rglob("*.py")
        if imports_flower(path)
    }

    assert found <= ALLOWED
    assert found


def test_neither_daemon_loads_it() -> None:
    probe = "import sys, agent.app, controller.app; print('flwr' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == "False"
