"""In a feature folder only loop.py, actions.py and flower.py touch the world."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OUTSIDE = {"transport", "store", "runtimes", "serving", "web", "cli", "demo"}
SHELLS = {"loop.py", "actions.py", "flower.py", "__init__.py"}
# What gives the time, chance, or reach into the world.
BANNED_MODULES = {
    "asyncio", "random", "secrets", "socket", "subprocess", "threading", "urllib", "httpx",
    "sqlite3", "sqlalchemy", "sqlite_utils", "grpc", "shutil", "tempfile", "signal", "time",
}  # fmt: skip
BANNED_CALLS = {
    "open", "print", "input", "datetime.now", "datetime.utcnow", "datetime.today", "date.today",
    "np.random.default_rng", "np.random.seed", "os.urandom", "uuid.uuid4", "os.environ.get",
}  # fmt: skip
BANNED_METHODS = {"read_bytes", "read_text", "write_bytes", "write_text", "unlink", "mkdir"}


def core_files() -> list[Path]:
    features = [
        folder
        for side in ("agent", "controller")
        for folder in sorted((ROOT / side).iterdir())
        if folder.is_dir() and folder.name not in OUTSIDE and folder.name != "__pycache__"
    ]
    files = [path for folder in features for path in sorted(folder.rglob("*.py"))]
    return [path for path in files if path.name not in SHELLS]


def dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


def impurities(tree: ast.AST) -> list[str]:
    found = []
    for node in ast.walk(tree):
        match node:
            case ast.AsyncFunctionDef(name=name):
                found.append(f"line {node.lineno}: coroutine {name}")
            case ast.Import(names=names):
                found += [
                    f"line {node.lineno}: imports {one.name}"
                    for one in names
                    if one.name.split(".")[0] in BANNED_MODULES
                ]
            case ast.ImportFrom(module=str(module)) if module.split(".")[0] in BANNED_MODULES:
                found.append(f"line {node.lineno}: imports {module}")
            case ast.Call(func=func):
                name = dotted(func)
                method = func.attr if isinstance(func, ast.Attribute) else ""
                if name in BANNED_CALLS or method in BANNED_METHODS:
                    found.append(f"line {node.lineno}: calls {name}")
            case _:
                pass
    return found


@pytest.mark.parametrize("path", core_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_core_is_pure(path: Path) -> None:
    assert impurities(ast.parse(path.read_text())) == []


@pytest.mark.parametrize(
    "source",
    [
        "import random",
        "from time import time",
        "async def f(): ...",
        "from datetime import datetime\ndatetime.now()",
        "open('x')",
        "def f(p): return p.read_text()",
    ],
)
def test_the_walk_sees_what_it_must(source: str) -> None:
    assert impurities(ast.parse(source)) != []
