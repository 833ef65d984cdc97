"""Export and import of disks over HTTP, compared with what is on the block device."""

from __future__ import annotations

import http.client
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest

from scenarios.oracle import BLOCK, Model, Span, awkward_spans, one_sector
from scenarios.storage import VDI, Repository

needs_qemu = pytest.mark.skipif(not shutil.which("qemu-img"), reason="qemu-img is not installed")


def export(vdi: VDI, **query: str) -> bytes:
    """What GET /export_raw_vdi gives for a disk."""
    return _send(vdi, "GET", "/export_raw_vdi/", None, **query)


def import_(vdi: VDI, content: bytes, **query: str) -> None:
    """PUT /import_raw_vdi."""
    _send(vdi, "PUT", "/import_raw_vdi/", content, **query)


def _send(vdi: VDI, method: str, path: str, body: Any, **query: str) -> bytes:
    session = vdi.sr.session.handle
    words = urlencode({"session_id": session, "vdi": vdi.ref, **query})
    with closing(http.client.HTTPConnection(urlsplit(vdi.sr.host.xapi.url).netloc)) as connection:
        connection.request(method, f"{path}?{words}", body)
        response = connection.getresponse()
        assert response.status == 200, response.read()
        return response.read()


def write(vdi: VDI, model: Model, spans: Sequence[Span]) -> None:
    """To the disk and to the model."""
    vdi.write(spans)
    model.write(spans)


def test_what_is_exported_imports_into_another_disk(sr: Repository, vdi: VDI) -> None:
    """Raw, VHD, and a VHD of what was written since a snapshot."""
    model = Model(vdi.size)
    write(vdi, model, awkward_spans("first", vdi.size))
    snapshot = vdi.snapshot()
    as_of_snapshot = export(snapshot, format="vhd")
    write(vdi, model, one_sector("second", 6 * BLOCK))
    raw, delta = export(vdi), export(vdi, format="vhd", base=snapshot.uuid)
    assert raw == model.piece(0, vdi.size)
    assert len(delta) < 2 * BLOCK < len(as_of_snapshot)

    copy = sr.create(vdi.size)
    import_(copy, raw)
    copy.must_hold(model)
    copy.write(awkward_spans("lost", vdi.size))
    import_(copy, as_of_snapshot, format="vhd")
    import_(copy, delta, format="vhd")
    copy.must_hold(model)


@needs_qemu
def test_an_export_is_as_small_as_its_data(vdi: VDI, tmp_path: Path) -> None:
    """Of eight blocks one is written to; other readers see the same disk."""
    model = Model(vdi.size)
    write(vdi, model, one_sector("little", 7 * BLOCK))
    document, raw = tmp_path / "disk.vhd", tmp_path / "raw"
    document.write_bytes(export(vdi, format="vhd"))
    assert document.stat().st_size < 2 * BLOCK
    convert = ["qemu-img", "convert", "-f", "vpc", "-O", "raw", str(document), str(raw)]
    subprocess.run(convert, check=True)
    assert raw.read_bytes() == model.piece(0, vdi.size)
