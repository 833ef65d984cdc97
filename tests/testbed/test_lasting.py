"""A host whose disks and objects outlive it."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.devices.disk import Disk, GiB
from testbed.errors import DeviceRefused
from testbed.host import Host
from testbed.inventory import Inventory, load, save
from testbed.lasting import plug_all, put_away
from testbed.provision import provision
from testbed.sessions import close_session
from testbed.state import LastingDirectory


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="tb") as path:
        yield Path(path) / "host"


def test_a_disk_that_comes_back_under_another_name(directory: Path) -> None:
    """The first of two disks is gone: what was /dev/loop1 is /dev/loop0 now."""
    with Host(directory=directory) as host:
        session = host.session()
        first = host.add_disk(GiB)
        sr = provision(host, session, "lvhd")
        assert isinstance(sr.medium, Disk)
        device = sr.medium.device
        host.remove_disk(first)
        put_away(session)
        close_session(session)
    with Host(directory=directory) as host:
        session = host.session()
        assert list(plug_all(session)) == []
        (pbd,) = session.xenapi.SR.get_PBDs(sr.ref)
        record = session.xenapi.PBD.get_record(pbd)
        assert record["currently_attached"]
        assert record["device_config"]["device"] == first.device != device
        assert host.add_disk(GiB).path.name == "disk0"
        close_session(session)


def test_an_inventory_is_what_was_saved_last(directory: Path) -> None:
    directory.mkdir()
    assert load(directory) == Inventory()
    disk = Disk(directory / "disk0", 4096, "/dev/loop0")
    disk.path.touch()
    full = Inventory((disk,), {"/mnt/disks/disk0": disk}, {"/mnt/disks/disk0": True})
    save(directory, full)
    assert load(directory) == full
    save(directory, Inventory())
    assert load(directory) == Inventory()


def test_a_lasting_directory_has_one_owner(directory: Path) -> None:
    first = LastingDirectory(directory)
    (first.path / "disk0").touch()
    (first.path / "init.py").touch()
    with pytest.raises(DeviceRefused, match="another host uses"):
        LastingDirectory(directory)
    first.close()
    first.close()
    second = LastingDirectory(directory)
    assert {path.name for path in directory.iterdir()} == {"disk0", "in-use"}
    second.close()
