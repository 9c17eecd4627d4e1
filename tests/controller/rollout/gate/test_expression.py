"""Expressions: what they mean, that they read back, and where the parser says it went wrong."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from controller.errors import BadExpression
from controller.rollout import policy
from controller.rollout.gate.expression import (
    COUNTS,
    NAMES,
    QUANTITIES,
    And,
    Arithmetic,
    Compare,
    Minus,
    Name,
    Not,
    Number,
    Or,
    Term,
    Truth,
    holds,
    names,
    straight,
    value,
)
from controller.rollout.gate.expression_parser import MAX_CHARACTERS, MAX_DEPTH, MAX_TOKENS, parse

SEEN = {
    "stage.error_rate": 0.02,
    "control.error_rate": 0.01,
    "stage.latency_p99": 0.048,
    "control.latency_p99": 0.0,
    "stage.devices": 20.0,
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("stage.error_rate <= 2 * control.error_rate + 0.001", True),
        ("stage.error_rate <= 2 * control.error_rate - 0.001", False),
        ("stage.error_rate<=0.02", True),
        ("stage.error_rate<0.02", False),
        ("stage.error_rate>=0.02", True),
        ("stage.error_rate>0.02", False),
        ("stage.devices - 3 - 2 >= 15", True),
        ("stage.devices - 3 - 2 > 15", False),
        ("stage.devices - (3 - 2) > 15", True),
        ("stage.devices / 2 / 5 <= 2", True),
        ("stage.devices / (2 / 5) <= 2", False),
        ("1 + 2 * 3 < 8", True),
        ("(1 + 2) * 3 < 8", False),
        ("-stage.devices < -1.9e1", True),
        ("--stage.devices < 21", True),
        ("not stage.devices < 20", True),
        ("not not stage.devices < 20", False),
        ("1 < 0 or 1 > 0 and 2 > 1", True),
        ("(1 > 0 or 1 > 0) and 2 < 1", False),
        ("1 > 0 or 1 > 0 and 2 < 1", True),
        ("stage.drift < 1", None),
        ("stage.drift < 1 or stage.devices >= 20", True),
        ("stage.drift < 1 or stage.devices > 20", None),
        ("stage.drift < 1 and stage.devices > 20", False),
        ("stage.drift < 1 and stage.devices >= 20", None),
        ("not stage.drift < 1", None),
        ("stage.latency_p99 / control.latency_p99 < 2", None),
        ("1e308 * 1e308 > 1", None),
        ("  (\nstage.devices )\t>= 20. ", True),
        (".5 < 1", True),
    ],
)
def test_an_expression_means_what_it_says(text: str, expected: bool | None) -> None:
    assert holds(parse(text), SEEN) is expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "stage.error_rate <",
            (
                "expression, position 19: expected a number, a name or '(', not the end\n"
                "  stage.error_rate <\n"
                "                    ^"
            ),
        ),
        ("", "position 1: expected a number, a name or '(', not the end"),
        ("0.5", "position 4: a number is neither true nor false: compare it"),
        ("stage.drift", "position 12: a number is neither true nor false"),
        ("(stage.drift)", "a number is neither true nor false"),
        ("1 < 2 < 3", "position 7: expected a sign, 'and', 'or' or the end, not '<'"),
        ("(1 < 2) < 3", "position 1: expected a number, not a comparison"),
        ("3 < (1 < 2)", "position 5: expected a number, not a comparison"),
        ("1 + (1 < 2) < 3", "position 5: expected a number, not a comparison"),
        ("(1 < 2) * 3 < 3", "position 1: expected a number, not a comparison"),
        ("-(1 < 2) < 3", "position 2: expected a number, not a comparison"),
        ("1 < 2 and 3", "position 11: expected a comparison, not a number"),
        ("1 or 2 < 3", "position 1: expected a comparison, not a number"),
        ("1 < 2 or 3", "position 10: expected a comparison, not a number"),
        ("not 3", "position 5: expected a comparison, not a number"),
        ("(1 < 2", "position 7: expected ')', not the end"),
        ("1 < 2)", "position 6: expected a sign, 'and', 'or' or the end, not ')'"),
        ("1 < 2 stage.drift", "position 7: expected a sign"),
        ("error_rate < 1", "position 1: no name 'error_rate': there are 'stage.' and 'control.'"),
        ("stage.speed < 1", "no name 'stage.speed'"),
        ("1 < and", "position 5: expected a number, a name or '(', not 'and'"),
        ("stage.drift = 1", "position 13: can't read '='"),
        ("__import__('os') < 1", "position 12: can't read \"'\""),
        ("1 < 1e999", "position 5: 1e999 is too large a number"),
        ("1 < \ud800", "position 5: a lone surrogate"),
        ("1 <" + " " * MAX_CHARACTERS, f"{MAX_CHARACTERS} at most"),
        ("1" + "+1" * 150 + " < 2", f"more than {MAX_TOKENS} words and signs"),
        ("(" * 60 + "1 < 2" + ")" * 60, f"nested deeper than {MAX_DEPTH}"),
        ("not " * 99 + "1 < 2", f"nested deeper than {MAX_DEPTH}"),
        ("-" * 99 + "1 < 2", f"nested deeper than {MAX_DEPTH}"),
    ],
)
def test_what_can_not_be_read_is_shown_its_place(text: str, message: str) -> None:
    with pytest.raises(BadExpression) as caught:
        parse(text)

    assert message in caught.value.detail
    assert caught.value.remedy


TERMS: st.SearchStrategy[Term] = st.recursive(
    st.floats(0, 1e300).map(Number) | st.sampled_from(NAMES).map(Name),
    lambda inner: inner.map(Minus) | st.builds(Arithmetic, st.sampled_from("+-*/"), inner, inner),
    max_leaves=6,
)
TRUTHS: st.SearchStrategy[Truth] = st.recursive(
    st.builds(Compare, st.sampled_from(["<", "<=", ">", ">="]), TERMS, TERMS),
    lambda inner: (
        inner.map(Not)
        | st.lists(inner, min_size=2, max_size=3).map(tuple).map(And)
        | st.lists(inner, min_size=2, max_size=3).map(tuple).map(Or)
    ),
    max_leaves=4,
)
VALUES = st.dictionaries(st.sampled_from(NAMES), st.floats(0, 1e6))


@given(TRUTHS)
def test_an_expression_reads_back_as_it_was(truth: Truth) -> None:
    try:
        read = parse(str(truth))
    except BadExpression as error:  # too long or too deep: refused, not misread
        assert "more than" in error.detail or "at most" in error.detail  # noqa: PT017
        return
    assert read == truth
    assert str(read) == str(truth)


@given(st.text(max_size=60))
def test_whatever_is_written_is_read_or_refused(text: str) -> None:
    try:
        parse(text)
    except BadExpression as error:
        assert error.detail.startswith("expression")  # noqa: PT017


@given(TRUTHS, VALUES)
def test_without_not_it_means_the_same(truth: Truth, values: Mapping[str, float]) -> None:
    turned = straight(truth)

    assert holds(turned, values) is holds(truth, values)
    assert "not" not in str(turned)
    assert names(turned) == names(truth)


@given(TRUTHS, VALUES, VALUES)
def test_what_is_decided_stays_so_whatever_else_is_learnt(
    truth: Truth, known: Mapping[str, float], more: Mapping[str, float]
) -> None:
    decided = holds(truth, known)

    if decided is not None:
        assert holds(truth, {**more, **known}) is decided


@given(TERMS, VALUES)
def test_a_number_comes_out_as_python_reckons(term: Term, values: Mapping[str, float]) -> None:
    def reckoned(one: Term) -> float:
        match one:
            case Number(number):
                return number
            case Name(name):
                return values[name]
            case Minus(inner):
                return -reckoned(inner)
            case Arithmetic(sign, left, right):
                a, b = reckoned(left), reckoned(right)
                return {"+": a + b, "-": a - b, "*": a * b}[sign] if sign != "/" else a / b

    found = value(term, values)

    if found is not None:
        assert found == reckoned(term)
    else:
        assert names(term) - set(values) or "/" in str(term) or "e+" in str(term)


def test_names_are_those_of_the_metrics_and_two_counts() -> None:
    metrics = {one.value.replace("-", "_") for one in policy.Metric}

    assert set(QUANTITIES) == metrics | set(COUNTS)


def test_a_policy_holds_only_what_can_be_decided() -> None:
    read = policy.Expression(name="mine", holds="not(stage.drift>0.5)")

    assert read.holds == "not stage.drift > 0.5"
    with pytest.raises(ValidationError, match="a number is neither true nor false"):
        policy.Expression(name="mine", holds="stage.drift")
