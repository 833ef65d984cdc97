"""`vhd-util query`: what a disk says about itself, one line each, in a fixed order."""

from collections.abc import Callable

from srs.tools.disks import Disk, peek
from srs.tools.frame import report, say
from srs.tools.options import Options
from srs.vhd.chain import open_chain
from srs.vhd.errors import InvalidImage, VHDError
from srs.vhd.format import BLOCK, SECTOR
from srs.vhd.parent import find_parent, stored_parent


def size(disk: Disk, _: Options) -> str:
    """The virtual size in MiB."""
    return str(disk.footer.size >> 20)


def physical_size(disk: Disk, _: Options) -> str:
    """The bytes that the disk needs of its file or device, footer included."""
    end = disk.image.end_sector * SECTOR if disk.image else disk.footer.size
    return str(end + SECTOR)


def parent(disk: Disk, options: Options) -> str:
    """The parent's path: as stored with ``-u``, else of the file that was found."""
    image = disk.image
    if image is None or not image.differencing:
        return f"{disk.name} has no parent"
    if "u" in options and (stored := stored_parent(image)):
        return stored
    return find_parent(image)


def hidden(disk: Disk, _: Options) -> str:
    """The hidden byte, which the field prints with a sign."""
    return f"hidden: {_signed(disk.footer.hidden)}"


def marker(disk: Disk, _: Options) -> str:
    """The batmap's user byte."""
    batmap = disk.sparse.batmap
    if batmap is None or batmap.header is None:
        raise InvalidImage(disk.name, "no batmap")
    return f"marker: {_signed(batmap.header.marker)}"


def depth(disk: Disk, _: Options) -> str:
    """How many files the chain has, a raw one at its root included."""
    with open_chain(disk.name) as chain:
        return f"chain depth: {chain.depth}"


def allocated(disk: Disk, _: Options) -> str:
    """The number of blocks in this file."""
    return str(disk.sparse.allocated())


def max_size(disk: Disk, _: Options) -> str:
    """How many MiB a fast resize can reach, 0 for a fixed disk."""
    return str(disk.image.header.slots * BLOCK >> 20 if disk.image else 0)


def _signed(byte: int) -> int:
    return byte - 256 if byte > 127 else byte


_LINES: tuple[tuple[str, Callable[[Disk, Options], str], str], ...] = (
    ("v", size, ""),
    ("s", physical_size, "failed to get physical size: {}"),
    ("p", parent, "query failed"),
    ("f", hidden, ""),
    ("m", marker, "failed to get marker: {}"),
    ("d", depth, "error checking chain depth: {}"),
    ("a", allocated, "error reading bat: {}"),
    ("S", max_size, ""),
)
"""Letter, answer, and what stands there when the answer fails, in the order of printing."""


def query(options: Options) -> int:
    """Answer each letter that was given; the code is that of the first answer that failed."""
    status = 0
    with peek(options["n"], backup="b" in options) as disk:
        for letter, answer, otherwise in _LINES:
            if letter in options:
                try:
                    say(answer(disk, options))
                except VHDError as error:
                    say(otherwise.format(-error.errno))
                    failure = report(options, error)
                    status = status or failure
    return status
