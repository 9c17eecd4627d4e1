"""What every store of the controller promises of rollouts, stages and directives."""

from dataclasses import replace

import pytest

from controller.errors import Conflict
from controller.rollout import rollout as rollouts
from controller.rollout.policy import STAGED
from controller.rollout.rollout import CONTROL, Member, StageRecord, StageState
from controller.rollout.standing import Outcome, Standing
from controller.store.rollout_tables import DIRECTIVES_KEPT
from controller.store.store import METADATA_KEPT, Store
from tests.contracts.stored import DEVICE, DIRECTIVE, ROLLOUT, WANTED, Interrupted


def test_rollouts_come_newest_first(store: Store) -> None:
    newer = replace(ROLLOUT, id="r2", created_at=2.0)
    ended = replace(ROLLOUT, state=rollouts.State.SUCCEEDED, ended_at=3.5)

    with store.begin() as tx:
        tx.rollouts.put(ROLLOUT)
        tx.rollouts.put(newer)
        tx.rollouts.put(ended)

    with store.begin() as tx:
        assert tx.rollouts.get("r1") == ended
        assert tx.rollouts.get("r3") is None
        assert list(tx.rollouts.all()) == [newer, ended]


def test_how_devices_stood_is_kept_with_the_rollout(store: Store) -> None:
    first = Standing("dev-1", Outcome.OK, "committed")
    second = Standing("dev-2", Outcome.FAILED, "failed", "hash-mismatch", "blob x")
    with store.begin() as tx:
        assert list(tx.rollouts.standings("r1")) == []
        tx.rollouts.put_standings("r1", [second, Standing("dev-3", Outcome.UNREACHABLE)])
        tx.rollouts.put_standings("r1", [second, first])
        tx.rollouts.put_standings("r2", [])

    with store.begin() as tx:
        assert list(tx.rollouts.standings("r1")) == [first, second]
        assert list(tx.rollouts.standings("r2")) == []


def test_what_is_wanted_is_one_version_per_slot(store: Store) -> None:
    other = replace(WANTED, device="dev-2")
    faces = replace(WANTED, model="faces")
    newer = replace(WANTED, version=2, rollout="r2")

    with store.begin() as tx:
        for wanted in (other, faces, WANTED, newer):
            tx.rollouts.put_wanted(wanted)

    with store.begin() as tx:
        assert list(tx.rollouts.wanted("dev-1")) == [newer, faces]
        assert list(tx.rollouts.wanted()) == [newer, faces, other]
        assert list(tx.rollouts.wanted("dev-3")) == []
        tx.rollouts.remove_wanted("dev-1", "digits", "champion")
        tx.rollouts.remove_wanted("dev-9", "digits", "champion")
        assert list(tx.rollouts.wanted("dev-1")) == [faces]


def test_generations_of_directives_only_grow_and_those_before_stay(store: Store) -> None:
    second = replace(DIRECTIVE, generation=5, envelope=b"second")

    with store.begin() as tx:
        assert tx.rollouts.directive("dev-1") is None
        tx.rollouts.put_directive(DIRECTIVE)
        tx.rollouts.put_directive(second)
        tx.rollouts.put_directive(replace(DIRECTIVE, device="dev-2"))

    for stale in (5, 4):
        with pytest.raises(Conflict), store.begin() as tx:
            tx.rollouts.put_directive(replace(DIRECTIVE, generation=stale, envelope=b"x"))

    with store.begin() as tx:
        assert tx.rollouts.directive("dev-1") == second
        assert list(tx.rollouts.directives("dev-1")) == [second, DIRECTIVE]


def test_the_newest_directive_of_each_device_is_found(store: Store) -> None:
    other = replace(DIRECTIVE, device="dev-2", generation=7)
    with store.begin() as tx:
        tx.devices.put(replace(DEVICE, id="dev-2"))
        tx.devices.put(DEVICE)
        assert list(tx.rollouts.newest_directives()) == []
        for generation in (1, 2, 3):
            tx.rollouts.put_directive(replace(DIRECTIVE, generation=generation))
        tx.rollouts.put_directive(other)

    with store.read() as tx:
        found = {one.device: one for one in tx.rollouts.newest_directives()}
    assert found == {"dev-1": replace(DIRECTIVE, generation=3), "dev-2": other}


def test_of_a_devices_directives_the_newest_few_stay(store: Store) -> None:
    with store.begin() as tx:
        tx.rollouts.put_directive(replace(DIRECTIVE, device="dev-2"))
        for generation in range(1, DIRECTIVES_KEPT + 4):
            tx.rollouts.put_directive(replace(DIRECTIVE, generation=generation))

    with store.begin() as tx:
        kept = [one.generation for one in tx.rollouts.directives("dev-1")]
        assert kept == list(range(DIRECTIVES_KEPT + 3, 3, -1))
        assert len(tx.rollouts.directives("dev-2")) == 1


@pytest.mark.parametrize("role", ["timestamp", "snapshot"])
def test_of_what_only_the_controller_signs_the_newest_few_stay(store: Store, role: str) -> None:
    newest = METADATA_KEPT + 2
    with store.begin() as tx:
        tx.metadata.put("models-digits", 1, b"signed by people")
        for version in range(1, newest + 1):
            tx.metadata.put(role, version, b"%d" % version)
            tx.metadata.put("root", version, b"%d" % version)

    with store.begin() as tx:
        found = [tx.metadata.get(f"{version}.{role}.json") for version in range(1, newest + 1)]
        assert found == [None, None, *(b"%d" % version for version in range(3, newest + 1))]
        assert tx.metadata.get("1.root.json") == b"1"
        assert tx.metadata.get("1.models-digits.json") == b"signed by people"


STAGE = StageRecord(
    "r1",
    0,
    StageState.REVERTED,
    size=5,
    opened_at=1.5,
    passed_at=2.5,
    approved_by="ada",
    accepted_failed=1,
    accepted_unreachable=2,
    broken_gates=("drift",),
    accepted_gates=("error-rate", "mine"),
    reason="1 of 5 failed",
)
MEMBER = Member(
    "r1",
    "dev-1",
    0,
    released_at=1.5,
    online_at=20.25,
    before=3,
    proven_at=2.0,
    reverted=True,
    attempt=2,
    deferred_at=21.5,
)
HELD = Member("r1", "dev-2", CONTROL)


def test_a_rollout_comes_back_with_its_whole_policy(store: Store) -> None:
    staged = replace(ROLLOUT, policy=STAGED, reason="by ada", fleet="cameras")
    with store.begin() as tx:
        tx.rollouts.put(staged)

    with store.begin() as tx:
        assert tx.rollouts.get("r1") == staged


def test_stages_come_by_rollout_and_number_as_they_were_put_last(store: Store) -> None:
    later, other = StageRecord("r1", 1), StageRecord("r2", 0)
    with store.begin() as tx:
        assert list(tx.stages.all()) == []
        tx.stages.put([other, later, replace(STAGE, state=StageState.OPEN)])
        tx.stages.put([STAGE])

    with store.begin() as tx:
        assert list(tx.stages.all()) == [STAGE, later, other]
        assert list(tx.stages.all("r1")) == [STAGE, later]
        assert list(tx.stages.all("r3")) == []


def test_members_come_by_rollout_and_device_and_go_with_their_rollout(store: Store) -> None:
    other = replace(MEMBER, rollout="r2")
    with store.begin() as tx:
        assert list(tx.stages.members()) == []
        tx.stages.put_members([other, HELD, replace(MEMBER, deferred_at=None, attempt=1)])
        tx.stages.put_members([MEMBER])

    with store.begin() as tx:
        assert list(tx.stages.members()) == [MEMBER, HELD, other]
        assert list(tx.stages.members("r1")) == [MEMBER, HELD]
        tx.stages.remove_members("r1")
        tx.stages.remove_members("r3")

    with store.begin() as tx:
        assert list(tx.stages.members()) == [other]


def change_stages_and_fail(store: Store) -> None:
    with store.begin() as tx:
        tx.stages.put([replace(STAGE, size=9)])
        tx.stages.remove_members("r1")
        raise Interrupted


def test_stages_and_members_of_a_block_that_fails_are_as_before(store: Store) -> None:
    with store.begin() as tx:
        tx.stages.put([STAGE])
        tx.stages.put_members([MEMBER])

    with pytest.raises(Interrupted):
        change_stages_and_fail(store)

    with store.begin() as tx:
        assert list(tx.stages.all()) == [STAGE]
        assert list(tx.stages.members()) == [MEMBER]


def test_how_devices_stood_keeps_stage_and_soak(store: Store) -> None:
    stood = Standing("dev-1", Outcome.OK, "committed", stage=2, soaks_until=7.5)
    with store.begin() as tx:
        tx.rollouts.put_standings("r1", [stood])

    with store.begin() as tx:
        assert list(tx.rollouts.standings("r1")) == [stood]


def test_links_that_are_spared_stay(store: Store) -> None:
    with store.begin() as tx:
        for name in ("dev-1", "dev-2", "dev-3"):
            tx.devices.put(replace(DEVICE, id=name))
            tx.devices.touch(name, 10.0, connected=name != "dev-3")
        tx.devices.disconnect_all({"dev-2"})

    with store.begin() as tx:
        assert [one.connected for one in tx.devices.all()] == [False, True, False]
        tx.devices.disconnect_all({"dev-2", "dev-9"})
        tx.devices.disconnect_all()
        assert not any(one.connected for one in tx.devices.all())
