"""What makes dictionaries transactional: every change leaves behind what was there before."""

from collections.abc import MutableMapping
from typing import Any, Final, TypeVar

from controller.errors import StoreError

K = TypeVar("K")
V = TypeVar("V")

_NOTHING: Final = object()  # was there before
_LAST: Final = object()  # of a list was added


class Journal:
    """The changes of the transaction that is open. Not thread-safe: its store holds a lock."""

    def __init__(self) -> None:
        self._undo: list[tuple[Any, Any, Any]] = []  # a table, which key, what was there
        self._open = False

    def __len__(self) -> int:
        """How many changes there are."""
        return len(self._undo)

    def start(self) -> None:
        """From here on changes are taken."""
        self._open = True

    def commit(self) -> None:
        """The changes stay."""
        self._undo.clear()
        self._open = False

    def roll_back(self) -> None:
        """Takes the changes back, the last one first."""
        while self._undo:
            table, key, before = self._undo.pop()
            if key is _LAST:
                table.pop()
            elif before is _NOTHING:
                del table[key]
            else:
                table[key] = before
        self._open = False

    def check_open(self) -> None:
        """Returns while a transaction is open.

        Raises:
            StoreError: there is none: a table was kept beyond its transaction, or is only read.
        """
        if not self._open:
            raise StoreError("this transaction has ended, or is there to be read only")

    def put(self, table: MutableMapping[K, V], key: K, value: V) -> None:
        """``table[key] = value``."""
        if not self._open:
            self.check_open()
        self._undo.append((table, key, table.get(key, _NOTHING)))
        table[key] = value

    def remove(self, table: MutableMapping[K, V], key: K) -> None:
        """Removes the key, if it is there."""
        self.check_open()
        if key in table:
            self._undo.append((table, key, table.pop(key)))

    def append(self, table: list[V], value: V) -> None:
        """``table.append(value)``."""
        self.check_open()
        self._undo.append((table, _LAST, None))
        table.append(value)
