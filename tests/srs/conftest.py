"""Fixtures of the storage manager's tests."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from srs import paths


@pytest.fixture
def sockets(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where data paths have their sockets. The path of one may have 107 bytes, so it is short."""
    with tempfile.TemporaryDirectory(prefix="s-") as name:
        monkeypatch.setattr(paths, "NBD_SOCKETS", f"{name}/nbd")
        monkeypatch.setattr(paths, "CONTROL_SOCKETS", f"{name}/ctl")
        yield Path(name)
