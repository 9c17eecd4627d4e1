"""Reads selectors: a tokenizer and a recursive descent; errors point at the place."""

import functools
import re
from dataclasses import dataclass
from typing import Final

from controller.errors import BadSelector
from controller.fleet.selector import (
    KEYWORDS,
    All,
    And,
    Compare,
    Has,
    In,
    Not,
    Or,
    Selector,
)

MAX_CHARACTERS: Final = 2048
MAX_DEPTH: Final = 40

_TOKEN: Final = re.compile(
    r'\s*(?:(?P<word>[A-Za-z0-9_.:/+@-]+)|(?P<text>"(?:[^"\\]|\\["\\])*")'
    r"|(?P<sign><=|>=|!=|=|<|>)|(?P<mark>[(),])|(?P<end>\Z))"
)
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_ESCAPED: Final = re.compile(r'\\(["\\])')


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str  # "word" | "text" | "sign" | "mark" | "keyword" | "end"
    value: str
    at: int

    @property
    def shown(self) -> str:
        return "the end" if self.kind == "end" else repr(self.value)


@functools.lru_cache(maxsize=1024)
def parse(text: str) -> Selector:
    """The selector that ``text`` means.

    Raises:
        BadSelector: it can't be read; a caret under the text shows where.
    """
    if len(text) > MAX_CHARACTERS:
        raise BadSelector(f"selector: {len(text)} characters; {MAX_CHARACTERS} at most")
    if odd := _SURROGATE.search(text):
        raise BadSelector(f"selector, position {odd.start() + 1}: a lone surrogate, no character")
    reader = _Reader(text, _tokens(text))
    selector = reader.either(0)
    if reader.token.kind != "end":
        raise reader.wrong(f"expected 'and', 'or' or the end, not {reader.token.shown}")
    return selector


def _tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    at = 0
    while not tokens or tokens[-1].kind != "end":
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            place = at + len(text[at:]) - len(text[at:].lstrip())
            what = "a quote that is not closed" if text[place] == '"' else repr(text[place])
            raise _wrong(text, place, f"can't read {what}")
        kind, value = match.lastgroup, match[match.lastgroup]
        if kind == "text":
            value = _ESCAPED.sub(r"\1", value[1:-1])
        elif value in KEYWORDS:
            kind = "keyword"
        tokens.append(_Token(kind, value, match.start(match.lastgroup)))
        at = match.end()
    return tokens


def _wrong(text: str, at: int, what: str) -> BadSelector:
    # A caret below a text of several lines would point nowhere: blanks all look the same here.
    line = re.sub(r"\s", " ", text)
    return BadSelector(f"selector, position {at + 1}: {what}\n  {line}\n  {' ' * at}^")


class _Reader:
    """One pass over the tokens; each method reads one rule of the grammar."""

    def __init__(self, text: str, tokens: list[_Token]) -> None:
        self._text = text
        self._tokens = tokens
        self._next = 0

    @property
    def token(self) -> _Token:
        return self._tokens[self._next]

    def wrong(self, what: str) -> BadSelector:
        return _wrong(self._text, self.token.at, what)

    def either(self, depth: int) -> Selector:
        parts = [self._both(depth)]
        while self._took("keyword", "or"):
            parts.append(self._both(depth))
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def _both(self, depth: int) -> Selector:
        parts = [self._one(depth)]
        while self._took("keyword", "and"):
            parts.append(self._one(depth))
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def _one(self, depth: int) -> Selector:
        if depth > MAX_DEPTH:
            raise self.wrong(f"nested deeper than {MAX_DEPTH}")
        if self._took("keyword", "not"):
            return Not(self._one(depth + 1))
        if self._took("keyword", "all"):
            return All()
        if self._took("keyword", "has"):
            return Has(self._word("a label or fact after 'has'"))
        if self._took("mark", "("):
            inner = self.either(depth + 1)
            self._due("mark", ")")
            return inner
        return self._comparison()

    def _comparison(self) -> Selector:
        name = self._word("a label or fact, 'has', 'not', 'all' or '('")
        if self._took("keyword", "in"):
            return In(name, self._values())
        if self.token.kind != "sign":
            raise self.wrong(
                f"expected =, !=, <, <=, >, >= or 'in' after {name!r}, not {self.token.shown}"
            )
        sign = self._advance().value
        return Compare(name, sign, self._word(f"a value after '{sign}'"))

    def _values(self) -> tuple[str, ...]:
        self._due("mark", "(")
        values = [self._word("a value")]
        while self._took("mark", ","):
            values.append(self._word("a value after ','"))
        self._due("mark", ")")
        return tuple(values)

    def _word(self, due: str) -> str:
        if self.token.kind not in {"word", "text"}:
            hint = "; a keyword needs quotes here" if self.token.kind == "keyword" else ""
            raise self.wrong(f"expected {due}, not {self.token.shown}{hint}")
        return self._advance().value

    def _took(self, kind: str, value: str) -> bool:
        if (self.token.kind, self.token.value) != (kind, value):
            return False
        self._advance()
        return True

    def _due(self, kind: str, value: str) -> None:
        if not self._took(kind, value):
            raise self.wrong(f"expected {value!r}, not {self.token.shown}")

    def _advance(self) -> _Token:
        token = self.token
        self._next += 1
        return token
