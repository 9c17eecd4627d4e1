"""A ledger that was told of changes, and one that is told of everything at once, say the same."""

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from controller.rollout.facts import DeviceFacts, Facts, by_device, memberships
from controller.rollout.ledger import Ledger
from controller.rollout.plan import plan, plan_by
from tests.controller.rollout.any_facts import facts, recorded, shape
from tests.controller.rollout.few_facts import ALONE, NOW
from tests.controller.rollout.few_facts import slot as slot_of


def tell(ledger: Ledger, new: Facts) -> None:
    """All that is known, as a store's feed tells it: also of devices of which nothing is left."""
    ledger.tell_all(new.rollouts, new.releases, new.stages, new.closed)
    members = memberships(new.members)
    found = by_device(new)
    for device in {**ledger.known.by_device, **found}:
        ledger.tell(found.get(device) or DeviceFacts(device), members.get(device, ()))


@settings(max_examples=120, deadline=None)
@given(facts(), st.lists(st.integers(-50, 4000), min_size=1, max_size=6))
def test_a_plan_by_the_ledger_is_the_plan_made_afresh_whatever_time_does(
    before: Facts, steps: list[int]
) -> None:
    ledger, now, known = Ledger.of(before), NOW, before
    for seconds in steps:
        now += seconds
        made = plan_by(ledger, {}, now)
        assert shape(made) == shape(plan(known, now))
        if seconds % 2:
            known = recorded(known, made)
            tell(ledger, known)


def test_times_of_devices_that_report_again_and_again_do_not_pile_up() -> None:
    """Each report has the device looked at, and its deadline stays where it is."""
    ledger = Ledger.of(ALONE)
    (known,) = ledger.known.by_device.values()
    for report in range(500):
        slot = structs.replace(slot_of("d1", 1, "committed", running=True), counter=report)
        ledger.tell(structs.replace(known, slots=(slot,)), ALONE.members)
        plan_by(ledger, {}, NOW + report)

    assert len(ledger._times) < 100
