"""Examples without a disk: for tests and simulations."""

import contextlib
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from agent.errors import StoreError
from agent.federated.examples import Example, Held, Part, rows_at_once
from agent.federated.layout import Layout
from agent.federated.retention import Retention, Totals, group_to_go, is_full, largest


@dataclass
class Kept:
    """What would be in the file: examples by model and source, in the order in which they came."""

    examples: dict[tuple[str, bytes], tuple[str, Example]] = field(default_factory=dict)

    def of(self, model: str) -> list[tuple[str, Example]]:
        """Layout's key and example of all of a model's."""
        return [one for (name, _), one in self.examples.items() if name == model]


class MemoryExamples:
    """See ``ExampleStore``. ``kept`` is its disk: give it to another one to restart with it."""

    def __init__(self, retention: Retention, kept: Kept | None = None) -> None:
        self.kept = kept or Kept()
        self._retention = retention
        self._turn = threading.Lock()
        self._closed = False

    def add(self, model: str, layout: Layout, examples: Sequence[Example]) -> float:
        """Keeps them, and lets go what is beyond bounds; returns the rank that stays."""
        with self._access() as kept:
            for one in examples:
                if len(one.data) <= self._retention.size:
                    kept.examples[model, one.source] = (layout.key, one)
            totals = Totals()
            for _, one in kept.of(model):
                totals.add(one.group, 1, len(one.data))
            while (group := group_to_go(totals, self._retention)) is not None:
                lowest = self._lowest(model, group)
                totals.add(group, -1, -len(lowest.data))
                del kept.examples[model, lowest.source]
            if not is_full(totals, self._retention):
                return -math.inf
            return self._lowest(model, largest(totals)).rank

    def held(self, model: str, layout: Layout) -> Held:
        """What there is to learn from."""
        with self._access() as kept:
            return _held([one for key, one in kept.of(model) if key == layout.key])

    def rows(self, model: str, layout: Layout, part: Part) -> Iterator[bytes]:
        """Every example of that part, some rows in each piece."""
        with self._access() as kept:
            found = [
                one.data for key, one in kept.of(model) if key == layout.key and one.part is part
            ]
        most = rows_at_once(layout)
        for at in range(0, len(found), most):
            yield b"".join(found[at : at + most])

    def models(self) -> Sequence[tuple[str, Held]]:
        """What is kept of every model."""
        with self._access() as kept:
            names = sorted({model for model, _ in kept.examples})
            return [(model, _held([one for _, one in kept.of(model)])) for model in names]

    def expire(self, now: float) -> int:
        """Lets go what is too old; returns how many."""
        oldest = now - self._retention.seconds
        return self._remove(lambda _, one: one.at < oldest)

    def clear(self, model: str = "") -> int:
        """Forgets a model's examples, or all."""
        return self._remove(lambda name, _: not model or name == model)

    def close(self) -> None:
        """Closes the store. May be called twice."""
        self._closed = True

    @contextlib.contextmanager
    def _access(self) -> Iterator[Kept]:
        with self._turn:
            if self._closed:
                raise StoreError("the store is closed")
            yield self.kept

    def _remove(self, goes: Callable[[str, Example], bool]) -> int:
        with self._access() as kept:
            gone = [key for key, (_, one) in kept.examples.items() if goes(key[0], one)]
            for key in gone:
                del kept.examples[key]
        return len(gone)

    def _lowest(self, model: str, group: int) -> Example:
        found = [one for _, one in self.kept.of(model) if one.group == group]
        return min(found, key=lambda one: one.rank)


def _held(examples: Sequence[Example]) -> Held:
    training = sum(one.part is Part.TRAINING for one in examples)
    size = sum(len(one.data) for one in examples)
    return Held(training=training, held_out=len(examples) - training, size=size)
