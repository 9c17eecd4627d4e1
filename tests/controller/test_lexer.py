"""Tokens of short texts, in a language of nothing but words, signs and quotes."""

import re

import pytest

from controller.errors import BadSelector
from controller.lexer import Language, Lexer

LISTS = Language(
    name="list",
    error=BadSelector,
    pattern=re.compile(
        r'\s*(?:(?P<word>[a-z]+)|(?P<text>"(?:[^"\\]|\\["\\])*")|(?P<mark>,)|(?P<end>\Z))'
    ),
    keywords=frozenset({"and"}),
    max_characters=40,
    max_tokens=6,
)


def tokens(text: str) -> list[tuple[str, str, int]]:
    lexer = Lexer(LISTS, text)
    found = []
    while lexer.next.kind != "end":
        token = lexer.advance()
        found.append((token.kind, token.value, token.at))
    return found


def test_every_token_has_its_kind_its_value_and_its_place() -> None:
    assert tokens(' a,\n"b \\" c" and') == [
        ("word", "a", 1),
        ("mark", ",", 2),
        ("text", 'b " c', 4),
        ("keyword", "and", 13),
    ]


def test_a_keyword_in_quotes_is_text() -> None:
    assert tokens('"and"') == [("text", "and", 0)]


def test_the_end_is_never_passed() -> None:
    lexer = Lexer(LISTS, "a ")
    assert [lexer.advance().shown for _ in range(3)] == ["'a'", "the end", "the end"]


def test_a_token_is_taken_only_if_it_is_the_next() -> None:
    lexer = Lexer(LISTS, "a, b")
    assert not lexer.took("word", "b")
    assert not lexer.took("text", "a")
    assert lexer.took("word", "a")
    lexer.due("mark", ",")
    with pytest.raises(BadSelector, match="list, position 4: expected ',', not 'b'"):
        lexer.due("mark", ",")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,  ;b", "list, position 5: can't read ';'\n  a,  ;b\n      ^"),
        ("a\n;", "list, position 3: can't read ';'\n  a ;\n    ^"),
        ('a, "b', "list, position 4: can't read a quote that is not closed"),
        ("a, \ud800", "list, position 4: a lone surrogate, no character"),
        ("a" * 41, "list: 41 characters; 40 at most"),
        ("a,a,a,a", "list, position 7: more than 6 words and signs"),
    ],
)
def test_what_can_not_be_read_is_pointed_at(text: str, message: str) -> None:
    with pytest.raises(BadSelector) as caught:
        Lexer(LISTS, text)
    assert str(caught.value).startswith(message)


def test_the_most_tokens_are_read_the_end_among_them() -> None:
    assert len(tokens("a,a,a")) == 5


def test_a_language_without_quotes_says_only_what_it_can_not_read() -> None:
    plain = Language("list", BadSelector, re.compile(r"\s*(?P<end>\Z)"), frozenset(), 9)
    with pytest.raises(BadSelector, match="position 1: can't read '\"'"):
        Lexer(plain, '"a"')
