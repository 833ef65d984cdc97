"""SCSI ids from page 0x83 of a unit's vital product data."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from srs.scsi import unit_id

_BINARY, _ASCII = 1, 2
_UNIT, _PORT = 0x00, 0x10
_T10, _EUI, _NAA, _RELATIVE = 1, 2, 3, 4


def designator(kind: int, data: bytes, *, code_set: int = _BINARY, of: int = _UNIT) -> bytes:
    """One designator as a unit reports it."""
    return bytes([code_set, of | kind, 0, len(data)]) + data


def page(*designators: bytes) -> bytes:
    """A page 0x83."""
    body = b"".join(designators)
    return bytes([0, 0x83]) + len(body).to_bytes(2, "big") + body


NAA = bytes.fromhex("6001405a1b2c3d4e5f64711882233445")


def test_the_naa_identifier_wins() -> None:
    """Whatever order the designators come in."""
    text = designator(_T10, b"ACME    DISK:1", code_set=_ASCII)
    port = designator(_NAA, bytes.fromhex("5001405000000001"), of=_PORT)
    ours = designator(_NAA, NAA)
    for order in ((text, port, ours), (ours, port, text), (port, text, ours)):
        assert unit_id(page(*order)) == "36001405a1b2c3d4e5f64711882233445"


def test_without_a_naa_identifier() -> None:
    """EUI-64, then the vendor's own text; what describes a port is none."""
    text = designator(_T10, b"ACME    DISK 1\0\0", code_set=_ASCII)
    eui = designator(_EUI, bytes.fromhex("0011223344556677"))
    port = designator(_NAA, NAA, of=_PORT)
    assert unit_id(page(text, eui, port)) == "20011223344556677"
    assert unit_id(page(port, text)) == "1ACME_DISK_1"
    assert unit_id(page(port, designator(_RELATIVE, b"\0\0\0\1", of=_PORT))) == ""


@pytest.mark.parametrize("data", [b"", b"\0\x83", page(), page(designator(_NAA, b""))])
def test_no_identifier(data: bytes) -> None:
    """A unit without the page, or with an empty one."""
    assert unit_id(data) == ""


@given(st.binary(max_size=300))
@example(page(designator(_T10, b"../up and\tdown", code_set=_ASCII)))
def test_garbage(data: bytes) -> None:
    """Whatever a unit sends, the answer can be the name of a directory."""
    assert re.fullmatch("([1-3][A-Za-z0-9_.-]*)?", unit_id(data))
