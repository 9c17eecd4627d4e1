"""A broker that drops, doubles, delays, mixes up, alters and brings again, all at once."""

import random
from collections import Counter
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import pytest

from agent.errors import Untrusted
from protos.mqtt.topics import Leaf
from tests.agent.transport.crossing import until
from tests.attacks.mqtt.between import Parcel, honest
from tests.attacks.mqtt.fleet import fleet_at_a_bad_broker
from tests.attacks.mqtt.forgery import altered
from tests.attacks.mqtt.product import Centre, Product

STEPS = 12
DOINGS = {"deliver": 10, "drop": 2, "double": 3, "delay": 3, "repeat": 4, "alter": 2, "misplace": 2}


class Storm:
    """What happens to each message, by one seed."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)  # noqa: S311 - a course of events, not secrets
        self.late: list[Parcel] = []
        self.old: list[Parcel] = []
        self.done: Counter[str] = Counter()

    def __call__(self, parcel: Parcel) -> Iterable[Parcel]:
        rng = self._rng
        self.old.append(parcel)
        doing = rng.choices([*DOINGS], [*DOINGS.values()])[0]
        self.done[doing] += 1
        delivered = self._one(parcel, doing)
        if self.late and rng.random() < 0.5:
            delivered.append(self.late.pop(rng.randrange(len(self.late))))
        return delivered

    def _one(self, parcel: Parcel, doing: str) -> list[Parcel]:
        rng = self._rng
        # It may not end by itself: where no controller is to be seen, nothing is said any more.
        standing = [parcel] if parcel.leaf is Leaf.STATE else []
        elsewhere = [one.topic for one in self.old if one.toward is parcel.toward]
        elsewhere = [one for one in elsewhere if not one.endswith("/state")] or [parcel.topic]
        happens = {
            "deliver": [parcel],
            "drop": standing,
            "double": [parcel, parcel],
            "delay": standing,
            "repeat": [rng.choice(self.old), parcel, rng.choice(self.old)],
            "alter": [rng.choice(altered(parcel) or [parcel]), *standing],
            "misplace": [parcel.but(topic=rng.choice(elsewhere)), parcel],
        }
        if doing == "delay":
            self.late.append(parcel)
        return happens[doing]


def _moved_on(product: Product, enough: int) -> bool:
    return product.is_done or len(product.centre.fleet.middle.seen) >= enough


@pytest.mark.parametrize("seed", range(3))
async def test_in_a_storm_all_is_stored_once_and_nobody_goes_back(
    tmp_path: Path, seed: int
) -> None:
    rng, storm = random.Random(seed), Storm(seed)  # noqa: S311 - a course of events, not secrets
    async with fleet_at_a_bad_broker(tmp_path) as fleet:
        middle, centre = fleet.middle, Centre(fleet)
        await centre.controller()
        products = [Product(centre, await fleet.machine(name)) for name in ("d1", "d2")]
        for one in products:
            centre.enrol(one.machine)
            await one.start()
        middle.malice = storm
        for _ in range(STEPS):
            product = rng.choice(products)
            product.tell()
            if rng.random() < 0.5:
                await centre.direct(product.name)
            match rng.choice(("nothing", "nothing", "nothing", "cut", "restart", "controller")):
                case "cut":
                    product.machine.cable.cut()
                case "restart":
                    await product.stop()
                    await product.start()
                case "controller":
                    await fleet.controllers[-1].stop()
                    await centre.controller()
            await middle.deliver(*middle.newest_retained())
            enough = len(middle.seen) + 8
            await until(partial(_moved_on, product, enough))
        middle.malice = honest
        await middle.deliver(*storm.late, *storm.old, *middle.newest_retained())
        for one in products:
            one.tell()
            await centre.direct(one.name)
        await until(lambda: all(one.is_done for one in products))
        for one in products:
            await one.stop()

    for one in products:
        assert [event.name for event in centre.events(one.name)] == one.told
        assert len(centre.reports(one.name)) == one.reported
        assert one.forgotten_too_early == []
        generations = [directive.generation for directive in one.accepted]
        assert generations == sorted(generations)
        assert {directive.device for directive in one.accepted} == {one.name}
        assert set(generations) <= set(centre.issued[one.name])
        assert all(isinstance(error, Untrusted) for error in one.refused)
    assert storm.done.keys() == DOINGS.keys()
