from hypothesis import given
from hypothesis import strategies as st

from controller.fleet.selector import matches
from controller.fleet.selector_parser import parse
from controller.fleet.tally import tally

PI = {"site": "berlin", "hw": "pi4", "memory_bytes": "4294967296"}


def test_each_part_is_counted_over_the_whole_fleet() -> None:
    fleet = [PI, {**PI, "hw": "pi3"}, {**PI, "site": "oslo"}, {"site": "oslo"}]

    found = tally(parse("site=berlin and (hw!=pi3 or not has memory_bytes)"), fleet)

    assert (found.devices, found.matching) == (4, 1)
    assert found.lines == (
        "1  all of",
        "2    site=berlin (berlin: 2, oslo: 2)",
        "3    one of",
        "3      hw!=pi3 (pi4: 2, pi3: 1, no hw: 1)",
        "1      not",
        "3        has memory_bytes (4294967296: 3, no memory_bytes: 1)",
    )


def test_of_many_values_the_most_frequent_are_told_and_of_numbers_the_range() -> None:
    fleet = [
        {"id": f"pi-{number}", "site": f"s{number % 7}", "free": f"{1000 - number}"}
        for number in range(8)
    ]

    assert tally(parse("site=s0"), fleet).lines == (
        "2  site=s0 (s0: 2, s1: 1, s2: 1, s3: 1, s4: 1, 2 others: 2)",
    )
    assert tally(parse("free>=1K"), fleet).lines == ("0  free>=1K (8 values from 993 to 1000)",)
    assert tally(parse("id=pi-3"), fleet).lines == ("1  id=pi-3 (8 values, all different)",)
    assert tally(parse("has gpu"), fleet[:6]).lines == ("0  has gpu (no gpu: 6)",)


def test_large_numbers_stand_in_groups_and_below_each_other() -> None:
    fleet = [{"site": "oslo"}] * 1500 + [{"site": "rome"}]

    assert tally(parse("site=oslo or site=rome"), fleet).lines == (
        "1,501  one of",
        "1,500    site=oslo (oslo: 1,500, rome: 1)",
        "    1    site=rome (oslo: 1,500, rome: 1)",
    )


def test_a_fleet_of_none_has_an_explanation_too() -> None:
    assert tally(parse("not all"), []).lines == ("0  not", "0    all")
    assert tally(parse("site=oslo"), []).lines == ("0  site=oslo (no device)",)


@given(
    st.lists(st.dictionaries(st.sampled_from(["site", "hw"]), st.sampled_from(["1", "2"]))),
    st.sampled_from(["site=1", "not site=1", "site=1 and hw<2", "has hw or site in (1, 2)"]),
)
def test_it_counts_whom_the_selector_matches(fleet: list[dict[str, str]], text: str) -> None:
    expected = sum(matches(parse(text), one) for one in fleet)

    assert tally(parse(text), fleet).matching == expected
