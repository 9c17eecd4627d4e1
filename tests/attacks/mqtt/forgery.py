"""What somebody without keys, or with keys of their own, can say at a broker."""

from datetime import UTC, datetime, timedelta

from agent.identity import keys
from controller.enrolment.authority import (
    KeyPair,
    check_request,
    create_authority,
    issue_device,
)
from protos.keys import Signer
from protos.mqtt import topics
from protos.mqtt.sealing import UP, seal, sign
from protos.v1 import mqtt_pb2
from tests.attacks.mqtt.between import Parcel, Toward
from tests.attacks.mqtt.fleet import Fleet, der

NOBODYS = 1000
"""A session that no device has reached."""

FLIPS = (0, 1, 5, 33, 40, 64, 90, -1)
"""Where bytes are altered: version, key that was agreed on, what is sealed, its tag."""

LOW_ORDER = tuple(
    bytes.fromhex(point)
    for point in (
        64 * "0",
        "01" + 62 * "0",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ec" + 60 * "f" + "7f",
        "",
        "aabb",
    )
)
"""X25519 keys with which everybody agrees on the same secret (RFC 7748, section 6.1), and no keys."""


def certificate(
    name: str, authority: KeyPair | None = None, *, since: timedelta = timedelta()
) -> KeyPair:
    """A device's certificate, of an authority that the attacker has made if none is given."""
    now = datetime.now(UTC)
    authority = authority or create_authority("device CA", now)
    key_pem = keys.generate_key()
    request = check_request(keys.certificate_request(key_pem, name))
    return KeyPair(issue_device(authority, request, name, now + since).certificate_pem, key_pem)


def birth(fleet: Fleet, name: str, shown: KeyPair) -> Parcel:
    """A device that comes, says whoever holds that certificate."""
    message = mqtt_pb2.DeviceMessage(birth=mqtt_pb2.Birth(), certificate=der(shown))
    return said(fleet, name, message, keys.signer(shown.key_pem))


def said(fleet: Fleet, name: str, message: mqtt_pb2.DeviceMessage, signer: Signer) -> Parcel:
    """The message as that device would say it, but signed by whom we like."""
    state = fleet.state()
    full = mqtt_pb2.DeviceMessage(
        device=name,
        session=NOBODYS,
        number=1,
        controller=state.controller,
        answer_key=state.sealing_key,  # some key
    )
    full.MergeFrom(message)
    sealed = seal(sign(full, signer), state.sealing_key, UP)
    to_us = message.WhichOneof("kind") in ("birth", "announcement")
    topic = topics.inbox(state.controller, name) if to_us else topics.call(name)
    return Parcel(Toward.CONTROLLERS, topic, sealed, b"1", topics.down(name))


def death(name: str, session: int, signer: Signer) -> Parcel:
    """A last will: not sealed."""
    message = mqtt_pb2.DeviceMessage(device=name, session=session, death=mqtt_pb2.Death())
    return Parcel(Toward.CONTROLLERS, topics.death(name), sign(message, signer))


def altered(parcel: Parcel) -> list[Parcel]:
    """Copies that differ in one bit, in length, or in everything."""
    data = parcel.payload
    if not data:
        return []
    copies = [data[:-1], data + b"\x00", data[: len(data) // 2], b"", data[::-1]]
    for place in FLIPS:
        if place < len(data):
            flipped = bytearray(data)
            flipped[place] ^= 1
            copies.append(bytes(flipped))
    return [parcel.but(payload=copy) for copy in copies]
