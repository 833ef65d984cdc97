"""Collectors that begin by themselves, end when they must, and do only what they may."""

import threading

import pytest

from scenarios.gc.support import by_itself, collect, wait_until
from scenarios.oracle import BLOCK, Model, awkward_spans, full_block, one_sector
from scenarios.storage import VDI, Repository


def with_garbage(vdi: VDI) -> Model:
    """A disk whose only snapshot has just gone."""
    model = Model(vdi.size)
    model.write(full_block("below"))
    vdi.write(full_block("below"))
    snapshot = vdi.snapshot()
    model.write(one_sector("above", 0))
    vdi.write(one_sector("above", 0))
    snapshot.destroy()
    return model


def test_after_a_delete(sr: Repository, vdi: VDI) -> None:
    """It begins by itself, in a process of its own, and the records follow."""
    with by_itself(sr):
        model = with_garbage(vdi)
        wait_until(sr, lambda: sr.vdis() == {vdi.ref})
        vdi.must_hold(model)
    collect(sr)


def test_after_a_scan(sr: Repository, vdi: VDI) -> None:
    """A scan finds what is left to do."""
    model = with_garbage(vdi)
    with by_itself(sr):
        sr.scan()
        wait_until(sr, lambda: sr.vdis() == {vdi.ref})
    vdi.must_hold(model)
    collect(sr)


def test_one_that_waits_ends_at_once(sr: Repository, vdi: VDI) -> None:
    """Unplugging the SR does not wait for the pause of a collector to be over."""
    sr.host.collect_after(3600)
    try:
        model = with_garbage(vdi)
        assert "sm-gc" in sr.host.census()["processes"]
        sr.scan()
        assert sr.host.census()["processes"].count("sm-gc") == 1
        (pbd,) = sr.api.SR.get_PBDs(sr.ref)
        sr.api.PBD.unplug(pbd)
        assert "sm-gc" not in sr.host.census()["processes"]
    finally:
        sr.host.collect_after(None)
    sr.api.PBD.plug(pbd)
    assert collect(sr).leaves == (vdi.uuid,)
    vdi.must_hold(model)


def test_an_exclusive_operation_ends_a_copy(sr: Repository, vdi: VDI) -> None:
    """An SR is unplugged in the middle of a coalesce; later that is done again."""
    model = Model(vdi.size)
    for number in range(3):
        model.write(awkward_spans(f"level {number}", vdi.size))
        vdi.write(awkward_spans(f"level {number}", vdi.size))
        vdi.snapshot().destroy()
    results = []
    (pbd,) = sr.api.SR.get_PBDs(sr.ref)
    with sr.host.fist("LVHDRT_coalescing_VHD_data", action="sleep 1") as fist:
        collector = threading.Thread(target=lambda: results.append(sr.host.gc(sr.uuid)))
        collector.start()
        assert fist.wait(60)
        sr.api.PBD.unplug(pbd)
        collector.join()
    assert [done.ended for done in results] == ["aborted"]
    assert not [name for name in sr.host.census()["mapped"] if sr.uuid.replace("-", "--") in name]
    sr.api.PBD.plug(pbd)
    vdi.must_hold(model)
    assert len(collect(sr).coalesced) == 2
    vdi.must_hold(model)


@pytest.mark.parametrize(("switch", "images"), [("gc", 5), ("coalesce", 4), ("leaf-coalesce", 2)])
def test_switches_of_the_sr(sr: Repository, vdi: VDI, switch: str, images: int) -> None:
    """SR.other_config says what a collector leaves alone."""
    for number in range(3):
        vdi.write(one_sector(f"level {number}", number * BLOCK))
        vdi.snapshot().destroy()
    lost = sr.create(BLOCK)
    lost.write(one_sector("lost", 0))
    snapshot = lost.snapshot()
    for disk in (lost, snapshot):
        disk.destroy()
    sr.api.SR.add_to_other_config(sr.ref, switch, "false")
    try:
        done = sr.host.gc(sr.uuid)
        assert done.ended == ("off" if switch == "gc" else "done")
    finally:
        sr.api.SR.remove_from_other_config(sr.ref, switch)
    assert len(sr.images()) == images
    collect(sr)
    assert len(sr.images()) == 1


def test_switch_of_the_disk(sr: Repository, vdi: VDI) -> None:
    """VDI.other_config leaf-coalesce=false: the disk keeps what it stands on."""
    vdi.api.add_to_other_config(vdi.ref, "leaf-coalesce", "false")
    with_garbage(vdi)
    assert collect(sr).leaves == ()
    vdi.api.remove_from_other_config(vdi.ref, "leaf-coalesce")
    assert collect(sr).leaves == (vdi.uuid,)


def test_no_space(sr: Repository, vdi: VDI) -> None:
    """Where there is no room it says so, once, and takes it back when there was."""
    model = Model(vdi.size)
    # A leaf-coalesce would make room.
    vdi.api.add_to_other_config(vdi.ref, "leaf-coalesce", "false")
    every_block = [one_sector(f"block {at}", at * BLOCK)[0] for at in range(8)]
    for spans in (one_sector("below", 0), every_block, one_sector("above", 0)):
        model.write(spans)
        vdi.write(spans)
        vdi.snapshot().destroy()
    empty = sr.fill()
    try:
        for _ in range(2):
            done = sr.host.gc(sr.uuid)
            assert done.failed
            assert len(messages(sr)) == 1
    finally:
        empty()
    collect(sr)
    assert messages(sr) == []
    vdi.must_hold(model)


def messages(sr: Repository) -> list[str]:
    """The bodies of this SR's messages about space."""
    return [
        record["body"]
        for record in sr.api.message.get_all_records().values()
        if (record["name"], record["obj_uuid"]) == ("SM_GC_NO_SPACE", sr.uuid)
    ]
