"""What became of the objects: who came, changed and went at which generation.

A generation is a number that grows with every change that a client can see; all changes of one
transaction have the same. Whoever remembers a generation can ask what happened since.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple


class Key(NamedTuple):
    """An object's name: class and reference."""

    cls: str
    ref: str


@dataclass(frozen=True, slots=True)
class Change:
    """What happened to an object on the whole: "add", "mod" or "del", last at `generation`."""

    operation: str
    key: Key
    generation: int


class _Deleted(NamedTuple):
    key: Key
    created: int
    deleted: int


class History:
    """The generations of all objects. `forgets_after`: how many deletions are remembered.

    `generation` is the present one. Not safe by itself: the database's lock guards it.
    """

    def __init__(self, generation: int, forgets_after: int) -> None:
        self.generation = generation
        self._forgotten = generation
        self._created: dict[Key, int] = {}
        self._changed: OrderedDict[Key, int] = OrderedDict()
        self._deleted: deque[_Deleted] = deque()
        self._forgets_after = forgets_after

    def known_since(self, generation: int) -> bool:
        """Whether nothing is missing from what `since` tells. Of 0 always: it was all empty."""
        return generation == 0 or self._forgotten <= generation <= self.generation

    def record(self, touched: Iterable[Key], exists: Callable[[Key], bool]) -> None:
        """A transaction that touched these objects is a new generation."""
        self.generation += 1
        for key in touched:
            if exists(key):
                self._created.setdefault(key, self.generation)
                self._changed[key] = self.generation
                self._changed.move_to_end(key)
            elif key in self._created:
                del self._changed[key]
                self._deleted.append(_Deleted(key, self._created.pop(key), self.generation))
        while len(self._deleted) > self._forgets_after:
            self._forgotten = self._deleted.popleft().deleted

    def since(self, generation: int) -> Iterator[Change]:
        """What happened after a generation, one change for each object, the latest first.

        Objects that came and went in the meantime are left out.
        """
        for key, changed in reversed(self._changed.items()):
            if changed <= generation:
                break
            operation = "add" if self._created[key] > generation else "mod"
            yield Change(operation, key, changed)
        for gone in reversed(self._deleted):
            if gone.deleted <= generation:
                break
            if gone.created <= generation:
                yield Change("del", gone.key, gone.deleted)
