"""The oracle: what a disk must hold, computed without any storage.

A `Model` is a plain byte array that lives through the same writes and resizes as the disk.
"""

import hashlib
import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

MiB = 1 << 20
#: Bytes that one entry of a VHD's block allocation table stands for.
BLOCK = 2 * MiB


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes written at an offset."""

    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Content:
    """All bytes of a disk, by size and SHA-256."""

    size: int
    sha256: str

    def content(self) -> "Content":
        """Itself, as a model says it."""
        return self


class Holds(Protocol):
    """Whatever knows what a disk must hold."""

    def content(self) -> Content:
        """Everything, to compare with a device."""


class Model:
    """A disk as a byte array.

    Args:
        size: bytes; a new disk reads as zeros.
    """

    def __init__(self, size: int) -> None:
        self._bytes = bytearray(size)

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self._bytes)

    def write(self, spans: Iterable[Span]) -> None:
        """What a write to the disk does."""
        for span in spans:
            end = span.offset + len(span.data)
            if end > self.size:
                raise ValueError(f"a span ends at {end}, the disk at {self.size}")
            self._bytes[span.offset : end] = span.data

    def grow(self, size: int) -> None:
        """What a resize does: zeros at the end."""
        self._bytes.extend(bytes(size - self.size))

    def fork(self) -> "Model":
        """What a snapshot, a clone or a revert does: the same content, a life of its own."""
        twin = Model(0)
        twin._bytes = bytearray(self._bytes)
        return twin

    def content(self) -> Content:
        """Everything, to compare with a device."""
        return Content(self.size, hashlib.sha256(self._bytes).hexdigest())

    def piece(self, offset: int, length: int) -> bytes:
        """Some of it, to show a difference."""
        return bytes(self._bytes[offset : offset + length])


def noise(seed: str, length: int) -> bytes:
    """Bytes that differ from every other seed's, and are the same in every run."""
    return random.Random(seed).randbytes(length)


def awkward_spans(seed: str, size: int) -> list[Span]:
    """Writes at the places where a VHD engine can go wrong.

    The first and the last sector, a run inside a block that begins and ends in the middle of
    a page, a run across the border of two blocks, and one that is overwritten. `size` must be
    at least five blocks. A whole block is written by `full_block`.
    """
    places = [
        (0, 512),
        (3 * 512, 5 * 512),
        (BLOCK - 4096, 8192),
        (3 * BLOCK + 7 * 512, 32768),
        (3 * BLOCK + 16384, 4096),
        (size - 512, 512),
    ]
    return [
        Span(offset, noise(f"{seed} {index}", length))
        for index, (offset, length) in enumerate(places)
    ]


def full_block(seed: str) -> list[Span]:
    """The third block, all of it: its bitmap becomes full, and the batmap says so."""
    return [Span(2 * BLOCK, noise(seed, BLOCK))]


def one_sector(seed: str, offset: int) -> list[Span]:
    """A small write: 512 bytes."""
    return [Span(offset, noise(seed, 512))]
