"""Generates the wire code: ``python -m protos.generate [--check]``.

The generator is pinned in pyproject.toml: code from a later one does not run on the protobuf that
Flower allows. The output is committed, so that no device and no operator needs a compiler.
"""

import argparse
import importlib.resources
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("protos/v1", "protos/open_inference", "protos/flower")


def main() -> int:
    """Writes the generated code, or with ``--check`` says which files differ (status 1)."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument(
        "--check", action="store_true", help="write nothing; fail on a difference"
    )
    check = arguments.parse_args().check
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder)
        _compile(fresh)
        stale = [path for path in _generated(fresh) if _differs(fresh / path, ROOT / path)]
        if check:
            for path in stale:
                sys.stderr.write(f"{path} is not what its .proto gives: run `make protos`\n")
            return 1 if stale else 0
        for path in stale:
            shutil.copyfile(fresh / path, ROOT / path)
    return 0


def _compile(output: Path) -> None:
    well_known = Path(str(importlib.resources.files("grpc_tools"))) / "_proto"
    scripts = Path(sys.executable).parent
    plugins = [f"--plugin=protoc-gen-{n}={scripts}/protoc-gen-{n}" for n in ("mypy", "mypy_grpc")]
    for folder in SOURCES:
        for source in sorted((ROOT / folder).glob("*.proto")):
            name = source.relative_to(ROOT).as_posix()
            outputs = [f"--{kind}_out={output}" for kind in ("python", "mypy")]
            if "\nservice " in source.read_text():
                outputs += [f"--{kind}_out={output}" for kind in ("grpc_python", "mypy_grpc")]
            flags = (f"-I{ROOT}", f"-I{well_known}", *plugins, *outputs)
            # A process of its own: the compiler writes to its streams and keeps global state.
            command = [sys.executable, "-m", "grpc_tools.protoc", *flags, name]
            done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
            if done.returncode != 0:
                sys.exit(f"{name}: the compiler failed\n{done.stderr}")


def _generated(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path.relative_to(folder)


def _differs(fresh: Path, committed: Path) -> bool:
    return not committed.exists() or fresh.read_bytes() != committed.read_bytes()


if __name__ == "__main__":
    sys.exit(main())
