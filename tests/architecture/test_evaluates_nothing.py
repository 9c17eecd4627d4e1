"""Nothing that the product reads can make it run code."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("agent", "controller", "protos", "simulations")
LOADERS = {"pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}
EVALUATORS = {"eval", "exec", "compile"}


def evaluating(tree: ast.AST) -> list[str]:
    found = []
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                modules = [one.name for one in names]
            case ast.ImportFrom(module=str(module)):
                modules = [module]
            case ast.Call(func=ast.Name(id=name)) if name in EVALUATORS:
                found.append(f"line {node.lineno}: calls {name}")
                continue
            case _:
                continue
        found += [
            f"line {node.lineno}: imports {one}" for one in modules if one.split(".")[0] in LOADERS
        ]
    return found


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_module_loads_what_could_run(folder: str) -> None:
    found = {
        str(path.relative_to(ROOT)): lines
        for path in sorted((ROOT / folder).rglob("*.py"))
        if (lines := evaluating(ast.parse(path.read_text(encoding="utf-8"))))
    }

    assert found == {}


@pytest.mark.parametrize(
    "code", ["import pickle", "from marshal import loads", "import dill.source", "eval('1')"]
)
def test_what_could_run_is_seen(code: str) -> None:
    assert evaluating(ast.parse(code)) != []
