"""docs/train_step.md says what the code does."""

import inspect
from pathlib import Path

import pytest

from controller.train_step import errors
from controller.train_step.rules.table import RULES
from protos.train_step import FROZEN_OPERATORS, Loss

TEXT = (Path(__file__).resolve().parents[3] / "docs" / "train_step.md").read_text()


def listed(mark: str) -> list[str]:
    part = TEXT.split(f"<!-- {mark} -->\n")[1].split("<!-- end -->")[0]
    return part.replace("\n", " ").strip().split(", ")


@pytest.mark.parametrize(("mark", "operators"), [("rules", RULES), ("frozen", FROZEN_OPERATORS)])
def test_the_operators_are_current(mark: str, operators: frozenset[str]) -> None:
    assert listed(mark) == sorted(operators)


def test_every_refusal_is_told() -> None:
    kinds = [one for _, one in inspect.getmembers(errors, inspect.isclass)]
    refusals = [one for one in kinds if issubclass(one, errors.NotTrainable)]

    codes = {one.code for one in refusals} - {errors.NotTrainable.code}
    assert {code for code in codes if f"| `{code}` |" not in TEXT} == set()


def test_every_loss_is_told() -> None:
    assert [loss for loss in Loss if f"`{loss}`" not in TEXT] == []
