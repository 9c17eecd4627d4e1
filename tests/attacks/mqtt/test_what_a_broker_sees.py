"""What a broker can read: who talks to whom, when and how much; the directives; and nothing else."""

from google.protobuf.message import Message

from agent.telemetry.record import window_record
from agent.transport import controller_client
from protos.methods import METADATA
from protos.mqtt import topics
from protos.mqtt.sealing import VERSION, claim
from protos.mqtt.topics import Leaf
from protos.v1 import common_pb2, mqtt_pb2, telemetry_pb2
from tests.agent.transport.crossing import until
from tests.attacks.mqtt.between import Parcel
from tests.attacks.mqtt.fleet import Fleet, der
from tests.attacks.mqtt.product import Centre, Product

SECRET = "amber-heron-7731"
MODEL = b"digits"


async def a_day(fleet: Fleet) -> Product:
    """A device that does all that devices do, with a secret in everything."""
    await fleet.controllers[0].stop()
    centre = Centre(fleet)
    controller = await centre.controller()
    product = Product(centre, await fleet.machine("d1"))
    centre.enrol(product.machine)
    await centre.direct("d1")
    await product.start()
    product.told.append(SECRET)
    window = telemetry_pb2.Window(model=SECRET)
    product.store.spool.put("window", window_record(window, 1), 1)
    product._reporter.event(SECRET, detail=SECRET)
    product.tell()
    link = await product.connection.link()
    await controller_client.publish_facts(link, common_pb2.DeviceFacts(arch=SECRET))
    timestamp = await controller_client.metadata(link, "timestamp.json")
    blob = centre.blobs.put(SECRET.encode() * 10_000)
    pieces = [piece async for piece in link.fetch(blob, 0)]
    assert b"".join(pieces) == SECRET.encode() * 10_000
    assert b"timestamp" in timestamp
    await until(lambda: product.is_done)
    await product.stop()
    await controller.stop()
    await fleet.middle.until(lambda: fleet.middle.of(Leaf.STATE)[-1].payload == b"")
    return product


def carried(parcel: Parcel) -> bytes:
    """All of it."""
    texts = (parcel.topic.encode(), parcel.answer_to.encode())
    return b" ".join((*texts, parcel.correlation, parcel.payload))


async def test_nothing_can_be_read_but_the_directive(fleet: Fleet) -> None:
    product = await a_day(fleet)

    seen = fleet.middle.seen
    assert {SECRET} <= {event.name for event in product.centre.events("d1")}
    assert {one.leaf for one in seen} == {
        Leaf.STATE, Leaf.DESIRED, Leaf.DOWN, Leaf.CALL, Leaf.IN, Leaf.DEATH
    }  # fmt: skip
    assert [one.topic for one in seen if SECRET.encode() in carried(one)] == []
    assert {one.leaf for one in seen if MODEL in carried(one)} == {Leaf.DESIRED}
    assert [one.topic for one in seen if METADATA.name.encode() in carried(one)] == []


async def test_a_broker_sees_these_fields_and_no_others(fleet: Fleet) -> None:
    await a_day(fleet)

    for parcel in fleet.middle.seen:
        match parcel.leaf:
            case Leaf.STATE if parcel.payload:
                state = claim(parcel.payload, mqtt_pb2.ControllerState).message
                assert fields(state) == {"controller", "since_ms", "sealing_key", "certificate"}
                assert state.certificate == der(fleet.authorities.controller)
            case Leaf.DEATH:
                death = claim(parcel.payload, mqtt_pb2.DeviceMessage).message
                assert fields(death) == {"device", "session", "death"}
            case Leaf.DESIRED:
                assert fields(common_pb2.Envelope.FromString(parcel.payload))
            case Leaf.DOWN | Leaf.CALL | Leaf.IN:
                assert parcel.payload[:1] == VERSION
                assert parcel.answer_to in ("", topics.down("d1"))
                assert len(parcel.correlation) in (0, 8)  # the number of the question


def fields(message: Message) -> set[str]:
    """The names of what is set."""
    return {field.name for field, _ in message.ListFields()}
