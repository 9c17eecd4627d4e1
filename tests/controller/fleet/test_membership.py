"""The index against the scan that it spares."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from controller.errors import BadSelector
from controller.fleet.actions import follow, label
from controller.fleet.attributes import attributes
from controller.fleet.device import Device, DeviceStatus
from controller.fleet.membership import Membership, Moved
from controller.fleet.selector import matches
from controller.fleet.selector_parser import parse
from simulations.memory_store import MemoryStore

NOW = 1_800_000_000.0

IDS = st.sampled_from([f"pi-{number}" for number in range(6)] + ["7", "7.0"])
VALUES = st.sampled_from(
    ["berlin", "oslo", "7", "7.0", "1.5", "1.10", "1.1", "1.20.0", "1.20.1", "512M", "536870912"]
)
NAMES = st.sampled_from(["site", "rack", "memory_bytes"])
LABELS = st.dictionaries(NAMES, VALUES, max_size=3)
LEAVES = st.one_of(
    st.just("all"),
    st.builds("has {}".format, NAMES),
    st.builds("{}{}{}".format, NAMES, st.sampled_from(["=", "!=", "<", "<=", ">", ">="]), VALUES),
    st.builds("{} in ({}, {})".format, NAMES, VALUES, VALUES),
    st.builds("id{}{}".format, st.sampled_from(["=", "!=", ">"]), IDS),
)
SELECTORS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds("not ({})".format, inner),
        st.builds("({}) and ({})".format, inner, inner),
        st.builds("({}) or ({}) or ({})".format, inner, inner, inner),
    ),
    max_leaves=6,
)


def device(name: str = "pi-1", **labels: str) -> Device:
    return Device(name, NOW, b"pem", "01", NOW + 1e6, labels=labels)


def scan(selector: str, devices: Iterable[Device]) -> frozenset[str]:
    return frozenset(
        one.id
        for one in devices
        if one.status is DeviceStatus.ACTIVE and matches(parse(selector), attributes(one))
    )


def told(*devices: Device) -> Membership:
    index = Membership()
    for one in devices:
        index.changed(one)
    return index


class Fleet(RuleBasedStateMachine):
    """Any order of changes and of selectors that are watched and forgotten."""

    def __init__(self) -> None:
        super().__init__()
        self.index = Membership()
        self.devices: dict[str, Device] = {}

    @rule(name=IDS, labels=LABELS, facts=LABELS)
    def change(self, name: str, labels: Mapping[str, str], facts: Mapping[str, str]) -> None:
        status = self.devices[name].status if name in self.devices else DeviceStatus.ACTIVE
        changed = replace(device(name), labels=labels, facts=facts, status=status)
        self.tell(changed)

    @rule(name=IDS)
    def revoke(self, name: str) -> None:
        self.tell(replace(self.devices.get(name, device(name)), status=DeviceStatus.REVOKED))

    @rule(name=IDS)
    def enrol_anew(self, name: str) -> None:
        self.tell(replace(self.devices.get(name, device(name)), status=DeviceStatus.ACTIVE))

    @rule(selectors=st.lists(SELECTORS, min_size=1, max_size=2))
    def watch(self, selectors: list[str]) -> None:
        self.index.watch(selectors, self.devices.values)

    @rule(data=st.data())
    def unwatch(self, data: st.DataObject) -> None:
        if self.index.watched:
            gone = data.draw(st.sampled_from(sorted(self.index.watched)))
            self.index.unwatch([gone])
            assert gone not in self.index.watched

    def tell(self, changed: Device) -> None:
        before = self.index.matching
        self.devices[changed.id] = changed
        moved = self.index.changed(changed)
        now = self.index.matching
        for selector in self.index.watched:
            was, is_ = changed.id in before[selector], changed.id in now[selector]
            assert (selector in moved.entered) == (is_ and not was)
            assert (selector in moved.left) == (was and not is_)
        assert self.index.changed(changed) == Moved()

    @invariant()
    def the_index_is_what_a_scan_finds(self) -> None:
        for selector, found in self.index.matching.items():
            assert found == scan(selector, self.devices.values()), selector


TestFleet = Fleet.TestCase
TestFleet.settings = settings(stateful_step_count=20)


@given(st.lists(st.tuples(IDS, LABELS), max_size=12), st.lists(SELECTORS, max_size=6))
def test_a_new_selector_finds_what_a_scan_finds(
    fleet: list[tuple[str, dict[str, str]]], selectors: list[str]
) -> None:
    devices = {name: device(name, **labels) for name, labels in fleet}
    index = told(*devices.values())

    index.watch(selectors, devices.values)

    assert index.matching == {one: scan(one, devices.values()) for one in selectors}


def test_a_device_is_told_to_have_entered_and_left() -> None:
    index = told(device(site="oslo"))
    index.watch(["site=oslo", "site=berlin", "all"], lambda: [device(site="oslo")])

    assert index.changed(device(site="berlin")) == Moved(
        frozenset({"site=berlin"}), frozenset({"site=oslo"})
    )
    gone = index.changed(replace(device(site="berlin"), status=DeviceStatus.REVOKED))
    assert gone == Moved(left=frozenset({"site=berlin", "all"}))


def test_what_was_handed_out_does_not_change_later() -> None:
    index = told(device(site="oslo"))
    index.watch(["all"])
    before = index.matching

    index.changed(device("pi-2"))

    assert before == {"all": {"pi-1"}}
    assert index.matching == {"all": {"pi-1", "pi-2"}}


def test_devices_are_read_again_only_for_names_that_no_selector_has_named() -> None:
    oslo = device(site="oslo", rack="7")
    index = told(oslo)
    reads = []

    def read() -> list[Device]:
        reads.append(index.watched)
        return [oslo]

    index.watch(["site=oslo"], read)
    index.watch(["site=berlin or has site", "all"], read)
    index.watch(["site=oslo and rack=7"], read)
    index.watch(["rack>6"], read)
    index.unwatch(["rack>6", "site=oslo and rack=7"])
    index.watch(["rack=7"], read)

    assert len(reads) == 3
    assert index.matching["rack=7"] == {"pi-1"}


def test_a_selector_that_can_not_be_read_changes_nothing() -> None:
    index = told(device(site="oslo"))

    with pytest.raises(BadSelector):
        index.watch(["site=oslo", "site="], lambda: [device(site="oslo")])

    assert index.watched == frozenset()


# --- Followed in a store ------------------------------------------------------------------------------


@pytest.fixture
def store() -> MemoryStore:
    made = MemoryStore()
    with made.begin() as tx:
        tx.devices.put(device("pi-1", site="oslo", gpu="a2"))
        tx.devices.put(device("pi-2", site="berlin"))
    return made


def test_an_index_follows_what_is_committed(store: MemoryStore) -> None:
    index = Membership()
    with store.read() as tx:
        assert follow(tx, index, ["site=oslo"]) == {"site=oslo": {"pi-1"}}
        assert tx.devices.changed_since(index.revision)[0] == []

    with store.begin() as tx:
        label(tx, "pi-2", "ada", NOW, {"site": "oslo", "rack": "7"})
        tx.devices.put(device("pi-3", site="oslo"))
    with store.read() as tx:
        assert follow(tx, index, ["site=oslo", "not (rack=7 or has gpu)"]) == {
            "site=oslo": {"pi-1", "pi-2", "pi-3"},
            "not (rack=7 or has gpu)": {"pi-3"},
        }

    with store.read() as tx:
        assert follow(tx, index, ["all"]) == {"all": {"pi-1", "pi-2", "pi-3"}}
    assert index.watched == {"all"}


def test_two_controllers_and_one_that_starts_anew_see_the_same(store: MemoryStore) -> None:
    indexes = [Membership(), Membership()]
    for turn, site in enumerate(["oslo", "bergen", "berlin"]):
        with store.begin() as tx:
            label(tx, "pi-1", "ada", NOW, {"site": site})
            tx.devices.put(device(f"pi-1{turn}", site=site))
        for index in indexes[turn % 2 :]:
            with store.read() as tx:
                follow(tx, index, ["site=berlin", "site!=oslo"])

    with store.read() as tx:
        told = [follow(tx, index, ["site=berlin", "site!=oslo"]) for index in indexes]
        anew = follow(tx, Membership(), ["site=berlin", "site!=oslo"])
        expected = {one: scan(one, tx.devices.all()) for one in ("site=berlin", "site!=oslo")}

    assert told == [expected, expected]
    assert anew == expected
