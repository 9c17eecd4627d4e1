"""What the owner has set in agent.toml arrives where it is decided by."""

from msgspec.structs import replace

from agent.config import Training
from agent.federated.eligibility import Terms
from agent.federated.retention import Retention
from agent.federated.trainer import Bounds, Budget
from agent.training import bounds_of, budget_of, limits_of, retention_of, terms_of
from protos.documents import Window

SET = Training(
    examples=7, example_bytes=8, days=2.0, hold_out=0.5, remember_requests=9, remember_bytes=10,
    remember_seconds=11.0, threads=2, seconds=12.0, waiting_seconds=13.0, memory_bytes=14, steps=15,
    fewest_examples=16, fewest_held_out=17, on_battery=True, battery_percent=18.0, on_metered=True,
    most_busy=0.25, hours=("22:00-06:00",), cooling_off_seconds=19.0, worse_by=0.5,
    worse_by_more=0.75,
)  # fmt: skip


def test_what_is_set_is_used() -> None:
    assert retention_of(SET) == Retention(examples=7, size=8, seconds=172800.0, hold_out=0.5)
    assert (limits_of(SET).requests, limits_of(SET).size, limits_of(SET).seconds) == (9, 10, 11.0)
    assert budget_of(SET) == Budget(
        threads=2, seconds=12.0, waiting_seconds=13.0, memory_bytes=14, steps=15
    )
    assert bounds_of(SET) == Bounds(
        fewest_examples=16, fewest_held_out=17, worse_by=0.5, worse_by_more=0.75
    )
    assert terms_of(SET) == Terms(
        examples=16, held_out=17, on_battery=True, battery_percent=18.0, on_metered=True,
        most_busy=0.25, cooling_off_seconds=19.0,
        windows=(Window(start_minute=1320, minutes=480),),
    )  # fmt: skip


def test_every_key_that_bounds_a_training_has_its_effect() -> None:
    """A key of agent.toml that nobody reads would be a promise that is not kept."""
    elsewhere = {"collect", "take_part", "quiet_seconds"}
    deciders = (retention_of, limits_of, budget_of, bounds_of, terms_of)
    usual = Training()
    for key in set(Training.__struct_fields__) - elsewhere:
        changed = replace(usual, **{key: getattr(SET, key)})
        assert any(decide(changed) != decide(usual) for decide in deciders), key
