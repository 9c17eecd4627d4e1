"""What every store of the controller promises. A new database is one more parameter."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from controller.access.operator import Operator, Role
from controller.audit import Entry, broken_at
from controller.enrolment.token import JoinToken
from controller.errors import Conflict, StoreError
from controller.fleet.device import Device, DeviceStatus, SlotState
from controller.fleet_config.applied import AppliedFleet
from controller.registry.version import Change, Model, Pending, State, Version
from controller.rollout import rollout as rollouts
from controller.rollout.rollout import Rollout, SignedDirective, Wanted
from controller.rollout.standing import Outcome, Standing
from controller.store.sql import SqlStore
from controller.store.store import DIRECTIVES_KEPT, METADATA_KEPT, Store, Transaction
from controller.telemetry.record import (
    Rejections,
    StoredEvent,
    StoredReport,
    StoredResources,
    StoredWindow,
    WindowHead,
)
from simulations.memory_store import MemoryStore


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    opened: Store
    if request.param == "memory":
        opened = MemoryStore()
    else:
        opened = SqlStore.open(f"sqlite:///{tmp_path}/muster.db")
    yield opened
    opened.close()


DEVICE = Device(
    id="dev-1",
    enrolled_at=1.5,
    public_key_pem=b"pem",
    certificate_serial="ff01",
    certificate_expires=99.25,
    labels={"site": "berlin"},
    facts={"arch": "aarch64"},
)
SLOT = SlotState(
    device="dev-1",
    model="digits",
    slot="champion",
    version=3,
    running=True,
    state="committed",
    manifest_sha256="m" * 64,
    model_sha256="d" * 64,
    approvals=2,
    generation=7,
    counter=11,
    reported_at=5.5,
)
TOKEN = JoinToken("t1", "s" * 64, 1.0, 2.0, "ada", {"site": "berlin"})
OPERATOR = Operator("ada", Role.ADMIN, "a" * 64, 1.0)
MODEL = Model("digits", 1.0, 2, {"key1": "ada", "key2": "bob"}, "reads digits")
VERSION = Version("digits", 1, State.DRAFT, b"{}", "m" * 64, 1.0, "ada", ("too slow",))
PENDING = Pending("digits", 1, Change.ADD, b"{}", 1.0, "ada", ("key1",))
ROLLOUT = Rollout("r1", "digits", 1, "site=berlin", rollouts.State.RUNNING, 1.0, "ada")
WANTED = Wanted("dev-1", "digits", "champion", 1, "r1", 1.0)
DIRECTIVE = SignedDirective("dev-1", 1, b"envelope", 1.0)
WINDOW = StoredWindow(
    device="dev-1",
    spool="spool",
    sequence=1,
    model="digits",
    version=1,
    profile_sha256="p" * 64,
    window_id="w1",
    started_ms=1_000,
    ended_ms=2_000,
    rows=50,
    verdict=2,
    payload=b"\x00window",
)
EVENT = StoredEvent(
    "dev-1", "spool", 2, 2_000, "install.failed", "error", "digits", 1, "hash-mismatch", "no", {}
)
READING = StoredResources("dev-1", "spool", 3, 2_000, b"\x00reading")
REPORT = StoredReport("dev-1", 1, 7, 5, 5.5, b"\x00envelope")
REJECTIONS = Rejections("dev-1", "report.replay", 2_000, 3)


def window(sequence: int, **changes: object) -> StoredWindow:
    return replace(WINDOW, sequence=sequence, window_id=f"w{sequence}", **changes)  # type: ignore[arg-type]


# --- Each table -----------------------------------------------------------------------------------


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


def changes(store: Store, since: int) -> tuple[list[str], int]:
    with store.read() as tx:
        devices, revision = tx.devices.changed_since(since)
        assert list(devices) == [tx.devices.get(one.id) for one in devices]
    return [one.id for one in devices], revision


def test_devices_that_selectors_see_otherwise_come_in_the_order_of_their_last_change(
    store: Store,
) -> None:
    with store.begin() as tx:
        assert tx.devices.changed_since(0) == ([], 0)
        for name in ("dev-2", "dev-1", "dev-3"):
            tx.devices.put(replace(DEVICE, id=name))
    everyone, first = changes(store, 0)
    with store.begin() as tx:
        tx.devices.put(replace(DEVICE, labels={"site": "oslo"}))
        tx.devices.put(replace(DEVICE, id="dev-3", facts={"arch": "x86_64"}))
    with store.begin() as tx:
        tx.devices.put(replace(DEVICE, labels={"site": "oslo"}, status=DeviceStatus.REVOKED))

    assert everyone == ["dev-2", "dev-1", "dev-3"]
    changed, last = changes(store, first)
    assert changed == ["dev-3", "dev-1"]
    assert last > first
    assert changes(store, last) == ([], last)
    assert changes(store, 0) == (["dev-2", "dev-3", "dev-1"], last)


def test_what_no_selector_sees_is_no_change(store: Store) -> None:
    with store.begin() as tx:
        tx.devices.put(DEVICE)
        tx.devices.put(replace(DEVICE, id="dev-2"))
    _, before = changes(store, 0)

    with store.begin() as tx:
        tx.devices.put(replace(DEVICE, counter=7, certificate_serial="ff02", online_seconds=5.0))
        tx.devices.touch("dev-1", 42.5, connected=True)
        tx.devices.replace_slots("dev-1", [SLOT])
        tx.devices.disconnect_all()

    assert changes(store, before) == ([], before)
    assert changes(store, 0) == (["dev-1", "dev-2"], before)


def test_a_change_that_is_rolled_back_is_none(store: Store) -> None:
    with store.begin() as tx:
        tx.devices.put(DEVICE)
    _, before = changes(store, 0)

    with pytest.raises(Interrupted):
        label_and_fail(store)

    assert changes(store, before) == ([], before)
    with store.begin() as tx:
        tx.devices.put(replace(DEVICE, labels={"site": "oslo"}))
    changed, after = changes(store, before)
    assert (changed, after > before) == (["dev-1"], True)


def test_a_report_replaces_all_slots_of_its_device_and_of_no_other(store: Store) -> None:
    trying = replace(SLOT, running=False, version=4, state="fetching", code="c", detail="d")
    others = replace(SLOT, device="dev-2")

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
    [[replace(SLOT, device="dev-2")], [SLOT, SLOT]],
    ids=["of another device", "the same twice"],
)
def test_slots_that_contradict_themselves_are_refused(store: Store, slots: list[SlotState]) -> None:
    with store.begin() as tx:
        tx.devices.put(DEVICE)
        tx.devices.replace_slots("dev-1", [replace(SLOT, version=9)])

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


def test_models_and_versions_come_back_in_order(store: Store) -> None:
    faces = replace(MODEL, name="faces", approvers={})
    second = replace(VERSION, version=2, state=State.RECALLED, reasons=())
    tenth = replace(VERSION, version=10)
    of_faces = replace(VERSION, model="faces")

    with store.begin() as tx:
        for model in (faces, MODEL):
            tx.registry.put_model(model)
        for version in (of_faces, tenth, second, replace(VERSION, state=State.APPROVED), VERSION):
            tx.registry.put_version(version)

    with store.begin() as tx:
        assert tx.registry.model("digits") == MODEL
        assert tx.registry.model("none") is None
        assert list(tx.registry.models()) == [MODEL, faces]
        assert tx.registry.version("digits", 2) == second
        assert tx.registry.version("digits", 3) is None
        assert list(tx.registry.versions("digits")) == [VERSION, second, tenth]
        assert list(tx.registry.versions()) == [VERSION, second, tenth, of_faces]


def test_a_version_of_no_model_is_refused(store: Store) -> None:
    with pytest.raises(Conflict), store.begin() as tx:
        tx.registry.put_version(VERSION)


def test_what_waits_for_signatures_is_kept_until_it_is_removed(store: Store) -> None:
    recall = replace(PENDING, change=Change.RECALL, signed_by=())

    with store.begin() as tx:
        tx.registry.put_model(MODEL)
        tx.registry.put_version(VERSION)
        tx.registry.put_version(replace(VERSION, version=2))
        tx.registry.put_pending(replace(PENDING, version=2))
        tx.registry.put_pending(PENDING)
        tx.registry.put_pending(recall)

    with store.begin() as tx:
        assert tx.registry.pending("digits", 1) == recall
        assert list(tx.registry.all_pending("digits")) == [recall, replace(PENDING, version=2)]
        assert list(tx.registry.all_pending("faces")) == []
        tx.registry.remove_pending("digits", 1)
        tx.registry.remove_pending("digits", 1)
        assert tx.registry.pending("digits", 1) is None
        assert list(tx.registry.all_pending()) == [replace(PENDING, version=2)]


def test_aliases_point_at_versions_that_exist(store: Store) -> None:
    with store.begin() as tx:
        tx.registry.put_model(MODEL)
        tx.registry.put_version(VERSION)
        tx.registry.put_version(replace(VERSION, version=2))
        tx.registry.put_alias("digits", "champion", 1)
        tx.registry.put_alias("digits", "best", 1)
        tx.registry.put_alias("digits", "champion", 2)

    with pytest.raises(Conflict), store.begin() as tx:
        tx.registry.put_alias("digits", "champion", 3)

    with store.begin() as tx:
        assert tx.registry.aliases("digits") == {"best": 1, "champion": 2}
        assert tx.registry.aliases("faces") == {}
        tx.registry.remove_alias("digits", "champion")
        tx.registry.remove_alias("digits", "champion")
        assert tx.registry.aliases("digits") == {"best": 1}


def test_every_version_that_people_sign_is_kept_and_the_highest_is_current(store: Store) -> None:
    with store.begin() as tx:
        tx.metadata.put("root", 1, b"one")
        tx.metadata.put("root", 2, b"two")
        tx.metadata.put("root", 1, b"one")
        tx.metadata.put("models-digits", 10, b"ten")

    with store.begin() as tx:
        assert tx.metadata.current("root") == b"two"
        assert tx.metadata.current("snapshot") is None
        assert tx.metadata.get("1.root.json") == b"one"
        assert tx.metadata.get("2.root.json") == b"two"
        assert tx.metadata.get("3.root.json") is None
        assert tx.metadata.get("root.json") == b"two"
        assert tx.metadata.get("10.models-digits.json") == b"ten"


@pytest.mark.parametrize(
    "name", ["", "root", "../root.json", "0.root.json", "x.root.json", ".json"]
)
def test_what_is_no_name_of_metadata_finds_nothing(store: Store, name: str) -> None:
    with store.begin() as tx:
        tx.metadata.put("root", 1, b"one")
        assert tx.metadata.get(name) is None


def test_published_metadata_is_never_changed_or_set_back(store: Store) -> None:
    with store.begin() as tx:
        tx.metadata.put("root", 3, b"three")

    with pytest.raises(Conflict), store.begin() as tx:
        tx.metadata.put("root", 3, b"else")
    with pytest.raises(Conflict), store.begin() as tx:
        tx.metadata.put("root", 2, b"two")

    with store.begin() as tx:
        assert tx.metadata.current("root") == b"three"


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


# --- Telemetry ------------------------------------------------------------------------------------


def test_the_cursor_of_each_spool_only_rises(store: Store) -> None:
    with store.begin() as tx:
        assert tx.telemetry.stored_through("dev-1", "a") == 0
        tx.telemetry.advance("dev-1", "a", 7, {})
        tx.telemetry.advance("dev-1", "a", 3, {})
        tx.telemetry.advance("dev-1", "b", 1, {})

    with store.begin() as tx:
        assert tx.telemetry.stored_through("dev-1", "a") == 7
        assert tx.telemetry.stored_through("dev-1", "b") == 1
        assert tx.telemetry.stored_through("dev-2", "a") == 0


def test_dropped_records_are_totals_of_each_spool_and_add_up_over_spools(store: Store) -> None:
    with store.begin() as tx:
        tx.telemetry.advance("dev-1", "a", 1, {"window": 5, "event": 1})
        tx.telemetry.advance("dev-1", "a", 2, {"window": 8})
        tx.telemetry.advance("dev-1", "a", 2, {"window": 6})
        tx.telemetry.advance("dev-1", "b", 1, {"window": 2})
        tx.telemetry.advance("dev-2", "a", 1, {"window": 100})

    with store.begin() as tx:
        assert tx.telemetry.dropped("dev-1") == {"event": 1, "window": 10}
        assert tx.telemetry.dropped("dev-3") == {}
        assert tx.telemetry.dropped() == {"event": 1, "window": 110}


def test_windows_come_by_their_end_and_by_what_is_asked_for(store: Store) -> None:
    late = window(1, ended_ms=9_000)
    early = window(2, ended_ms=1_000)
    other_version = window(3, ended_ms=5_000, version=2)
    other_device = window(4, ended_ms=6_000, device="dev-2")
    other_model = window(5, model="faces")

    with store.begin() as tx:
        tx.telemetry.add_windows([])
        tx.telemetry.add_windows([late, early, other_version, other_device, other_model])

    with store.begin() as tx:
        ask = tx.telemetry.windows
        assert list(ask("digits")) == [early, other_version, other_device, late]
        assert list(ask("digits", version=1)) == [early, other_device, late]
        assert list(ask("digits", device="dev-1")) == [early, other_version, late]
        assert list(ask("digits", since_ms=6_000)) == [other_device, late]
        assert list(ask("digits", 1, "dev-1", 1_001)) == [late]
        assert list(ask("nothing")) == []
        assert tx.telemetry.window_count() == 5


def test_newest_windows_are_as_few_of_each_device_as_are_enough(store: Store) -> None:
    old, middle, new = (window(n, ended_ms=1_000 * n) for n in (1, 2, 3))
    quiet = window(4, device="dev-0", ended_ms=500, rows=10)
    others = [
        window(5, version=2),
        window(6, model="faces"),
        window(7, profile_sha256="q" * 64, ended_ms=9_000),
        window(8, device="dev-2", profile_sha256="q" * 64),
    ]
    with store.begin() as tx:
        tx.telemetry.add_windows([old, middle, new, quiet, *others])

    with store.begin() as tx:
        ask = partial(tx.telemetry.newest_windows, "digits", 1, "p" * 64)
        assert list(ask(50)) == [quiet, new]
        assert list(ask(51)) == [quiet, new, middle]
        assert list(ask(1_000)) == [quiet, new, middle, old]
        assert list(ask(1_000, 2_000)) == [new, middle]
        assert list(tx.telemetry.newest_windows("digits", 3, "p" * 64, 50)) == []
        count = tx.telemetry.window_count
        assert (count("digits"), count("digits", 1), count("digits", 1, 2_000)) == (7, 6, 4)
        assert (count("nothing"), count(since_ms=9_000)) == (0, 1)


def test_a_devices_newest_window_is_told_in_short(store: Store) -> None:
    told = {"verdict": 3, "requests": 9, "failed": 2, "refused": 1}
    with store.begin() as tx:
        tx.telemetry.add_windows(
            [
                window(1, ended_ms=9_000, **told),
                window(2, ended_ms=3_000),
                window(3, ended_ms=9_000, device="dev-2", spool="a"),
                window(4, ended_ms=9_000, device="dev-2", spool="b", **told),
                window(5, ended_ms=9_999, version=2),
                window(6, ended_ms=4_000, device="dev-0"),
            ]
        )

    with store.read() as tx:
        found = tx.telemetry.newest_heads("digits", 1, 4_001)
        assert list(found) == [
            WindowHead("dev-1", "digits", 1, 9_000, 3, 9, 2, 1),
            WindowHead("dev-2", "digits", 1, 9_000, 3, 9, 2, 1),
        ]
        assert [one.device for one in tx.telemetry.newest_heads("digits", 1)] == [
            "dev-0",
            "dev-1",
            "dev-2",
        ]
        assert list(tx.telemetry.newest_heads("faces", 1)) == []


def test_of_windows_that_end_together_the_one_told_last_is_the_newest(store: Store) -> None:
    told = [window(1), window(2), replace(WINDOW, spool="a", window_id="x")]
    with store.begin() as tx:
        tx.telemetry.add_windows(told)

    with store.begin() as tx:
        found = tx.telemetry.newest_windows("digits", 1, "p" * 64, 50)

    assert list(found) == [told[1]]


def test_a_window_is_counted_once_whatever_comes_twice(store: Store) -> None:
    again_by_id = replace(WINDOW, spool="another", sequence=900)
    again_by_sequence = replace(WINDOW, window_id="another")
    elsewhere = replace(WINDOW, device="dev-2")

    with store.begin() as tx:
        tx.telemetry.add_windows([WINDOW, WINDOW])
    with store.begin() as tx:
        tx.telemetry.add_windows([again_by_id, again_by_sequence, elsewhere])

    with store.begin() as tx:
        assert list(tx.telemetry.windows("digits")) == [WINDOW, elsewhere]
        assert tx.telemetry.window_count() == 2


def test_events_and_readings_come_newest_first_and_once(store: Store) -> None:
    newer = replace(EVENT, sequence=9, recorded_ms=3_000, fields={"free": "12"})
    others = replace(EVENT, device="dev-2", recorded_ms=2_500)
    later = replace(READING, sequence=10, recorded_ms=4_000)

    with store.begin() as tx:
        tx.telemetry.add_events([EVENT, newer, EVENT, others])
        tx.telemetry.add_events([EVENT])
        tx.telemetry.add_resources([later, READING])
        tx.telemetry.add_resources([READING])

    with store.begin() as tx:
        assert list(tx.telemetry.events()) == [newer, others, EVENT]
        assert list(tx.telemetry.events("dev-1")) == [newer, EVENT]
        assert list(tx.telemetry.events(limit=1)) == [newer]
        assert list(tx.telemetry.resources("dev-1")) == [later]
        assert list(tx.telemetry.resources("dev-1", limit=9)) == [later, READING]
        assert list(tx.telemetry.resources("dev-2")) == []


def test_reports_are_evidence_and_their_counters_are_unique(store: Store) -> None:
    second = replace(REPORT, counter=2)

    with store.begin() as tx:
        tx.telemetry.add_report(REPORT)
        tx.telemetry.add_report(second)
    with pytest.raises(Conflict), store.begin() as tx:
        tx.telemetry.add_report(replace(REPORT, envelope=b"forged"))

    with store.begin() as tx:
        assert list(tx.telemetry.reports("dev-1")) == [second, REPORT]
        assert list(tx.telemetry.reports("dev-1", limit=1)) == [second]
        assert list(tx.telemetry.reports("dev-2")) == []


def test_what_is_too_old_expires_and_reports_and_cursors_stay(store: Store) -> None:
    kept = window(7, ended_ms=5_000)

    with store.begin() as tx:
        tx.telemetry.add_windows([WINDOW, kept])
        tx.telemetry.add_events([EVENT, replace(EVENT, sequence=9, recorded_ms=5_000)])
        tx.telemetry.add_resources([READING])
        tx.telemetry.add_report(REPORT)
        tx.telemetry.advance("dev-1", "spool", 9, {})
    with store.begin() as tx:
        assert tx.retention.expire(5_000, 100) == 3
        assert tx.retention.expire(5_000, 100) == 0

    with store.begin() as tx:
        assert list(tx.telemetry.windows("digits")) == [kept]
        assert tx.telemetry.window_count() == 1
        assert [event.sequence for event in tx.telemetry.events()] == [9]
        assert list(tx.telemetry.resources("dev-1")) == []
        assert list(tx.telemetry.reports("dev-1")) == [REPORT]
        assert tx.telemetry.stored_through("dev-1", "spool") == 9


def test_records_expire_in_portions_until_none_are_left(store: Store) -> None:
    with store.begin() as tx:
        tx.telemetry.add_windows([window(number) for number in range(1, 4)])
        tx.telemetry.add_events([EVENT, replace(EVENT, sequence=9, recorded_ms=5_000)])
        tx.telemetry.add_resources([READING])

    removed = []
    for _ in range(4):
        with store.begin() as tx:
            removed.append(tx.retention.expire(5_000, 2))

    assert removed == [2, 2, 1, 0]
    with store.begin() as tx:
        assert tx.telemetry.window_count() == 0
        assert [event.sequence for event in tx.telemetry.events()] == [9]


def test_a_devices_newest_reports_stay_and_the_oldest_go_in_portions(store: Store) -> None:
    with store.begin() as tx:
        for counter in range(1, 8):
            tx.telemetry.add_report(replace(REPORT, counter=counter))
        tx.telemetry.add_report(replace(REPORT, device="dev-2"))

    removed = []
    for _ in range(4):
        with store.begin() as tx:
            removed.append(tx.retention.trim_reports("dev-1", keep=3, most=2))

    assert removed == [2, 2, 0, 0]
    with store.begin() as tx:
        assert [one.counter for one in tx.telemetry.reports("dev-1")] == [7, 6, 5]
        assert [one.counter for one in tx.telemetry.reports("dev-2")] == [1]


def test_what_the_audit_was_not_told_is_kept_by_device_and_kind(store: Store) -> None:
    other = replace(REJECTIONS, action="telemetry.reject", untold=0)
    newer = replace(REJECTIONS, untold=9)

    with store.begin() as tx:
        for one in (REJECTIONS, other, newer):
            tx.audit.put_rejections(one)

    with store.begin() as tx:
        assert tx.audit.rejections("dev-1", "report.replay") == newer
        assert tx.audit.rejections("dev-1", "telemetry.reject") == other
        assert tx.audit.rejections("dev-2", "report.replay") is None


# --- Audit ----------------------------------------------------------------------------------------


def test_the_audit_chain_holds_and_is_read_in_pages(store: Store) -> None:
    with store.begin() as tx:
        assert tx.audit.last() is None
        assert list(tx.audit.records()) == []
    for number in range(5):
        with store.begin() as tx:
            tx.audit.append(Entry("ada", "model.approve", "digits/1", {"n": str(number)}), number)

    with store.begin() as tx:
        records = list(tx.audit.records())
        assert [record.sequence for record in records] == [1, 2, 3, 4, 5]
        assert broken_at(records) is None
        assert tx.audit.last() == records[-1]
        assert list(tx.audit.records(after=1, limit=2)) == records[1:3]
        assert list(tx.audit.records(after=5)) == []


def test_the_audit_of_a_failed_action_goes_with_it(store: Store) -> None:
    with store.begin() as tx:
        first = tx.audit.append(Entry("ada", "one", "x"), 1)
    with pytest.raises(Interrupted):
        audit_and_fail(store)

    with store.begin() as tx:
        third = tx.audit.append(Entry("ada", "three", "x"), 3)
        assert third.previous == first.digest
        assert broken_at(tx.audit.records()) is None


# --- Transactions ---------------------------------------------------------------------------------


class Interrupted(BaseException):
    """Not even an Exception: a KeyboardInterrupt behaves like this."""


def audit_and_fail(store: Store) -> None:
    with store.begin() as tx:
        tx.audit.append(Entry("ada", "two", "x"), 2)
        raise Interrupted


def label_and_fail(store: Store) -> None:
    with store.begin() as tx:
        tx.devices.put(replace(DEVICE, labels={"site": "nowhere"}))
        raise Interrupted


def write_everything_and_fail(store: Store) -> None:
    with store.begin() as tx:
        tx.devices.put(replace(DEVICE, counter=5, labels={}))
        tx.devices.touch("dev-1", 9.0, connected=True)
        tx.devices.replace_slots("dev-1", [SLOT])
        tx.tokens.put(TOKEN)
        tx.operators.put(OPERATOR)
        tx.registry.put_model(replace(MODEL, threshold=1))
        tx.registry.put_version(replace(VERSION, version=2))
        tx.registry.put_pending(PENDING)
        tx.registry.remove_alias("digits", "champion")
        tx.metadata.put("root", 1, b"one")
        tx.rollouts.put(ROLLOUT)
        tx.rollouts.remove_wanted("dev-1", "digits", "champion")
        tx.rollouts.put_directive(DIRECTIVE)
        tx.retention.expire(10_000, 100)
        tx.audit.put_rejections(REJECTIONS)
        tx.telemetry.add_windows([window(2)])
        tx.telemetry.add_events([EVENT])
        tx.telemetry.add_resources([READING])
        tx.telemetry.add_report(REPORT)
        tx.telemetry.advance("dev-1", "spool", 9, {"window": 1})
        tx.audit.append(Entry("ada", "x", "y"), 1)
        assert tx.leases.acquire("rollouts", "one", 20.0, 30.0)
        tx.leases.release("planning", "one")
        raise Interrupted


def contents(store: Store) -> list[object]:
    with store.begin() as tx:
        return [
            list(tx.devices.all()),
            tx.devices.changed_since(0),
            list(tx.devices.slots()),
            list(tx.tokens.all()),
            list(tx.operators.all()),
            list(tx.registry.models()),
            list(tx.registry.versions()),
            list(tx.registry.all_pending()),
            tx.registry.aliases("digits"),
            tx.metadata.current("root"),
            list(tx.rollouts.all()),
            list(tx.rollouts.wanted()),
            list(tx.rollouts.directives("dev-1")),
            list(tx.telemetry.windows("digits")),
            tx.telemetry.window_count(),
            list(tx.telemetry.events()),
            list(tx.telemetry.resources("dev-1", limit=9)),
            list(tx.telemetry.reports("dev-1")),
            tx.audit.rejections("dev-1", "report.replay"),
            tx.telemetry.stored_through("dev-1", "spool"),
            tx.telemetry.dropped("dev-1"),
            tx.audit.last(),
            [tx.leases.holder(name, 10.0) for name in ("rollouts", "planning")],
        ]


def test_a_failed_block_leaves_nothing_of_any_table_behind(store: Store) -> None:
    with store.begin() as tx:
        tx.devices.put(DEVICE)
        tx.registry.put_model(MODEL)
        tx.registry.put_version(VERSION)
        tx.registry.put_alias("digits", "champion", 1)
        tx.telemetry.add_windows([WINDOW])
        tx.rollouts.put_wanted(WANTED)
        tx.leases.acquire("planning", "one", 0.0, 30.0)
    before = contents(store)

    with pytest.raises(Interrupted):
        write_everything_and_fail(store)

    assert contents(store) == before
    with store.begin() as tx:
        tx.telemetry.add_windows([window(2)])
        assert tx.telemetry.window_count() == 2


def test_what_was_put_does_not_change_with_the_callers_dictionary(store: Store) -> None:
    labels = {"site": "berlin"}

    with store.begin() as tx:
        tx.devices.put(replace(DEVICE, labels=labels))
        labels["site"] = "paris"

    with store.begin() as tx:
        found = tx.devices.get("dev-1")
        assert found is not None
        assert found.labels == {"site": "berlin"}


def test_writers_on_many_threads_lose_nothing_and_the_chain_holds(store: Store) -> None:
    start = threading.Barrier(8)

    def write(number: int) -> None:
        start.wait(timeout=10)
        for turn in range(5):
            with store.begin() as tx:
                known = tx.devices.get("dev-1") or DEVICE
                tx.devices.put(replace(known, counter=known.counter + 1))
                tx.audit.append(Entry(f"thread-{number}", "count", "dev-1"), turn)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)

    with store.begin() as tx:
        device = tx.devices.get("dev-1")
        assert device is not None
        assert device.counter == 40
        records = list(tx.audit.records())
        assert len(records) == 40
        assert broken_at(records) is None


def test_a_transaction_inside_a_transaction_is_refused_and_harms_neither(store: Store) -> None:
    with store.begin() as tx:
        tx.tokens.put(TOKEN)
        with pytest.raises(StoreError, match="inside"), store.begin():
            pass
        tx.operators.put(OPERATOR)

    with store.begin() as tx:
        assert tx.tokens.get("t1") == TOKEN
        assert tx.operators.get("ada") == OPERATOR


def test_a_table_can_not_be_written_once_its_transaction_has_ended(store: Store) -> None:
    with store.begin() as tx:
        tokens = tx.tokens

    with pytest.raises(StoreError):
        tokens.put(TOKEN)

    with store.begin() as tx:
        assert list(tx.tokens.all()) == []


def test_a_read_sees_what_was_committed_before_it_began(store: Store) -> None:
    with store.begin() as tx:
        tx.devices.put(DEVICE)
        tx.registry.put_model(MODEL)

    with store.read() as tx:
        assert list(tx.devices.all()) == [DEVICE]
        assert tx.registry.model("digits") == MODEL


@pytest.mark.parametrize(
    "write",
    [
        lambda tx: tx.devices.put(replace(DEVICE, counter=5)),
        lambda tx: tx.devices.touch("dev-1", 42.5, connected=True),
        lambda tx: tx.tokens.put(TOKEN),
        lambda tx: tx.rollouts.put_directive(DIRECTIVE),
        lambda tx: tx.rollouts.remove_wanted("dev-1", "digits", "champion"),
        lambda tx: tx.telemetry.add_windows([WINDOW]),
        lambda tx: tx.retention.expire(10_000, 100),
        lambda tx: tx.metadata.put("root", 1, b"one"),
        lambda tx: tx.audit.append(Entry("ada", "x", "y"), 1),
        lambda tx: tx.leases.acquire("rollouts", "one", 10.0, 30.0),
    ],
)
def test_a_read_writes_nothing(store: Store, write: Callable[[Transaction], object]) -> None:
    with store.begin() as tx:
        tx.devices.put(DEVICE)
        tx.rollouts.put_wanted(WANTED)
        tx.telemetry.add_windows([window(2)])
    before = contents(store)

    with pytest.raises(StoreError), store.read() as tx:
        write(tx)

    assert contents(store) == before


def test_a_read_never_sees_half_of_a_transaction(store: Store) -> None:
    """Writers move one of two counters and then the other; readers must never find them apart."""
    with store.begin() as tx:
        tx.devices.put(DEVICE)
        tx.devices.put(replace(DEVICE, id="dev-2"))
    seen: list[tuple[int, int]] = []
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            with store.read() as tx:
                first = tx.devices.get("dev-1")
                second = tx.devices.get("dev-2")
            assert first is not None
            assert second is not None
            seen.append((first.counter, second.counter))

    readers = [threading.Thread(target=look) for _ in range(3)]
    for reader in readers:
        reader.start()
    for turn in range(1, 51):
        with store.begin() as tx:
            tx.devices.put(replace(DEVICE, counter=turn))
            tx.devices.put(replace(DEVICE, id="dev-2", counter=turn))
    done.set()
    for reader in readers:
        reader.join(timeout=30)

    assert seen
    assert [pair for pair in seen if pair[0] != pair[1]] == []


def test_a_read_inside_a_transaction_is_refused_and_harms_it_not(store: Store) -> None:
    with store.begin() as tx:
        tx.tokens.put(TOKEN)
        with pytest.raises(StoreError, match="inside"), store.read():
            pass

    with store.read() as tx:
        with pytest.raises(StoreError, match="inside"), store.begin():
            pass
        assert tx.tokens.get("t1") == TOKEN


def test_a_closed_store_says_so_and_may_be_closed_again(store: Store) -> None:
    store.close()
    store.close()

    with pytest.raises(StoreError, match="closed"), store.begin():
        pass
    with pytest.raises(StoreError, match="closed"), store.read():
        pass


def test_of_every_fleet_the_newest_file_is_kept(store: Store) -> None:
    first = AppliedFleet("meters", "a = 1 # ü\n", "a" * 64, 1.5, "ada")
    other = AppliedFleet("cameras", "", "b" * 64, 2.0, "bob")
    newer = replace(first, text="a = 2\n", sha256="c" * 64, applied_at=3.25, applied_by="bob")
    with store.begin() as tx:
        assert tx.fleets.get("meters") is None
        tx.fleets.put(first)
        tx.fleets.put(other)
    with store.read() as tx:
        assert tx.fleets.get("meters") == first
    with store.begin() as tx:
        tx.fleets.put(newer)
    with store.read() as tx:
        assert tx.fleets.all() == [other, newer]
        with pytest.raises(StoreError):
            tx.fleets.put(first)
