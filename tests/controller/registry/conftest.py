"""An empty registry, one with a version, and parts to make versions of."""

import dataclasses
import itertools

import numpy as np
import pytest

from agent.runtimes.onnx import OnnxRuntime
from controller.registry import actions
from controller.registry.preparation import Prepared, prepare
from controller.registry.registration import Registered
from controller.registry.trial import Gauges
from tests.controller.registry.building import classifier
from tests.controller.registry.registry import Registry, request


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.fixture(scope="session")
def one() -> tuple[Registry, Registered]:
    """A registry with one version; tests that ask for it change nothing."""
    registry = Registry()
    return registry, registry.register(classifier())


@pytest.fixture(scope="session")
def prepared() -> Prepared:
    """A classifier's parts, to be made a version without running it again."""
    return prepare(
        OnnxRuntime(),
        request(classifier()),
        None,
        Gauges(itertools.count().__next__, lambda: 0),
        np.random.default_rng(5),
        actions.silent,
    )


@pytest.fixture
def versions(registry: Registry, prepared: Prepared) -> list[Registered]:
    """Versions 1 and 2 of things, validated, told apart by their metrics alone."""
    return [
        registry.insert(dataclasses.replace(prepared, metrics={"accuracy": value}))
        for value in (0.95, 0.96)
    ]
