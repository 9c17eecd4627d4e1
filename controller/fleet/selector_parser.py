"""Reads selectors by recursive descent; errors point at the place."""

import functools
import re
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
from controller.lexer import Language, Lexer

MAX_CHARACTERS: Final = 2048
MAX_DEPTH: Final = 40

_LANGUAGE: Final = Language(
    name="selector",
    error=BadSelector,
    pattern=re.compile(
        r'\s*(?:(?P<word>[A-Za-z0-9_.:/+@-]+)|(?P<text>"(?:[^"\\]|\\["\\])*")'
        r"|(?P<sign><=|>=|!=|=|<|>)|(?P<mark>[(),])|(?P<end>\Z))"
    ),
    keywords=KEYWORDS,
    max_characters=MAX_CHARACTERS,
)


@functools.lru_cache(maxsize=1024)
def parse(text: str) -> Selector:
    """The selector that ``text`` means.

    Raises:
        BadSelector: it can't be read; a caret under the text shows where.
    """
    return _Reader(text).selector()


class _Reader:
    """One pass over the tokens; each method reads one rule of the grammar."""

    def __init__(self, text: str) -> None:
        self._lexer = Lexer(_LANGUAGE, text)

    def selector(self) -> Selector:
        found = self._either(0)
        if (token := self._lexer.next).kind != "end":
            raise self._lexer.wrong(f"expected 'and', 'or' or the end, not {token.shown}")
        return found

    def _either(self, depth: int) -> Selector:
        parts = [self._both(depth)]
        while self._lexer.took("keyword", "or"):
            parts.append(self._both(depth))
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def _both(self, depth: int) -> Selector:
        parts = [self._one(depth)]
        while self._lexer.took("keyword", "and"):
            parts.append(self._one(depth))
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def _one(self, depth: int) -> Selector:
        if depth > MAX_DEPTH:
            raise self._lexer.wrong(f"nested deeper than {MAX_DEPTH}")
        if self._lexer.took("keyword", "not"):
            return Not(self._one(depth + 1))
        if self._lexer.took("keyword", "all"):
            return All()
        if self._lexer.took("keyword", "has"):
            return Has(self._word("a label or fact after 'has'"))
        if self._lexer.took("mark", "("):
            inner = self._either(depth + 1)
            self._lexer.due("mark", ")")
            return inner
        return self._comparison()

    def _comparison(self) -> Selector:
        name = self._word("a label or fact, 'has', 'not', 'all' or '('")
        if self._lexer.took("keyword", "in"):
            return In(name, self._values())
        if self._lexer.next.kind != "sign":
            raise self._lexer.wrong(
                f"expected =, !=, <, <=, >, >= or 'in' after {name!r}, not {self._lexer.next.shown}"
            )
        sign = self._lexer.advance().value
        return Compare(name, sign, self._word(f"a value after '{sign}'"))

    def _values(self) -> tuple[str, ...]:
        self._lexer.due("mark", "(")
        values = [self._word("a value")]
        while self._lexer.took("mark", ","):
            values.append(self._word("a value after ','"))
        self._lexer.due("mark", ")")
        return tuple(values)

    def _word(self, due: str) -> str:
        if self._lexer.next.kind not in {"word", "text"}:
            hint = "; a keyword needs quotes here" if self._lexer.next.kind == "keyword" else ""
            raise self._lexer.wrong(f"expected {due}, not {self._lexer.next.shown}{hint}")
        return self._lexer.advance().value
