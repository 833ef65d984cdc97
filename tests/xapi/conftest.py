"""Fixtures of the toolstack's tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from xapi.testing import Rig, serve


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """A toolstack with a host in memory."""
    with serve(tmp_path) as rig:
        yield rig
