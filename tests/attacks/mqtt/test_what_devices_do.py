"""A broker can't make a device run what people did not approve, go back, or forget what it has to tell."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from agent.errors import TransportError
from agent.identity import keys
from protos.documents import Directive
from protos.envelope import seal as signed_by
from protos.methods import METADATA
from protos.mqtt import topics
from protos.mqtt.sealing import seal, sign, to_device
from protos.mqtt.topics import Leaf
from protos.v1 import mqtt_pb2, telemetry_pb2
from tests.agent.transport.crossing import until
from tests.attacks.mqtt.between import Parcel, Toward, honest
from tests.attacks.mqtt.fleet import Fleet
from tests.attacks.mqtt.product import Centre, Product
from tests.attacks.world import new_key


@pytest.fixture
async def product(fleet: Fleet) -> AsyncIterator[Product]:
    """A device that has taken its second directive and told all it had to tell."""
    await fleet.controllers[0].stop()
    centre = Centre(fleet)
    await centre.controller()
    product = Product(centre, await fleet.machine("d1"))
    centre.enrol(product.machine)
    await centre.direct("d1")
    await fleet.middle.until(lambda: fleet.middle.of(Leaf.DESIRED) != [])
    await centre.direct("d1")
    await product.start()
    product.tell()
    await until(lambda: product.is_done)
    yield product
    await product.stop()


def desired(envelope: bytes) -> Parcel:
    return Parcel(Toward.DEVICES, topics.desired("d1"), envelope)


async def test_the_directive_that_a_broker_keeps_is_the_directors_for_this_device_and_no_older(
    product: Product,
) -> None:
    centre, middle = product.centre, product.centre.fleet.middle
    world = centre.world
    older, newest = middle.of(Leaf.DESIRED)[0], middle.of(Leaf.DESIRED)[-1]
    strangers = Directive(device="d1", generation=99, issued_at=0)
    wrong = {
        "stale-directive": older,
        "wrong-device": desired(world.directive(9, world.assignment("digits", 1), device="d2")),
        "bad-signature": desired(signed_by(strangers, new_key())),
    }

    for code, parcel in wrong.items():
        await middle.deliver(parcel)
        await until(lambda code=code: code in {error.code for error in product.refused})  # type: ignore[misc]
    await middle.deliver(newest)

    assert older.payload != newest.payload
    assert product.store.installs.generation() == 2
    assert {one.generation for one in product.accepted} <= {1, 2}


async def test_no_forged_answer_makes_a_device_forget_what_is_not_stored(product: Product) -> None:
    fleet = product.centre.fleet
    middle = fleet.middle
    held: list[Parcel] = []

    def hold(parcel: Parcel) -> tuple[Parcel, ...]:
        if parcel.toward is Toward.CONTROLLERS:
            held.append(parcel)
            return ()
        return (parcel,)

    middle.malice = hold
    product.tell()
    await until(lambda: held != [])
    link = product.connection._live
    assert link is not None
    letters = link.link._letters  # type: ignore[attr-defined]
    reply = telemetry_pb2.UploadReply(stored_through=10**6).SerializeToString()
    forgers = (
        product.machine.signer,
        keys.signer(fleet.certificates.controller.key_pem),
        keys.signer(keys.generate_key()),
    )
    for number in range(1, 40):
        message = mqtt_pb2.ControllerMessage(
            controller=fleet.state().controller,
            device="d1",
            session=letters.session,
            answers=number,
            body=reply,
        )
        for signer in forgers:
            data = seal(sign(message, signer), letters._public, to_device("d1"))
            await middle.deliver(Parcel(Toward.DEVICES, topics.down("d1"), data))
    before = len(product.store.spool)
    middle.malice = honest
    await middle.deliver(*held)
    await until(lambda: product.is_done)

    assert before > 0
    assert [one.name for one in product.centre.events("d1")] == product.told
    assert product.forgotten_too_early == []


async def test_older_metadata_is_no_answer_to_a_newer_question(product: Product) -> None:
    middle = product.centre.fleet.middle
    before = middle.of(Leaf.DOWN)
    product.centre.world.new_timestamp()

    def older(parcel: Parcel) -> tuple[Parcel, ...]:
        if parcel.leaf is Leaf.DOWN:
            return tuple(replace(one, correlation=parcel.correlation) for one in before)
        return (parcel,)

    middle.malice = older
    link = await product.connection.link()

    with pytest.raises(TransportError):
        await link.call(METADATA.name, b"")
