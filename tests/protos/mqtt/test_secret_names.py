import re

from agent.identity import keys
from protos.mqtt.secret_names import secret_name


def test_a_key_has_the_same_name_for_the_same_purpose_and_no_other() -> None:
    one, other = keys.generate_key(), keys.generate_key()

    assert secret_name(one, "client id") == secret_name(one, "client id")
    made = {secret_name(key, purpose) for key in (one, other) for purpose in ("client id", "group")}
    assert len(made) == 4


def test_a_name_is_safe_in_a_topic_and_as_a_client_id() -> None:
    assert re.fullmatch(r"[a-z2-7]{32}", secret_name(keys.generate_key(), "client id"))
