"""docs/mqtt.md says what the rules say, and docs/mqtt_trust.md names tests that are there."""

import re
from pathlib import Path

from controller.broker import listeners, mosquitto
from protos.mqtt.topics import RULES, Party
from tests.broker.parties import door_of

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "mqtt.md").read_text()
ROW = re.compile(r"^\| `(muster/[^`]+)` \| ([^|]+) \| ([^|]+) \|", re.MULTILINE)
WHOLE = {"devices": Party.DEVICE, "controllers": Party.CONTROLLER, "strangers": Party.STRANGER}
OWN = {"this device": (Party.DEVICE, "{device}"), "this stranger": (Party.STRANGER, "{client}")}


def told(topic: str, access: str, who: str) -> set[tuple[Party, str, str]]:
    found = set()
    for name in who.strip().split(", "):
        party, own = OWN[name] if name in OWN else (WHOLE[name], "")
        filled = topic
        for blank, kind in (("<device>", "{device}"), ("<client>", "{client}")):
            filled = filled.replace(blank, own if own == kind else "+")
        found.add((party, access, filled.replace("<controller>", "+")))
    return found


def test_the_table_of_topics_is_the_table_of_rules() -> None:
    rows = ROW.findall(TEXT)
    documented = set()
    for topic, writes, reads in rows:
        documented |= told(topic, "write", writes) | told(topic, "read", reads)

    assert documented == {(rule.party, rule.access, rule.topic) for rule in RULES}


def test_ports_and_limits_are_those_of_the_configuration() -> None:
    ports = listeners.Ports()
    for party in Party:
        door = door_of(party)
        assert f"| {door} | {ports.of(door)} |" in TEXT
    for key, port in (
        ("broker", ports.controllers),
        ("address", ports.devices),
        ("enrolment_address", ports.strangers),
    ):
        assert f'\n{key} = "broker.example.org:{port}"\n' in TEXT
    assert f"{listeners.QUEUED_MESSAGES:,} messages or {listeners.QUEUED_BYTES >> 20} MiB" in TEXT
    assert f"its {listeners.STRANGERS} connections" in TEXT
    for name in (mosquitto.CERTIFICATE, mosquitto.KEY, mosquitto.REVOKED, mosquitto.CONFIGURATION):
        assert name in TEXT


def test_every_test_that_the_page_on_trust_names_is_there() -> None:
    named = set(re.findall(r"\btest_[a-z0-9_]+", (ROOT / "docs" / "mqtt_trust.md").read_text()))
    files = list((ROOT / "tests").rglob("test_*.py"))
    written = {one for file in files for one in re.findall(r"def (test_\w+)", file.read_text())}

    assert len(named) > 20
    assert named - written - {file.stem for file in files} == set()
