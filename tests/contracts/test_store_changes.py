"""What every store of the controller promises of changes: nothing that plans need is missed."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from controller.fleet.device import DeviceStatus
from controller.rollout.rollout import CONTROL, Member
from controller.store.store import Store, Transaction
from tests.contracts.stored import DEVICE, DIRECTIVE, SLOT, WANTED, Interrupted

OTHER = replace(DEVICE, id="dev-2")
MEMBER = Member("r1", "dev-1", CONTROL)
CHANGES: dict[str, Callable[[Transaction], object]] = {
    "it is revoked": lambda tx: tx.devices.put(replace(DEVICE, status=DeviceStatus.REVOKED)),
    "its link comes up": lambda tx: tx.devices.touch("dev-1", 30.0, connected=True),
    "it reports": lambda tx: tx.devices.replace_slots("dev-1", [SLOT]),
    "it reports that nothing is left": lambda tx: tx.devices.replace_slots("dev-1", []),
    "something is wanted of it": lambda tx: tx.rollouts.put_wanted(replace(WANTED, attempt=3)),
    "nothing is wanted of it": lambda tx: tx.rollouts.remove_wanted("dev-1", "digits", "champion"),
    "it is told something": lambda tx: tx.rollouts.put_directive(DIRECTIVE),
    "a rollout releases it": lambda tx: tx.stages.put_members([MEMBER]),
}


def begun(store: Store) -> int:
    """Two devices are there, and something is wanted of one; the revision."""
    with store.begin() as tx:
        tx.devices.put(replace(DEVICE, connected=False))
        tx.devices.put(OTHER)
        tx.rollouts.put_wanted(WANTED)
    with store.read() as tx:
        return tx.changes.since(0).revision


def test_at_first_everything_has_changed(store: Store) -> None:
    with store.read() as tx:
        assert list(tx.changes.since(0).ids) == []
    begun(store)
    with store.begin() as tx:
        tx.devices.replace_slots("dev-1", [SLOT])
        tx.stages.put_members([MEMBER])

    with store.read() as tx:
        found = tx.changes.since(0)
        again = tx.changes.since(found.revision)
    assert sorted(found.ids) == ["dev-1", "dev-2"]
    assert {one.id: one for one in found.devices}.keys() == {"dev-1", "dev-2"}
    assert (list(found.wanted), list(found.slots), list(found.members)) == (
        [WANTED],
        [SLOT],
        [MEMBER],
    )
    assert (list(again.ids), list(again.devices), again.revision) == ([], [], found.revision)


@pytest.mark.parametrize("change", CHANGES)
def test_who_has_changed_is_told_of_whole_and_nobody_else(store: Store, change: str) -> None:
    before = begun(store)
    with store.begin() as tx:
        CHANGES[change](tx)

    with store.read() as tx:
        found = tx.changes.since(before)
        (device,) = found.devices
        assert list(found.ids) == ["dev-1"]
        assert device == tx.devices.get("dev-1")
        assert list(found.slots) == list(tx.devices.slots("dev-1"))
        assert list(found.wanted) == list(tx.rollouts.wanted("dev-1"))
        assert list(found.members) == [one for one in tx.stages.members() if one.device == "dev-1"]
        assert found.revision > before
        assert list(tx.changes.since(found.revision).ids) == []


def test_who_is_only_heard_again_has_not_changed(store: Store) -> None:
    begun(store)
    with store.begin() as tx:
        tx.devices.touch("dev-1", 30.0, connected=True)
    with store.read() as tx:
        before = tx.changes.since(0).revision
    with store.begin() as tx:
        tx.devices.touch("dev-1", 90.0, connected=True)

    with store.read() as tx:
        assert list(tx.changes.since(before).ids) == []


def test_links_that_are_gone_and_members_that_go_are_changes(store: Store) -> None:
    begun(store)
    with store.begin() as tx:
        tx.devices.touch("dev-1", 30.0, connected=True)
        tx.devices.touch("dev-2", 30.0, connected=False)
        tx.stages.put_members([replace(MEMBER, device="gone")])
    with store.read() as tx:
        before = tx.changes.since(0).revision
    with store.begin() as tx:
        tx.devices.disconnect_all()
        tx.stages.remove_members("r1")

    with store.read() as tx:
        found = tx.changes.since(before)
    assert sorted(found.ids) == ["dev-1", "gone"]
    assert [one.id for one in found.devices] == ["dev-1"]
    assert list(found.members) == []


def withdraw_and_fail(store: Store) -> None:
    with store.begin() as tx:
        tx.rollouts.remove_wanted("dev-1", "digits", "champion")
        raise Interrupted


def test_what_was_rolled_back_misleads_nobody(store: Store) -> None:
    before = begun(store)
    with pytest.raises(Interrupted):
        withdraw_and_fail(store)

    with store.begin() as tx:
        tx.devices.touch("dev-2", 30.0, connected=True)
    with store.read() as tx:
        found = tx.changes.since(before)
    assert "dev-2" in found.ids
    assert list(found.wanted) == [WANTED for one in found.ids if one == "dev-1"]
