"""Reads expressions: a tokenizer and a recursive descent; errors point at the place."""

import functools
import math
import re
from dataclasses import dataclass
from typing import Final

from controller.errors import BadExpression
from controller.rollout.gate.expression import (
    GROUPS,
    KEYWORDS,
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
)

MAX_CHARACTERS: Final = 1024
MAX_TOKENS: Final = 200
MAX_DEPTH: Final = 30

_TOKEN: Final = re.compile(
    r"\s*(?:(?P<number>(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)"
    r"|(?P<word>[A-Za-z_][A-Za-z0-9_.]*)"
    r"|(?P<compare><=|>=|<|>)|(?P<mark>[-+*/()])|(?P<end>\Z))"
)
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str  # "number" | "word" | "compare" | "mark" | "keyword" | "end"
    value: str
    at: int

    @property
    def shown(self) -> str:
        return "the end" if self.kind == "end" else repr(self.value)


@functools.lru_cache(maxsize=256)
def parse(text: str, groups: tuple[str, ...] = GROUPS) -> Truth:
    """The expression that ``text`` means, over the quantities of ``groups`` of devices.

    Raises:
        BadExpression: it can't be read, or is a number; a caret under the text shows where.
    """
    if len(text) > MAX_CHARACTERS:
        raise BadExpression(f"expression: {len(text)} characters; {MAX_CHARACTERS} at most")
    if odd := _SURROGATE.search(text):
        raise BadExpression(
            f"expression, position {odd.start() + 1}: a lone surrogate, no character"
        )
    reader = _Reader(text, _tokens(text), groups)
    found = reader.either(0)
    if reader.token.kind != "end":
        raise reader.wrong(f"expected a sign, 'and', 'or' or the end, not {reader.token.shown}")
    if not isinstance(found, Truth):
        raise reader.wrong("a number is neither true nor false: compare it, such as with '<= 0.01'")
    return found


def _tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    at = 0
    while not tokens or tokens[-1].kind != "end":
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            place = at + len(text[at:]) - len(text[at:].lstrip())
            raise _wrong(text, place, f"can't read {text[place]!r}")
        kind, value = match.lastgroup, match[match.lastgroup]
        tokens.append(
            _Token("keyword" if value in KEYWORDS else kind, value, match.start(match.lastgroup))
        )
        at = match.end()
    if len(tokens) > MAX_TOKENS:
        raise _wrong(text, tokens[MAX_TOKENS].at, f"more than {MAX_TOKENS} words and signs")
    return tokens


def _wrong(text: str, at: int, what: str) -> BadExpression:
    # A caret below a text of several lines would point nowhere: blanks all look the same here.
    line = re.sub(r"\s", " ", text)
    return BadExpression(f"expression, position {at + 1}: {what}\n  {line}\n  {' ' * at}^")


class _Reader:
    """One pass over the tokens; each method reads one rule of the grammar.

    A parenthesis may hold a number or a truth, so every rule may find either; each sign then says
    which it needs.
    """

    def __init__(self, text: str, tokens: list[_Token], groups: tuple[str, ...]) -> None:
        self._groups = groups
        self._text = text
        self._tokens = tokens
        self._next = 0

    @property
    def token(self) -> _Token:
        return self._tokens[self._next]

    def wrong(self, what: str) -> BadExpression:
        return _wrong(self._text, self.token.at, what)

    def either(self, depth: int) -> Term | Truth:
        return self._joined("or", depth)

    def _joined(self, word: str, depth: int) -> Term | Truth:
        at = self.token.at
        first = self._joined("and", depth) if word == "or" else self._denied(depth)
        if (self.token.kind, self.token.value) != ("keyword", word):
            return first
        parts = [self._truth(first, at)]
        while self._took("keyword", word):
            at = self.token.at
            part = self._joined("and", depth) if word == "or" else self._denied(depth)
            parts.append(self._truth(part, at))
        return Or(tuple(parts)) if word == "or" else And(tuple(parts))

    def _denied(self, depth: int) -> Term | Truth:
        self._check(depth)
        if not self._took("keyword", "not"):
            return self._compared(depth)
        at = self.token.at
        return Not(self._truth(self._denied(depth + 1), at))

    def _compared(self, depth: int) -> Term | Truth:
        at = self.token.at
        left = self._added(depth)
        if self.token.kind != "compare":
            return left
        sign = self._advance().value
        start = self.token.at
        right = self._added(depth)
        return Compare(sign, self._term(left, at), self._term(right, start))

    def _added(self, depth: int) -> Term | Truth:
        at = self.token.at
        found = self._multiplied(depth)
        while self.token.kind == "mark" and self.token.value in "+-":
            sign = self._advance().value
            start = self.token.at
            right = self._term(self._multiplied(depth), start)
            found = Arithmetic(sign, self._term(found, at), right)
        return found

    def _multiplied(self, depth: int) -> Term | Truth:
        at = self.token.at
        found = self._signed(depth)
        while self.token.kind == "mark" and self.token.value in "*/":
            sign = self._advance().value
            start = self.token.at
            right = self._term(self._signed(depth), start)
            found = Arithmetic(sign, self._term(found, at), right)
        return found

    def _signed(self, depth: int) -> Term | Truth:
        self._check(depth)
        if not self._took("mark", "-"):
            return self._one(depth)
        at = self.token.at
        return Minus(self._term(self._signed(depth + 1), at))

    def _one(self, depth: int) -> Term | Truth:
        if self._took("mark", "("):
            inner = self.either(depth + 1)
            if not self._took("mark", ")"):
                raise self.wrong(f"expected ')', not {self.token.shown}")
            return inner
        if self.token.kind == "number":
            number = float(self.token.value)
            if not math.isfinite(number):
                raise self.wrong(f"{self.token.value} is too large a number")
            self._advance()
            return Number(number)
        if self.token.kind != "word":
            raise self.wrong(f"expected a number, a name or '(', not {self.token.shown}")
        group, _, quantity = self.token.value.partition(".")
        if group not in self._groups or quantity not in QUANTITIES:
            known = " and ".join(f"'{one}.'" for one in self._groups)
            raise self.wrong(
                f"no name {self.token.value!r}: there are {known} with {', '.join(QUANTITIES)}"
            )
        return Name(self._advance().value)

    def _check(self, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise self.wrong(f"nested deeper than {MAX_DEPTH}")

    def _truth(self, found: Term | Truth, at: int) -> Truth:
        if isinstance(found, Truth):
            return found
        raise _wrong(self._text, at, "expected a comparison, not a number")

    def _term(self, found: Term | Truth, at: int) -> Term:
        if not isinstance(found, Truth):
            return found
        raise _wrong(self._text, at, "expected a number, not a comparison")

    def _took(self, kind: str, value: str) -> bool:
        if (self.token.kind, self.token.value) != (kind, value):
            return False
        self._advance()
        return True

    def _advance(self) -> _Token:
        token = self.token
        self._next += 1
        return token
