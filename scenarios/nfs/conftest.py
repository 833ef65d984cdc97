"""Fixtures of this group."""

from collections.abc import Iterator
from typing import Any

import pytest

from scenarios.nfs.filer import Filer
from scenarios.plugin import footprint
from testbed.devices.disk import MiB
from testbed.host import Host


@pytest.fixture
def filer(host: Host, xenapi: Any) -> Iterator[Filer]:
    """A host with an export; afterwards nothing may be left that was not there before."""
    host.nfs.start()
    before = footprint(host)
    export = host.add_export(256 * MiB)
    yield Filer(host, xenapi, export)
    host.remove_export(export)
    left = footprint(host) - before
    assert not left, f"left behind: {sorted(left)}"
