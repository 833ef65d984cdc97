"""A base copy that is a raw volume: it takes what goes down into it, and grows for that."""

from contextlib import nullcontext

import pytest

from scenarios.gc.support import collect
from scenarios.oracle import BLOCK, Model, Span, noise, one_sector
from scenarios.storage import VDI, Repository
from testbed.guest.setup import HOST_ROOT
from testbed.kernel.guestconfig import ROOT
from xapi.backend import PluginFailed

_SIZE, _GROWN = 2 * BLOCK, 6 * BLOCK

#: As XenServer leaves a raw disk that was cloned: it is the hidden parent of a VHD.
_STAND_ON = """
import sys
sys.path.insert(0, sys.argv[1])
from srs import vhd
vhd.snapshot(sys.argv[2], sys.argv[3], raw_parent=True, max_size=2 << 40)
"""


def _stand_on(sr: Repository, vdi: VDI, raw: VDI) -> None:
    """Make a disk an empty leaf above a raw one."""
    group = f"VG_XenStorage-{sr.uuid}"
    top, below = f"{group}/VHD-{vdi.uuid}", f"{group}/LV-{raw.uuid}"
    python = ["/usr/bin/python3", "-I", "-S", "-c", _STAND_ON, HOST_ROOT + str(ROOT)]
    for command in (
        ["lvchange", "-ay", top, below],
        [*python, f"/dev/{top}", f"/dev/{below}"],
        ["lvchange", "--addtag", "hidden", below],
        ["lvchange", "-p", "r", below],
        ["lvchange", "-an", top, below],
    ):
        done = sr.host.kernel.run(command)
        assert done.returncode == 0, done.stderr
    sr.scan()
    sr.api.VDI.update(raw.ref)


def _disk_on_a_raw_one(sr: Repository) -> tuple[VDI, VDI, Model]:
    """A disk larger than its raw parent, with a base copy in between, and rubbish behind that."""
    raw = sr.create(_SIZE, type="raw")
    rubbish = sr.create(_GROWN - _SIZE, type="raw")
    rubbish.write([Span(0, noise("rubbish", _GROWN - _SIZE))])
    raw.write([Span(0, noise("raw", _SIZE))])
    model = Model(_SIZE)
    model.write([Span(0, noise("raw", _SIZE))])
    vdi = sr.create(_SIZE)
    _stand_on(sr, vdi, raw)
    model.grow(_GROWN)
    vdi.resize(_GROWN)
    for offset in (BLOCK + 512, _GROWN - 512):
        vdi.write(one_sector("middle", offset))
        model.write(one_sector("middle", offset))
    vdi.snapshot().destroy()
    vdi.write(one_sector("top", 3 * BLOCK))
    model.write(one_sector("top", 3 * BLOCK))
    rubbish.destroy()
    return vdi, raw, model


@pytest.fixture(autouse=True)
def volumes(sr: Repository) -> None:
    """Raw base copies are volumes; drivers on files make none."""
    if not sr.on_volumes:
        pytest.skip("volumes only")


@pytest.mark.parametrize("attached", [False, True])
def test_a_raw_parent_grows(sr: Repository, attached: bool) -> None:
    """Behind its old end it reads as zeros, as the disk did before."""
    vdi, raw, model = _disk_on_a_raw_one(sr)
    with vdi.plugged() if attached else nullcontext():
        done = sr.host.gc(sr.uuid)
    assert (len(done.coalesced), done.leaves, done.failed) == (1, (), {})
    assert raw.size == _GROWN
    assert sr.chain_depth(vdi) == 2
    collect(sr)
    vdi.must_hold(model)


def test_killed_while_it_grows(sr: Repository) -> None:
    """The next call cuts it back; the next collector goes on."""
    vdi, raw, model = _disk_on_a_raw_one(sr)
    with sr.host.fist("LVM_zero_after_setSize", action="kill"), pytest.raises(PluginFailed):
        sr.host.gc(sr.uuid)
    assert any(name.startswith("zero_") for name in sr.stored())
    vdi.must_hold(model)
    assert raw.size == _SIZE
    assert not collect(sr).failed
    assert raw.size == _GROWN
    vdi.must_hold(model)


def test_killed_while_it_grows_beside_a_lost_image(sr: Repository) -> None:
    """An image that cannot be read is no reason to leave anything of the others undone."""
    vdi, raw, model = _disk_on_a_raw_one(sr)
    lost = sr.create(_SIZE)
    with sr.host.fist("LVM_zero_after_setSize", action="kill"), pytest.raises(PluginFailed):
        sr.host.gc(sr.uuid)
    group = f"VG_XenStorage-{sr.uuid}"
    volume = f"{group}/VHD-{lost.uuid}"
    wipe = f"lvchange -ay {volume} && dd if=/dev/zero of=/dev/{volume} bs=1M conv=fsync"
    sr.host.kernel.run(["sh", "-c", f"{wipe}; lvchange -an {volume}"])
    # An entry that recovery comes to first: the disk was about to get more room.
    size = f"lvs --noheadings --nosuffix --units b -o lv_size {group}/VHD-{vdi.uuid} | tr -d ' '"
    entry = f"lvcreate -qq -an -Wn -Zn -l1 --addtag journaler -n inflate_{vdi.uuid}_$({size})"
    done = sr.host.kernel.run(["sh", "-c", f"{entry} {group}"])
    assert done.returncode == 0, done.stderr
    vdi.must_hold(model)
    assert raw.size == _SIZE
    lost.destroy()
    assert not collect(sr).failed
    vdi.must_hold(model)
