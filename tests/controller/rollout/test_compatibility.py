import dataclasses

import pytest

from controller.rollout.compatibility import objections
from protos.manifest import Needs
from tests.controller.rollout.few_facts import (
    release,
)
from tests.controller.rollout.world import device


@pytest.mark.parametrize(
    ("facts", "version", "expected"),
    [
        ({}, Needs(arch=("aarch64",), memory_bytes=10**12, minimum_runtime="9.9"), ()),
        ({"arch": "aarch64"}, Needs(arch=("aarch64", "armv7l")), ()),
        ({"arch": "x86_64"}, Needs(arch=("aarch64",)), ("needs aarch64, is x86_64",)),
        ({"arch": "arm64"}, Needs(arch=("aarch64",)), ()),
        ({"arch": "x86_64"}, Needs(arch=("AMD64",)), ()),
        ({"runtimes.onnxruntime": "1.21.0+cu12"}, Needs(minimum_runtime="1.21"), ()),
        (
            {"runtimes.onnxruntime": "1.20.0+cu12"},
            Needs(minimum_runtime="1.21"),
            ("needs onnxruntime 1.21, has 1.20.0+cu12",),
        ),
        (
            {"memory_bytes": str(256 * 1024**2)},
            Needs(memory_bytes=512 * 1024**2),
            ("needs 512 MiB of memory, has 256 MiB",),
        ),
        ({"runtimes.other": "1"}, Needs(), ("needs onnxruntime, has none",)),
        ({"runtimes.onnxruntime": "1.20"}, Needs(minimum_runtime="1.20.0"), ()),
        (
            {"runtimes.onnxruntime": "1.9.1"},
            Needs(minimum_runtime="1.20"),
            ("needs onnxruntime 1.20, has 1.9.1",),
        ),
    ],
)
def test_every_reason_why_a_device_can_not_run_a_version_is_given(
    facts: dict[str, str], version: Needs, expected: tuple[str, ...]
) -> None:
    needing = dataclasses.replace(release(1), needs=version)

    assert objections(needing, device("d1", {}, facts)) == expected


def test_an_agent_that_is_too_old_is_not_asked() -> None:
    needing = dataclasses.replace(release(1), minimum_agent="0.2")

    assert objections(needing, device("d1", {}, {"agent_version": "0.1.9"})) == (
        "needs agent 0.2, has 0.1.9",
    )
    assert objections(needing, device("d1", {}, {"agent_version": "0.2.0"})) == ()
