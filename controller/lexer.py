"""Takes short texts apart into tokens, for parsers to read one after another; errors point at the place."""

import re
from dataclasses import dataclass
from typing import Final

from controller.errors import InvalidInput

_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_ESCAPED: Final = re.compile(r'\\(["\\])')


@dataclass(frozen=True, slots=True)
class Language:
    """What texts of one language are made of.

    Attributes:
        name: what errors call such a text.
        error: what is raised for a text that can't be read.
        pattern: matches the next token, and the blanks before it. The group that it is in names its
            kind: ``end`` is the end of the text, ``text`` stands in quotes, others are free.
        keywords: tokens of a kind of their own, ``keyword``, unless they stand in quotes.
        max_tokens: the end counts, too; without it, as many as the characters allow.
    """

    name: str
    error: type[InvalidInput]
    pattern: re.Pattern[str]
    keywords: frozenset[str]
    max_characters: int
    max_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Token:
    """A word or a sign, and the position of its first character, from 0."""

    kind: str
    value: str
    at: int

    @property
    def shown(self) -> str:
        """As errors name it."""
        return "the end" if self.kind == "end" else repr(self.value)


class Lexer:
    """The tokens of one text, and the place that a parser has come to."""

    def __init__(self, language: Language, text: str) -> None:
        self._language = language
        self._text = text
        self._tokens = self._taken_apart()
        self._place = 0

    @property
    def next(self) -> Token:
        """The next one; at the end that of kind ``end``, again and again."""
        return self._tokens[self._place]

    def advance(self) -> Token:
        """Goes on; returns the token that was the next."""
        token = self.next
        if token.kind != "end":
            self._place += 1
        return token

    def took(self, kind: str, value: str) -> bool:
        """Goes on if the next token is this one; returns whether it was."""
        if (self.next.kind, self.next.value) != (kind, value):
            return False
        self.advance()
        return True

    def due(self, kind: str, value: str) -> None:
        """Goes on past this token.

        Raises:
            InvalidInput: the language's error: the next one is another.
        """
        if not self.took(kind, value):
            raise self.wrong(f"expected {value!r}, not {self.next.shown}")

    def wrong(self, what: str, at: int | None = None) -> InvalidInput:
        """The language's error, with a caret under the place: without one, the next token's."""
        place = self.next.at if at is None else at
        # A caret below a text of several lines would point nowhere: blanks all look the same here.
        line = re.sub(r"\s", " ", self._text)
        return self._refused(f", position {place + 1}: {what}\n  {line}\n  {' ' * place}^")

    def _taken_apart(self) -> list[Token]:
        language, text = self._language, self._text
        if len(text) > language.max_characters:
            raise self._refused(f": {len(text)} characters; {language.max_characters} at most")
        if odd := _SURROGATE.search(text):
            raise self._refused(f", position {odd.start() + 1}: a lone surrogate, no character")
        tokens: list[Token] = []
        at = 0
        while not tokens or tokens[-1].kind != "end":
            match = language.pattern.match(text, at)
            if match is None or match.lastgroup is None:
                raise self._unreadable(at)
            tokens.append(self._token(match, match.lastgroup))
            at = match.end()
        if language.max_tokens is not None and len(tokens) > language.max_tokens:
            place = tokens[language.max_tokens].at
            raise self.wrong(f"more than {language.max_tokens} words and signs", place)
        return tokens

    def _token(self, match: re.Match[str], kind: str) -> Token:
        value, at = match[kind], match.start(kind)
        if kind == "text":
            return Token(kind, _ESCAPED.sub(r"\1", value[1:-1]), at)
        return Token("keyword" if value in self._language.keywords else kind, value, at)

    def _unreadable(self, at: int) -> InvalidInput:
        rest = self._text[at:].lstrip()
        quoted = rest[0] == '"' and "text" in self._language.pattern.groupindex
        what = "a quote that is not closed" if quoted else repr(rest[0])
        return self.wrong(f"can't read {what}", len(self._text) - len(rest))

    def _refused(self, what: str) -> InvalidInput:
        return self._language.error(f"{self._language.name}{what}")
