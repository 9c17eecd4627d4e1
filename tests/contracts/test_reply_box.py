"""What every box of replies promises."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller.errors import NotFound
from controller.federated.intake.piece import Kept, Piece
from controller.store.reply_box import ReplyBox
from controller.store.reply_folder import ReplyFolder
from simulations.federated.memory_replies import MemoryReplies

REPLY = bytes(range(200))
OTHER = REPLY[::-1]


@pytest.fixture(params=["memory", "folder"])
def box(request: pytest.FixtureRequest, tmp_path: Path) -> ReplyBox:
    if request.param == "memory":
        return MemoryReplies()
    return ReplyFolder.open(tmp_path / "replies")


def piece(begin: int, end: int, reply: bytes = REPLY, task: str = "task-1") -> Piece:
    sha256 = hashlib.sha256(reply).hexdigest()
    return Piece(task, sha256, len(reply), begin, reply[begin:end])


def test_a_reply_in_one_piece_is_whole(box: ReplyBox) -> None:
    assert box.add(piece(0, 200)) == Kept(200, whole=True)
    assert box.read("task-1") == REPLY
    assert set(box.tasks()) == {"task-1"}


def test_pieces_are_kept_in_order_and_a_gap_is_not(box: ReplyBox) -> None:
    assert box.add(piece(50, 100)) == Kept(0)
    assert box.add(piece(0, 50)) == Kept(50)
    assert box.add(piece(120, 200)) == Kept(50)
    assert box.add(piece(0, 0)) == Kept(50)  # asks only how much is there
    assert box.add(piece(30, 120)) == Kept(120)  # what is there already is not written again
    with pytest.raises(NotFound):
        box.read("task-1")
    assert box.add(piece(120, 200)) == Kept(200, whole=True)
    assert box.read("task-1") == REPLY


def test_what_is_sent_again_changes_nothing(box: ReplyBox) -> None:
    for _ in range(2):
        assert box.add(piece(0, 100)) == Kept(100)
    for _ in range(2):
        assert box.add(piece(100, 200)) == Kept(200, whole=True)
    assert box.add(piece(0, 10)) == Kept(200, whole=True)
    assert box.read("task-1") == REPLY


def test_a_reply_that_was_made_anew_takes_the_place_of_one_that_is_not_whole(box: ReplyBox) -> None:
    box.add(piece(0, 100))

    assert box.add(piece(0, 30, OTHER)) == Kept(30)
    assert box.add(piece(0, 10)) == Kept(10)
    assert box.add(piece(0, 200, OTHER)) == Kept(200, whole=True)
    assert box.read("task-1") == OTHER
    assert box.add(piece(0, 200)) == Kept(200, whole=True)
    assert box.read("task-1") == OTHER  # the first one that is whole stays


def test_a_reply_with_a_wrong_digest_is_not_kept(box: ReplyBox) -> None:
    wrong = replace(piece(0, 200), sha256="0" * 64)

    assert box.add(wrong) == Kept(0, damaged=True)
    assert set(box.tasks()) == set()
    assert box.add(piece(0, 200)) == Kept(200, whole=True)


def test_tasks_do_not_touch_each_other(box: ReplyBox) -> None:
    box.add(piece(0, 100))
    box.add(piece(0, 200, OTHER, "task-10"))
    box.remove("task-1")
    box.remove("task-2")

    assert set(box.tasks()) == {"task-10"}
    assert box.add(piece(0, 5)) == Kept(5)
    box.remove("task-10")
    with pytest.raises(NotFound):
        box.read("task-10")
    assert set(box.tasks()) == {"task-1"}


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 200)), max_size=12))
@settings(
    deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_whatever_order_pieces_come_in_what_is_kept_is_the_start_of_the_reply(
    box: ReplyBox, cuts: list[tuple[int, int]]
) -> None:
    box.remove("task-1")
    have = 0
    for first, second in cuts:
        begin, end = sorted((first, second))
        if begin <= have:
            have = max(have, end)
        assert box.add(piece(begin, end)) == Kept(have, whole=have == 200)
    assert box.add(piece(have, 200)) == Kept(200, whole=True)
    assert box.read("task-1") == REPLY


def test_a_box_that_is_opened_again_has_what_it_had(tmp_path: Path) -> None:
    ReplyFolder.open(tmp_path).add(piece(0, 100))

    again = ReplyFolder.open(tmp_path)
    assert again.add(piece(100, 200)) == Kept(200, whole=True)
    assert ReplyFolder(tmp_path).read("task-1") == REPLY
