"""What makes dictionaries transactional: every change leaves behind how it is undone."""

from collections.abc import Callable, MutableMapping
from typing import TypeVar

from controller.errors import StoreError

K = TypeVar("K")
V = TypeVar("V")


class Journal:
    """The changes of the transaction that is open. Not thread-safe: its store holds a lock."""

    def __init__(self) -> None:
        self._undo: list[Callable[[], object]] = []
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
            self._undo.pop()()
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
        self.check_open()
        if key in table:
            before = table[key]
            self._undo.append(lambda: table.__setitem__(key, before))
        else:
            self._undo.append(lambda: table.__delitem__(key))
        table[key] = value

    def remove(self, table: MutableMapping[K, V], key: K) -> None:
        """Removes the key, if it is there."""
        self.check_open()
        if key in table:
            before = table.pop(key)
            self._undo.append(lambda: table.__setitem__(key, before))

    def append(self, table: list[V], value: V) -> None:
        """``table.append(value)``."""
        self.check_open()
        self._undo.append(table.pop)
        table.append(value)
