import dataclasses

import pytest

from controller.fleet.device import SlotState
from controller.rollout.account import Question, standing
from controller.rollout.policy import AT_ONCE
from controller.rollout.standing import Outcome
from tests.controller.rollout.few_facts import (
    ALONE,
    MEMBER,
    NOW,
    release,
    slot,
)


@pytest.mark.parametrize(
    ("slots", "connected", "expected"),
    [
        ((), True, (Outcome.WAITING, "")),
        ((), False, (Outcome.AWAY, "")),
        ((slot("d1", 2, "committed", running=True),), True, (Outcome.OK, "committed")),
        ((slot("d1", 2, "committed", running=True),), False, (Outcome.OK, "committed")),
        ((slot("d1", 2, "committed", running=False),), True, (Outcome.WAITING, "committed")),
        ((slot("d1", 2, "probation", running=True),), True, (Outcome.WAITING, "probation")),
        ((slot("d1", 1, "committed", running=True),), True, (Outcome.WAITING, "")),
        (
            (slot("d1", 2, "committed", running=True, manifest_sha256="f" * 64),),
            True,
            (Outcome.WAITING, "committed with another manifest"),
        ),
        (
            (slot("d1", 2, "committed", running=True, model_sha256="", code="not-ready"),),
            True,
            (Outcome.WAITING, "committed but not loaded"),
        ),
        (
            (slot("d1", 2, "committed", running=True, model_sha256="f" * 64),),
            True,
            (Outcome.WAITING, "committed with another file"),
        ),
        (
            (slot("d1", 2, "failed", running=False, generation=3, code="self-test-slow"),),
            True,
            (Outcome.FAILED, "failed"),
        ),
        (
            (slot("d1", 2, "failed", running=False, generation=4),),
            False,
            (Outcome.FAILED, "failed"),
        ),
        # An answer to an older question.
        ((slot("d1", 2, "failed", running=False, generation=2),), True, (Outcome.WAITING, "")),
        ((slot("d1", 1, "failed", running=False, generation=3),), True, (Outcome.WAITING, "")),
        (
            (
                slot("d1", 1, "committed", running=True, generation=3),
                slot("d1", 2, "fetching", running=False, generation=3),
            ),
            True,
            (Outcome.WAITING, "fetching"),
        ),
    ],
)
def test_only_proof_is_ok_and_only_an_answer_is_a_failure(
    slots: tuple[SlotState, ...], connected: bool, expected: tuple[Outcome, str]
) -> None:
    one = dataclasses.replace(ALONE.devices[0], connected=connected, last_seen=NOW)

    question = Question(MEMBER, AT_ONCE.stages[0], release(2), 3, 86_400.0)
    found = standing(one, slots, question, NOW)

    assert (found.outcome, found.doing) == expected
