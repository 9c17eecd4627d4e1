"""Names, sizes and exceptions: the tail is what makes a code base hard to live in."""

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("agent", "controller", "protos", "simulations")
BANNED_NAMES = re.compile(r"util|helper|manager|handler|common|misc", re.IGNORECASE)
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
MAX_METHODS = 16


@functools.cache
def sources() -> list[Path]:
    return [
        path
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
        if "_pb2" not in path.name
    ]


@functools.cache
def nodes(path: Path) -> list[ast.AST]:
    """All that matters here, of a file: every law looks at every file."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.ExceptHandler, ast.Global)
    return [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, kinds)]


def test_no_file_or_class_is_named_for_nothing() -> None:
    named = [path for path in sources() if BANNED_NAMES.search(path.stem)]
    classes = [
        f"{path.relative_to(ROOT)}: {node.name}"
        for path in sources()
        for node in nodes(path)
        if isinstance(node, ast.ClassDef) and BANNED_NAMES.search(node.name)
    ]

    assert (named, classes) == ([], [])


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_files_functions_and_classes_stay_small(path: Path) -> None:
    text = path.read_text()

    assert len(text.splitlines()) <= MAX_FILE_LINES
    assert list(oversized(nodes(path))) == []


def oversized(nodes: list[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > MAX_FUNCTION_LINES:
                yield f"{node.name}: {lines} lines"
        if isinstance(node, ast.ClassDef) and "Protocol" not in [
            base.id for base in node.bases if isinstance(base, ast.Name)
        ]:
            methods = [
                n for n in node.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)
            ]
            if len(methods) > MAX_METHODS:
                yield f"{node.name}: {len(methods)} methods"


def test_everything_is_caught_only_at_the_top_of_a_loop() -> None:
    """``except Exception`` stands in loop.py, app.py or at an outermost boundary, and is logged."""
    allowed = {"loop.py", "app.py", "connection.py"}
    broad = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in sources()
        if path.name not in allowed
        for node in nodes(path)
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or getattr(node.type, "id", "") in {"Exception", "BaseException"})
    ]

    assert broad == []


def test_no_globals_and_no_type_checking_escape_per_module() -> None:
    globals_used = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in sources()
        for node in nodes(path)
        if isinstance(node, ast.Global)
    ]

    assert globals_used == []
    assert "overrides" not in (ROOT / "pyproject.toml").read_text()
