"""EMQX's rules are the table's, each for its own listener; no EMQX runs here."""

import re

from controller.broker import emqx, listeners
from protos.limits import KIB
from protos.mqtt.topics import CONTROLLER, RULES, Party
from tests.broker.parties import door_of

LISTENED = r'\{listener, "ssl:(?P<door>\w+)"\}'
LINE = re.compile(
    rf"\{{allow, (?:\{{'and', \[)?{LISTENED}(?:, \{{username, \"(?P<name>[^\"]+)\"\}}\]\}})?, "
    r'(?P<action>subscribe|publish|\{publish, \[\{retain, false\}\]\}), \["(?P<topic>[^"]+)"\]\}\.'
)


def test_every_rule_of_the_table_is_one_of_emqx_and_the_rest_is_denied() -> None:
    *lines, last = [one for one in emqx.access_rules().splitlines() if not one.startswith("%%")]
    parties = {door_of(party): party for party in Party}
    made = set()
    for line in lines:
        found = LINE.fullmatch(line)
        assert found is not None, line
        party = parties[listeners.Door(found["door"])]
        # Nobody but a controller leaves messages behind, or needs a name for it.
        assert found["name"] == (CONTROLLER if party is Party.CONTROLLER else None)
        assert (found["action"] == "publish") <= (party is Party.CONTROLLER)
        topic = found["topic"].replace("${username}", "{device}").replace("${clientid}", "{client}")
        made.add((party, "read" if found["action"] == "subscribe" else "write", topic))

    assert last == "{deny, all}."
    assert len(lines) == len(RULES)
    assert made == {(rule.party, rule.access, rule.topic) for rule in RULES}


def test_its_settings_have_each_listener_and_no_other_default() -> None:
    text = emqx.settings(listeners.Ports(1, 2, 3))

    for door, port in zip(listeners.Door, (1, 2, 3), strict=True):
        assert f"listeners.ssl.{door} {{\n  bind = {port}\n" in text
    assert "no_match = deny" in text
    assert text.count("fail_if_no_peer_cert = true") == 2
    assert text.count("default.enable = false") == 4
    assert f"max_packet_size = {listeners.PACKET_BYTES // KIB}KB" in text
