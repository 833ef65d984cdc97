"""A server that restarts while it is used, and one that is gone."""

import pytest

from scenarios.background import calls
from scenarios.invariants import check
from scenarios.nfs.filer import Filer, refused
from scenarios.oracle import BLOCK, Model, one_sector
from scenarios.storage import VDI, Repository

VERSIONS = pytest.mark.parametrize("nfsversion", ["3", "4.2"])
#: The last point of a revert before its commit point.
_DEST = "FileSR_revert_create_dest"
#: Tenths of a second, and times: a server that is gone is given up in a few seconds.
_IMPATIENT = {"nfs-timeout": "5", "nfs-retrans": "1"}


def reverted_and_lost(sr: Repository) -> tuple[VDI, VDI, Model, Model]:
    """A disk, a snapshot of it, and what the disk holds after a revert and before it."""
    wanted, lost = Model(2 * BLOCK), Model(2 * BLOCK)
    disk = sr.create(2 * BLOCK)
    disk.write(one_sector("wanted", 0))
    wanted.write(one_sector("wanted", 0))
    snapshot = disk.snapshot()
    disk.write(one_sector("lost", 0))
    lost.write(one_sector("lost", 0))
    return disk, snapshot, wanted, lost


@VERSIONS
def test_server_restarts_in_the_middle_of_a_revert(filer: Filer, nfsversion: str) -> None:
    """The revert goes on when the server is back, and so does a second one."""
    with filer.repository(nfsversion=nfsversion) as sr:
        disk, snapshot, wanted, _ = reverted_and_lost(sr)
        with calls(sr) as start:
            with filer.host.fist(_DEST, action="hold") as fist:
                revert = start(lambda own: own.api.VDI.revert(snapshot.ref))
                assert fist.wait(60)
                filer.host.nfs.restart()
            assert revert.outcome() == ""
        disk.must_hold(wanted)
        disk.write(one_sector("lost again", 0))
        snapshot.revert_live_disk()
        disk.must_hold(wanted)
        check(sr)


@VERSIONS
def test_server_goes_in_the_middle_of_a_revert(filer: Filer, nfsversion: str) -> None:
    """It fails, the disk holds what it held, and the next revert works."""
    with filer.repository(nfsversion=nfsversion) as sr:
        filer.api.SR.set_other_config(sr.ref, _IMPATIENT)
        filer.replug(sr)
        disk, snapshot, wanted, lost = reverted_and_lost(sr)
        with calls(sr) as start:
            with filer.host.fist(_DEST, action="hold") as fist:
                revert = start(lambda own: own.api.VDI.revert(snapshot.ref))
                assert fist.wait(60)
                filer.host.nfs.stop()
            try:
                assert revert.outcome().startswith("SR_BACKEND_FAILURE_")
            finally:
                filer.host.nfs.start()
        filer.wait_for_server(sr)
        disk.must_hold(lost)
        snapshot.revert_live_disk()
        disk.must_hold(wanted)
        check(sr)


@VERSIONS
def test_server_restarts_under_an_attached_disk(filer: Filer, nfsversion: str) -> None:
    """Open files stay open: what was written before and after is there."""
    model = Model(2 * BLOCK)
    with filer.repository(nfsversion=nfsversion) as sr:
        disk = sr.create(2 * BLOCK)
        with disk.plugged() as device:
            for name, at in (("before", 0), ("after", BLOCK)):
                spans = one_sector(name, at)
                model.write(spans)
                filer.host.write(device, *((span.offset, span.data) for span in spans))
                filer.host.nfs.restart()
        disk.must_hold(model)
        check(sr)


@VERSIONS
def test_server_is_gone(filer: Filer, nfsversion: str) -> None:
    """Everything fails in bounded time, an unplug does not; when it is back, all is as it was."""
    with filer.repository(nfsversion=nfsversion) as sr:
        filer.api.SR.set_other_config(sr.ref, _IMPATIENT)
        filer.replug(sr)
        disk, snapshot, wanted, lost = reverted_and_lost(sr)
        filer.host.nfs.stop()
        try:
            for call, argument in (
                (filer.api.SR.scan, sr.ref),
                (filer.api.VDI.revert, snapshot.ref),
            ):
                assert refused(call, argument)[0].startswith("SR_BACKEND_FAILURE_")
            filer.unplug(sr)
            assert refused(filer.plug, sr)[0] == "SR_BACKEND_FAILURE_108"
        finally:
            filer.host.nfs.start()
        # One that answers may be slower than one that is gone is given up.
        filer.api.SR.set_other_config(sr.ref, {})
        filer.plug(sr)
        disk.must_hold(lost)
        snapshot.revert_live_disk()
        disk.must_hold(wanted)
        check(sr)
