"""Nothing needs itself: whoever reads a part can read what it needs first."""

import functools
from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter

import grimp
import pytest

SIDES = ("agent", "controller")
SEAMS = {"cli", "runtimes", "serving", "store", "transport", "web"}
SHELLS = {"actions", "flower", "loop"}

Needs = Mapping[str, set[str]]


@functools.cache
def imports() -> Needs:
    """What each module imports, wherever it does."""
    found = grimp.build_graph(*SIDES, "protos", "simulations", cache_dir=None)
    return {one: found.find_modules_directly_imported_by(one) for one in found.modules}


def deciding(needs: Needs) -> Needs:
    """Which features need which, for what they decide.

    Seams name the nouns of every feature, and every feature's shell speaks to seams; so both are left
    out, and with them what is wired beside the features.
    """
    found: dict[str, set[str]] = {}
    for module, imported in needs.items():
        feature = feature_of(module)
        if feature and module.rpartition(".")[2] not in SHELLS:
            found.setdefault(feature, set()).update(map(feature_of, imported))
    return {one: others - {one, ""} for one, others in found.items()}


def feature_of(module: str) -> str:
    """``controller.rollout`` of ``controller.rollout.gate.look``; empty if it is of none."""
    side, _, rest = module.partition(".")
    name, _, inner = rest.partition(".")
    return f"{side}.{name}" if side in SIDES and inner and name not in SEAMS else ""


def circle(needs: Needs) -> list[str]:
    """Some that need each other, in order; empty if there are none."""
    try:
        TopologicalSorter(needs).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_module_needs_itself() -> None:
    assert circle(imports()) == []


def test_no_feature_needs_itself_for_what_it_decides() -> None:
    assert circle(deciding(imports())) == []


@pytest.mark.parametrize(
    ("module", "imported"),
    [
        ("controller.rollout.policy", "controller.federated.plan"),
        ("controller.rollout.gate.look", "controller.federated.task.pieces"),
    ],
)
def test_a_circle_is_seen(module: str, imported: str) -> None:
    needs = {"controller.federated.plan": {"controller.rollout.plan"}, module: {imported}}

    assert set(circle(deciding(needs))) == {"controller.federated", "controller.rollout"}


def test_what_is_done_about_a_decision_may_need_any_feature() -> None:
    needs = {
        "controller.federated.plan": {"controller.rollout.policy"},
        "controller.rollout.actions": {"controller.federated.plan"},
        "controller.rollout.policy": {"controller.store.store"},
    }

    assert circle(deciding(needs)) == []
