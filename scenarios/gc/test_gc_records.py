"""Images that are gone from the medium: what still tells of them goes, too, everywhere."""

from scenarios.gc.support import collect
from scenarios.invariants import check
from scenarios.oracle import one_sector
from scenarios.storage import VDI, Repository


def _lose(sr: Repository, uuid: str) -> None:
    """Remove an image past the drivers."""
    if sr.on_volumes:
        command = ["lvremove", "-f", f"VG_XenStorage-{sr.uuid}/VHD-{uuid}"]
    else:
        command = ["rm", f"{sr.directory}/{uuid}.vhd"]
    assert sr.host.kernel.run(command).returncode == 0


def test_a_disk_is_gone(sr: Repository, vdi: VDI) -> None:
    """A scan forgets it, and what the SR itself has noted of it."""
    other = sr.create(vdi.size)
    _lose(sr, other.uuid)
    sr.scan()
    assert sr.vdis() == {vdi.ref}
    check(sr)


def test_a_base_copy_is_gone(sr: Repository, vdi: VDI) -> None:
    """Nobody stood on it any more: a collector forgets it."""
    vdi.write(one_sector("text", 0))
    snapshot = vdi.snapshot()
    (base,) = sr.base_copies()
    uuid = sr.api.VDI.get_uuid(base)
    for disk in (snapshot, vdi):
        disk.destroy()
    _lose(sr, uuid)
    done = collect(sr)
    assert (done.garbage, done.failed, sr.vdis()) == ((), {}, set())
