"""What every store of the controller promises of devices, tokens and operators."""

from dataclasses import replace

import msgspec
import pytest

from controller.access.operator import Operator, Role
from controller.errors import Conflict
from controller.fleet.device import DeviceStatus, SlotState
from controller.store.store import Store
from tests.contracts.stored import DEVICE, OPERATOR, SLOT, TOKEN


def test_a_device_comes_back_as_it_was_put_and_is_replaced_by_the_next(store: Store) -> None:
    revoked = replace(DEVICE, status=DeviceStatus.REVOKED, labels={}, counter=2**40)
    other = replace(DEVICE, id="dev-0")

    with store.begin() as tx:
        tx.devices.put(DEVICE)
        tx.devices.put(other)
        assert tx.devices.get("dev-1") == DEVICE
        tx.devices.put(revoked)

    with store.begin() as tx:
        assert tx.devices.get("dev-1") == revoked
        assert tx.devices.get("dev-9") is None
        assert list(tx.devices.all()) == [other, revoked]


def test_presence_is_noted_without_touching_the_rest(store: Store) -> None:
    with store.begin() as tx:
        tx.devices.put(DEVICE)
        tx.devices.touch("dev-1", 42.5, connected=True)
        tx.devices.touch("nobody", 42.5, connected=True)

    up = replace(DEVICE, last_seen=42.5, connected=True, connected_since=42.5)
    with store.begin() as tx:
        assert list(tx.devices.all()) == [up]
        tx.devices.disconnect_all()
        assert tx.devices.get("dev-1") == replace(DEVICE, last_seen=42.5)


def test_time_online_adds_up_over_links(store: Store) -> None:
    with store.begin() as tx:
        tx.devices.put(DEVICE)
        for at, connected in [(100.0, True), (160.0, True), (190.0, False), (500.0, False)]:
            tx.devices.touch("dev-1", at, connected=connected)
        tx.devices.touch("dev-1", 600.0, connected=True)

    up = replace(
        DEVICE, last_seen=600.0, connected=True, connected_since=600.0, online_seconds=90.0
    )
    with store.begin() as tx:
        assert tx.devices.get("dev-1") == up
        tx.devices.touch("dev-1", 610.0, connected=False)
        assert tx.devices.get("dev-1") == replace(DEVICE, last_seen=610.0, online_seconds=100.0)


def test_time_online_ends_where_a_controller_that_was_killed_last_heard_the_device(
    store: Store,
) -> None:
    with store.begin() as tx:
        for name in ("dev-1", "dev-2", "dev-3"):
            tx.devices.put(replace(DEVICE, id=name, online_seconds=5.0))
        for at in (100.0, 160.0):
            tx.devices.touch("dev-1", at, connected=True)
        tx.devices.touch("dev-2", 100.0, connected=True)
        tx.devices.touch("dev-3", 100.0, connected=False)

    with store.begin() as tx:
        tx.devices.disconnect_all()

    with store.begin() as tx:
        known = {one.id: (one.online_seconds, one.connected_since) for one in tx.devices.all()}
        assert known == {"dev-1": (65.0, 0.0), "dev-2": (5.0, 0.0), "dev-3": (5.0, 0.0)}


def test_a_device_that_was_never_timed_is_online_from_when_it_is_next_heard(store: Store) -> None:
    """What a database holds that was made before time online was counted."""
    with store.begin() as tx:
        tx.devices.put(replace(DEVICE, id="dev-0", connected=True, last_seen=1e9))
        tx.devices.put(replace(DEVICE, connected=True, last_seen=1e9))
        tx.devices.touch("dev-1", 1e9 + 50, connected=True)
        tx.devices.touch("dev-1", 1e9 + 60, connected=True)
        tx.devices.disconnect_all()

    with store.begin() as tx:
        assert [one.online_seconds for one in tx.devices.all()] == [0.0, 10.0]


def test_a_clock_that_is_set_back_takes_no_time_online_away(store: Store) -> None:
    with store.begin() as tx:
        tx.devices.put(DEVICE)
        for at in (1000.0, 1060.0, 1030.0, 1050.0, 500.0):
            tx.devices.touch("dev-1", at, connected=True)
        known = tx.devices.get("dev-1")

    assert known is not None
    assert known.online_seconds == 60 + 20
    assert known.connected_since == 500.0


def test_a_report_replaces_all_slots_of_its_device_and_of_no_other(store: Store) -> None:
    trying = msgspec.structs.replace(
        SLOT, running=False, version=4, state="fetching", code="c", detail="d"
    )
    others = msgspec.structs.replace(SLOT, device="dev-2")

    with store.begin() as tx:
        tx.devices.put(DEVICE)
        tx.devices.put(replace(DEVICE, id="dev-2"))
        tx.devices.replace_slots("dev-2", [others])
        tx.devices.replace_slots("dev-1", iter([trying, SLOT]))
        assert list(tx.devices.slots("dev-1")) == [SLOT, trying]
        assert list(tx.devices.slots()) == [SLOT, trying, others]
        tx.devices.replace_slots("dev-1", [SLOT])
        assert list(tx.devices.slots("dev-1")) == [SLOT]
        tx.devices.replace_slots("dev-1", [])

    with store.begin() as tx:
        assert list(tx.devices.slots("dev-1")) == []
        assert list(tx.devices.slots()) == [others]


@pytest.mark.parametrize(
    "slots",
    [[msgspec.structs.replace(SLOT, device="dev-2")], [SLOT, SLOT]],
    ids=["of another device", "the same twice"],
)
def test_slots_that_contradict_themselves_are_refused(store: Store, slots: list[SlotState]) -> None:
    with store.begin() as tx:
        tx.devices.put(DEVICE)
        tx.devices.replace_slots("dev-1", [msgspec.structs.replace(SLOT, version=9)])

    with pytest.raises(Conflict), store.begin() as tx:
        tx.devices.replace_slots("dev-1", slots)

    with store.begin() as tx:
        assert [slot.version for slot in tx.devices.slots("dev-1")] == [9]


def test_slots_of_a_device_that_never_joined_are_refused(store: Store) -> None:
    with pytest.raises(Conflict), store.begin() as tx:
        tx.devices.replace_slots("dev-1", [SLOT])


def test_join_tokens_are_kept_by_id_oldest_first(store: Store) -> None:
    older = replace(TOKEN, id="t9", created_at=0.5)
    used = replace(TOKEN, used_at=1.5, used_by="dev-1")

    with store.begin() as tx:
        tx.tokens.put(TOKEN)
        tx.tokens.put(older)
        tx.tokens.put(used)

    with store.begin() as tx:
        assert tx.tokens.get("t1") == used
        assert tx.tokens.get("t2") is None
        assert list(tx.tokens.all()) == [older, used]


def test_operators_are_found_by_name_and_by_their_token(store: Store) -> None:
    bob = Operator("bob", Role.VIEWER, "b" * 64, 2.0, revoked_at=3.0)

    with store.begin() as tx:
        tx.operators.put(bob)
        tx.operators.put(OPERATOR)

    with store.begin() as tx:
        found = tx.operators.get("bob")
        assert found == bob
        assert found is not None
        assert found.role is Role.VIEWER
        assert tx.operators.by_token("a" * 64) == OPERATOR
        assert tx.operators.by_token("c" * 64) is None
        assert tx.operators.get("eve") is None
        assert list(tx.operators.all()) == [OPERATOR, bob]


def test_two_operators_never_share_a_token(store: Store) -> None:
    with store.begin() as tx:
        tx.operators.put(OPERATOR)
        tx.operators.put(replace(OPERATOR, role=Role.VIEWER))

    with pytest.raises(Conflict), store.begin() as tx:
        tx.operators.put(replace(OPERATOR, name="bob"))
