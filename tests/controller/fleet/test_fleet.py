import pytest

from controller.errors import BadSelector, InvalidInput, NotFound, TooLarge
from controller.fleet.actions import (
    MAX_FACTS_BYTES,
    explain_selector,
    label,
    list_devices,
    show,
    update_facts,
)
from controller.fleet.attributes import MAX_LABELS, attribute, attributes, check_labels, flatten
from controller.fleet.device import Device
from controller.fleet.presence import Presence
from controller.rollout.rollout import SignedDirective
from protos.v1 import common_pb2
from simulations.memory_store import MemoryStore

NOW = 1_800_000_000.0


def device(name: str = "pi-01", **fields: object) -> Device:
    known = {"labels": {"site": "berlin"}, "facts": {"arch": "aarch64"}, **fields}
    return Device(name, NOW, b"pem", "01", NOW + 1e6, **known)  # type: ignore[arg-type]


@pytest.fixture
def store() -> MemoryStore:
    made = MemoryStore()
    with made.begin() as tx:
        tx.devices.put(device("pi-02", labels={"site": "munich"}))
        tx.devices.put(device("pi-01", connected=True, last_seen=NOW - 1))
    return made


@pytest.mark.parametrize(
    ("labels", "named"),
    [
        ({"": "x"}, "''"),
        ({"Site": "berlin"}, "'Site'"),
        ({"9": "x"}, "'9'"),
        ({"a" * 64: "x"}, "63"),
        ({"site": ""}, "'site'"),
        ({"site": "-x"}, "'-x'"),
        ({"site": "a b"}, "'a b'"),
        ({"site": "a\n"}, "'a\\n'"),
        ({"site": "x" * 64}, "63"),
        ({"and": "x"}, "selector language"),
        ({"memory_bytes": "1T"}, "a fact"),
        ({"runtimes.onnxruntime": "9"}, "a fact"),
        ({"id": "other"}, "a fact"),
        ({f"k{i}": "x" for i in range(MAX_LABELS + 1)}, str(MAX_LABELS)),
    ],
)
def test_a_label_that_may_not_stand_is_named(labels: dict[str, str], named: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_labels(labels)

    assert named in caught.value.detail


def test_facts_become_text_that_selectors_see() -> None:
    facts = common_pb2.DeviceFacts(
        agent_version="0.1.0",
        arch="x86_64",
        os="Linux",
        memory_bytes=512 * 1024**2,
        cpu_count=2,
        runtimes={"onnxruntime": "1.31.1"},
        python="3.11.9",
        timezone="Europe/Berlin",
    )

    assert flatten(facts) == {
        "agent_version": "0.1.0",
        "arch": "x86_64",
        "os": "Linux",
        "memory_bytes": "536870912",
        "cpu_count": "2",
        "runtimes.onnxruntime": "1.31.1",
        "python": "3.11.9",
        "timezone": "Europe/Berlin",
    }


def test_what_a_device_says_of_itself_is_bounded_and_printable() -> None:
    runtimes = {f"r{i}": "1" for i in range(100)}

    flat = flatten(
        common_pb2.DeviceFacts(arch="x" * 1000 + "\n", os="a\x1b[31m", runtimes=runtimes)
    )

    assert len(flat["arch"]) == 128
    assert flat["os"] == "a?[31m"
    assert len(flat) == 2 + 16


def test_a_fact_wins_over_a_label_of_its_name() -> None:
    odd = device(labels={"arch": "mine", "site": "x"}, facts={"arch": "aarch64", "id": "other"})

    assert attributes(odd) == {"arch": "aarch64", "site": "x", "id": "pi-01"}
    assert {name: attribute(odd, name) for name in attributes(odd)} == attributes(odd)
    assert attribute(odd, "hw") is None


def test_devices_are_listed_by_id_and_by_selector(store: MemoryStore) -> None:
    with store.begin() as tx:
        everything = list_devices(tx, NOW)
        munich = list_devices(tx, NOW, "site=munich")
        with pytest.raises(BadSelector):
            list_devices(tx, NOW, "site=")

    assert [(one.device.id, one.presence) for one in everything] == [
        ("pi-01", Presence.ONLINE),
        ("pi-02", Presence.OFFLINE),
    ]
    assert [one.device.id for one in munich] == ["pi-02"]


def test_a_device_is_shown_with_the_generation_it_was_told(store: MemoryStore) -> None:
    with store.begin() as tx:
        assert show(tx, "pi-01", NOW).generation == 0
        tx.rollouts.put_directive(SignedDirective("pi-01", 7, b"", 0))
        assert show(tx, "pi-01", NOW).generation == 7
        with pytest.raises(NotFound, match="pi-99"):
            show(tx, "pi-99", NOW)


def test_labels_are_set_removed_and_audited(store: MemoryStore) -> None:
    with store.begin() as tx:
        label(tx, "pi-01", "ada", NOW, {"rack": "7"}, ["site"])
    with store.begin() as tx:
        kept = tx.devices.get("pi-01")
        last = tx.audit.last()

    assert kept is not None
    assert kept.labels == {"rack": "7"}
    assert last is not None
    assert (last.entry.actor, last.entry.action, last.entry.subject) == (
        "ada",
        "device.label",
        "pi-01",
    )
    assert last.entry.detail == {"+rack": "7", "site": "-"}


def test_a_label_that_changes_nothing_leaves_no_record(store: MemoryStore) -> None:
    with store.begin() as tx:
        label(tx, "pi-01", "ada", NOW, {"site": "berlin"}, ["rack"])
        assert tx.audit.last() is None


def test_a_refused_label_changes_nothing(store: MemoryStore) -> None:
    with store.begin() as tx:
        before = tx.devices.get("pi-01")
        with pytest.raises(InvalidInput, match="both set and removed"):
            label(tx, "pi-01", "ada", NOW, {"site": "x"}, ["site"])
        with pytest.raises(InvalidInput, match="a fact"):
            label(tx, "pi-01", "ada", NOW, {"site": "x", "arch": "mine"})
        with pytest.raises(NotFound):
            label(tx, "pi-99", "ada", NOW, {"site": "x"})
        assert tx.devices.get("pi-01") == before


def test_facts_are_taken_and_tell_whether_they_are_new(store: MemoryStore) -> None:
    payload = common_pb2.DeviceFacts(arch="x86_64", memory_bytes=1).SerializeToString()
    with store.begin() as tx:
        assert update_facts(tx, "pi-01", payload)
        assert not update_facts(tx, "pi-01", payload)
        with pytest.raises(InvalidInput, match="DeviceFacts"):
            update_facts(tx, "pi-01", b"\xff\xff\xff")
        with pytest.raises(TooLarge):
            update_facts(tx, "pi-01", b"x" * (MAX_FACTS_BYTES + 1))
        known = tx.devices.get("pi-01")

    assert known is not None
    assert known.facts == {"arch": "x86_64", "memory_bytes": "1"}


def test_why_a_device_does_not_match_can_be_asked(store: MemoryStore) -> None:
    with store.begin() as tx:
        explained = explain_selector(tx, "site=munich", "pi-01")

    assert not explained.matches
    assert explained.lines == ("no  site=munich (site is berlin)",)
