"""A disk that is attached, and written to, while what it stands on changes."""

import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from scenarios.gc.support import collect
from scenarios.oracle import BLOCK, MiB, Model, Span, full_block, noise, one_sector
from scenarios.storage import VDI, Repository


@contextmanager
def written_to(sr: Repository, device: str, model: Model) -> Iterator[None]:
    """Somebody writes to the disk for as long as the block lasts, here and there."""
    over = threading.Event()
    failures: list[BaseException] = []

    def write() -> None:
        try:
            for number in itertools.count():
                offset = number * 37 * 4096 % (model.size - 4096)
                span = Span(offset, noise(f"meanwhile {number}", 4096))
                sr.host.write(device, (span.offset, span.data))
                model.write([span])
                if over.is_set():
                    return
        except BaseException as error:
            failures.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield
    finally:
        over.set()
        writer.join()
    if failures:
        raise failures[0]


def test_written_to_all_the_time(sr: Repository, vdi: VDI) -> None:
    """Coalesce and leaf-coalesce below a disk that is written to: down to one image."""
    model = Model(vdi.size)
    for number in range(3):
        spans = [*full_block(f"level {number}"), *one_sector(f"level {number}", number * BLOCK)]
        model.write(spans)
        vdi.write(spans)
        vdi.snapshot().destroy()
    with vdi.plugged() as device:
        with written_to(sr, device, model):
            done = sr.host.gc(sr.uuid)
        assert (len(done.coalesced), done.leaves, done.failed) == (2, (vdi.uuid,), {})
        sr.host.write(device, (0, noise("afterwards", 512)))
        model.write(one_sector("afterwards", 0))

    assert sr.chain_depth(vdi) == 1
    vdi.must_hold(model)
    collect(sr)


def test_a_disk_that_holds_too_much(sr: Repository) -> None:
    """Its data go into base copies first, so that it need not hold still for long."""
    vdi = sr.create(32 * MiB)
    model = Model(vdi.size)
    model.write(one_sector("below", 0))
    vdi.write(one_sector("below", 0))
    vdi.snapshot().destroy()
    spans = [Span(at * BLOCK, noise(f"block {at}", BLOCK)) for at in range(12)]
    model.write(spans)
    vdi.write(spans)
    sr.host.kernel.run(["rm", "-f", f"/run/{sr.uuid}.speed_log"])

    with vdi.plugged() as device, written_to(sr, device, model):
        done = sr.host.gc(sr.uuid)

    assert (len(done.coalesced), done.leaves, done.failed) == (1, (vdi.uuid,), {})
    vdi.must_hold(model)
    assert len(sr.images()) == 1
    collect(sr)


def test_a_snapshot_that_is_read(sr: Repository, vdi: VDI) -> None:
    """A disk that is attached read-only keeps reading what it has read before."""
    model = Model(vdi.size)
    model.write(full_block("old"))
    vdi.write(full_block("old"))
    vdi.snapshot().destroy()
    model.write(one_sector("new", 0))
    vdi.write(one_sector("new", 0))
    snapshot = vdi.snapshot()
    with snapshot.plugged("RO") as device:
        done = sr.host.gc(sr.uuid)
        assert (len(done.coalesced), done.leaves, done.failed) == (1, (), {})
        assert sr.host.digest(device)[1] == model.content().sha256
    vdi.must_hold(model)
    collect(sr)
