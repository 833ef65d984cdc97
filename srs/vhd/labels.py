"""What XenServer keeps beside the batmap: a marker, and the hash of an encrypted disk's key.

The hash is SHA-256 over a nonce of 32 bytes and the key's bytes. It lets whoever attaches the
disk refuse a wrong key; the key itself is nowhere on the disk.
"""

import os
from collections.abc import Callable
from dataclasses import replace

from srs.vhd.backing import AnyPath, Backing
from srs.vhd.errors import InvalidImage, NotEmpty
from srs.vhd.footers import find_footer
from srs.vhd.header import BatmapHeader, bat_length
from srs.vhd.image import Image


def set_marker(path: AnyPath, marker: int) -> None:
    """Set the user byte of the batmap header to ``marker``, 0 to 255.

    Raises:
        InvalidImage: the disk has no usable batmap.
        VHDError: the disk cannot be opened or written.
    """
    _change(path, lambda header: replace(header, marker=marker))


def key_hash(path: AnyPath) -> tuple[bytes, bytes] | None:
    """Nonce and hash of the key that the disk is encrypted with, None if it is not.

    Raises:
        VHDError: the disk cannot be opened.
    """
    with Backing(os.fspath(path)) as backing:
        batmap = Image(backing, find_footer(backing)).batmap
        header = batmap.header if batmap else None
    if header is None or not header.key_cookie:
        return None
    return header.key_nonce, header.key_hash


def set_key_hash(path: AnyPath, nonce: bytes, digest: bytes) -> None:
    """Record that the disk is encrypted with the key of this hash; both are 32 bytes.

    Raises:
        NotEmpty: the disk holds blocks, which are not encrypted.
        InvalidImage: the disk has no usable batmap.
        VHDError: the disk cannot be opened or written.
    """
    _change(
        path,
        lambda header: replace(header, key_cookie=1, key_nonce=nonce, key_hash=digest),
        must_be_empty=True,
    )


def digest_of(nonce: bytes, key: bytes) -> bytes:
    """The hash of ``key`` that goes with ``nonce``."""
    from hashlib import sha256

    return sha256(nonce + key).digest()


def _change(
    path: AnyPath, change: Callable[[BatmapHeader], BatmapHeader], *, must_be_empty: bool = False
) -> None:
    """Write a changed batmap header: one sector, so a cut leaves the old one or the new."""
    path = os.fspath(path)
    with Backing(path, writable=True) as backing:
        image = Image(backing, find_footer(backing))
        header = image.batmap.header if image.batmap else None
        if header is None:
            raise InvalidImage(path, "no usable batmap")
        if must_be_empty and not image.is_empty():
            raise NotEmpty(path, image.allocated())
        at = image.header.bat_offset + bat_length(image.header.slots)
        backing.write(at, change(header).pack())
        backing.sync()
