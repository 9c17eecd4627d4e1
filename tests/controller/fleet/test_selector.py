import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.errors import BadSelector
from controller.fleet.selector import (
    All,
    And,
    Compare,
    Has,
    In,
    Not,
    Or,
    Selector,
    explain,
    matches,
    names,
)
from controller.fleet.selector_parser import MAX_CHARACTERS, parse

PI = {
    "site": "berlin",
    "hw": "pi4",
    "memory_bytes": "4294967296",
    "runtimes.onnxruntime": "1.9.2",
    "id": "pi-07",
    "rack": "7",
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("all", True),
        ("not all", False),
        ("site=berlin", True),
        ("site=Berlin", False),
        ("site!=berlin", False),
        ("site=berlin and hw!=pi3 and memory_bytes>=512M", True),
        ("memory_bytes>=4G", True),
        ("memory_bytes>4GiB", False),
        ("memory_bytes<4.5G", True),
        ("memory_bytes=4096MB", True),
        ("rack=7.0", True),
        ("rack<10", True),  # as text it would be more
        ("rack=7B", True),
        ("runtimes.onnxruntime<1.20.0", True),  # as text it would be more
        ("runtimes.onnxruntime>=1.9", True),
        ("site>augsburg", True),
        ("id=pi-07", True),
        ("has hw", True),
        ("has gpu", False),
        ("gpu=yes", False),
        ("gpu!=yes", True),
        ("gpu<5", False),
        ("gpu>=5", False),
        ("site in (munich, berlin)", True),
        ("site in (munich)", False),
        ("rack in (8, 7.0)", True),
        ("site=munich or site=berlin and hw=pi3", False),
        ("(site=munich or site=berlin) and hw=pi4", True),
        ("site=berlin or site=munich and hw=pi3", True),
        ("not site=munich and hw=pi4", True),
        ("not (site=berlin and hw=pi4)", False),
        ('"site" = "berlin"', True),
        ('  site  =\n"berlin"\t', True),
    ],
)
def test_a_selector_means_what_it_says(text: str, expected: bool) -> None:
    assert matches(parse(text), PI) is expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "site=",
            "selector, position 6: expected a value after '=', not the end\n  site=\n       ^",
        ),
        (
            "site=berlin and hw=pi4)",
            "position 23: expected 'and', 'or' or the end, not ')'",
        ),
        ("", "position 1: expected a label or fact"),
        ("   ", "position 4: expected a label or fact"),
        ("site==berlin", "position 6: expected a value after '=', not '='"),
        ("(site=berlin", "position 13: expected ')', not the end"),
        ("site in berlin", "position 9: expected '(', not 'berlin'"),
        ("site in ()", "position 10: expected a value, not ')'"),
        ("site in (a,)", "position 12: expected a value after ',', not ')'"),
        ("site=and", "position 6: expected a value after '=', not 'and'; a keyword needs quotes"),
        ("site berlin", "position 6: expected =, !=, <, <=, >, >= or 'in' after 'site'"),
        ('site="berlin', "position 6: can't read a quote that is not closed"),
        ("site=berlin & hw=pi4", "position 13: can't read '&'"),
        ("site=berlin all", "position 13: expected 'and', 'or' or the end, not 'all'"),
        ("site!berlin", "position 5: can't read '!'"),
        ("not " * 200 + "all", "nested deeper than 40"),
        ("(" * 200, "nested deeper than 40"),
        ("a" * (MAX_CHARACTERS + 1), f"{MAX_CHARACTERS + 1} characters; {MAX_CHARACTERS} at most"),
    ],
)
def test_what_can_not_be_read_is_pointed_at(text: str, message: str) -> None:
    with pytest.raises(BadSelector) as caught:
        parse(text)

    assert message in caught.value.detail


words = st.text(min_size=0, max_size=8) | st.sampled_from(["and", "in", "has", "1.5", "512M", '"'])
leaves = st.one_of(
    st.just(All()),
    st.builds(Has, words),
    st.builds(Compare, words, st.sampled_from(["=", "!=", "<", "<=", ">", ">="]), words),
    st.builds(In, words, st.lists(words, min_size=1, max_size=3).map(tuple)),
)
selectors: st.SearchStrategy[Selector] = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(And, st.lists(inner, min_size=2, max_size=3).map(tuple)),
        st.builds(Or, st.lists(inner, min_size=2, max_size=3).map(tuple)),
    ),
    max_leaves=8,
)
devices = st.dictionaries(words, words, max_size=5)


@settings(max_examples=200, deadline=None)
@given(selectors)
def test_a_selector_written_out_reads_back_as_itself(selector: Selector) -> None:
    assert parse(str(selector)) == selector


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("all", set()),
        ("has gpu", {"gpu"}),
        ("site in (berlin, oslo) and not (hw=pi3 or memory_bytes>1G)", {"site", "hw", "memory_bytes"}),
    ],
)  # fmt: skip
def test_every_name_that_it_asks_for_is_known(text: str, named: set[str]) -> None:
    assert names(parse(text)) == named


@settings(max_examples=200, deadline=None)
@given(selectors, selectors, devices)
def test_not_and_or_obey_de_morgan(left: Selector, right: Selector, device: dict[str, str]) -> None:
    neither = matches(Not(Or((left, right))), device)

    assert neither == matches(And((Not(left), Not(right))), device)
    assert neither == (not matches(left, device) and not matches(right, device))


@settings(max_examples=100, deadline=None)
@given(words, words, devices)
def test_comparisons_agree_with_one_another(name: str, value: str, device: dict[str, str]) -> None:
    found = {
        sign: matches(Compare(name, sign, value), device) for sign in ("=", "!=", "<", "<=", ">")
    }

    assert found["="] != found["!="]
    assert found["<="] == (found["<"] or found["="])
    assert found["<"] + found["="] + found[">"] == (1 if name in device else 0)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=40))
def test_any_text_is_read_or_refused_in_words(text: str) -> None:
    assert readable(text) or refusal(text).startswith("selector, position ")


def readable(text: str) -> bool:
    try:
        return parse(str(parse(text))) == parse(text)
    except BadSelector:
        return False


def refusal(text: str) -> str:
    with pytest.raises(BadSelector) as caught:
        parse(text)
    return caught.value.detail


def test_an_explanation_names_each_part_and_what_the_device_has() -> None:
    selector = parse("site=berlin and (hw=pi3 or not has gpu) and rack in (1, 2)")

    explained = explain(selector, PI)

    assert not explained.matches
    assert str(explained) == (
        "no  all of\n"
        "yes   site=berlin (site is berlin)\n"
        "yes   one of\n"
        "no      hw=pi3 (hw is pi4)\n"
        "yes     not\n"
        "no        has gpu (no gpu)\n"
        "no    rack in (1, 2) (rack is 7)"
    )
