"""Reads expressions by recursive descent; errors point at the place."""

import functools
import math
import re
from typing import Final

from controller.errors import BadExpression
from controller.lexer import Language, Lexer
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

_LANGUAGE: Final = Language(
    name="expression",
    error=BadExpression,
    pattern=re.compile(
        r"\s*(?:(?P<number>(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)"
        r"|(?P<word>[A-Za-z_][A-Za-z0-9_.]*)"
        r"|(?P<compare><=|>=|<|>)|(?P<mark>[-+*/()])|(?P<end>\Z))"
    ),
    keywords=KEYWORDS,
    max_characters=MAX_CHARACTERS,
    max_tokens=MAX_TOKENS,
)


@functools.lru_cache(maxsize=256)
def parse(text: str, groups: tuple[str, ...] = GROUPS) -> Truth:
    """The expression that ``text`` means, over the quantities of ``groups`` of devices.

    Raises:
        BadExpression: it can't be read, or is a number; a caret under the text shows where.
    """
    return _Reader(text, groups).truth()


class _Reader:
    """One pass over the tokens; each method reads one rule of the grammar.

    A parenthesis may hold a number or a truth, so every rule may find either; each sign then says
    which it needs.
    """

    def __init__(self, text: str, groups: tuple[str, ...]) -> None:
        self._groups = groups
        self._lexer = Lexer(_LANGUAGE, text)

    def truth(self) -> Truth:
        found = self._either(0)
        if (token := self._lexer.next).kind != "end":
            raise self._lexer.wrong(f"expected a sign, 'and', 'or' or the end, not {token.shown}")
        if not isinstance(found, Truth):
            raise self._lexer.wrong(
                "a number is neither true nor false: compare it, such as with '<= 0.01'"
            )
        return found

    def _either(self, depth: int) -> Term | Truth:
        return self._joined("or", depth)

    def _joined(self, word: str, depth: int) -> Term | Truth:
        at = self._lexer.next.at
        first = self._joined("and", depth) if word == "or" else self._denied(depth)
        if (self._lexer.next.kind, self._lexer.next.value) != ("keyword", word):
            return first
        parts = [self._truth(first, at)]
        while self._lexer.took("keyword", word):
            at = self._lexer.next.at
            part = self._joined("and", depth) if word == "or" else self._denied(depth)
            parts.append(self._truth(part, at))
        return Or(tuple(parts)) if word == "or" else And(tuple(parts))

    def _denied(self, depth: int) -> Term | Truth:
        self._check(depth)
        if not self._lexer.took("keyword", "not"):
            return self._compared(depth)
        at = self._lexer.next.at
        return Not(self._truth(self._denied(depth + 1), at))

    def _compared(self, depth: int) -> Term | Truth:
        at = self._lexer.next.at
        left = self._added(depth)
        if self._lexer.next.kind != "compare":
            return left
        sign = self._lexer.advance().value
        start = self._lexer.next.at
        right = self._added(depth)
        return Compare(sign, self._term(left, at), self._term(right, start))

    def _added(self, depth: int) -> Term | Truth:
        at = self._lexer.next.at
        found = self._multiplied(depth)
        while self._lexer.next.kind == "mark" and self._lexer.next.value in "+-":
            sign = self._lexer.advance().value
            start = self._lexer.next.at
            right = self._term(self._multiplied(depth), start)
            found = Arithmetic(sign, self._term(found, at), right)
        return found

    def _multiplied(self, depth: int) -> Term | Truth:
        at = self._lexer.next.at
        found = self._signed(depth)
        while self._lexer.next.kind == "mark" and self._lexer.next.value in "*/":
            sign = self._lexer.advance().value
            start = self._lexer.next.at
            right = self._term(self._signed(depth), start)
            found = Arithmetic(sign, self._term(found, at), right)
        return found

    def _signed(self, depth: int) -> Term | Truth:
        self._check(depth)
        if not self._lexer.took("mark", "-"):
            return self._one(depth)
        at = self._lexer.next.at
        return Minus(self._term(self._signed(depth + 1), at))

    def _one(self, depth: int) -> Term | Truth:
        if self._lexer.took("mark", "("):
            inner = self._either(depth + 1)
            self._lexer.due("mark", ")")
            return inner
        token = self._lexer.next
        if token.kind == "number":
            number = float(token.value)
            if not math.isfinite(number):
                raise self._lexer.wrong(f"{token.value} is too large a number")
            self._lexer.advance()
            return Number(number)
        if token.kind != "word":
            raise self._lexer.wrong(f"expected a number, a name or '(', not {token.shown}")
        group, _, quantity = token.value.partition(".")
        if group not in self._groups or quantity not in QUANTITIES:
            known = " and ".join(f"'{one}.'" for one in self._groups)
            raise self._lexer.wrong(
                f"no name {token.value!r}: there are {known} with {', '.join(QUANTITIES)}"
            )
        return Name(self._lexer.advance().value)

    def _check(self, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise self._lexer.wrong(f"nested deeper than {MAX_DEPTH}")

    def _truth(self, found: Term | Truth, at: int) -> Truth:
        if isinstance(found, Truth):
            return found
        raise self._lexer.wrong("expected a comparison, not a number", at)

    def _term(self, found: Term | Truth, at: int) -> Term:
        if not isinstance(found, Truth):
            return found
        raise self._lexer.wrong("expected a number, not a comparison", at)
