"""Who holds a lock, and a collector that is told to end."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from srs.errors import LeafGCSkip
from srs.gc.control import Aborted, Watch
from srs.gc.leaf import Speed, Tracker
from srs.locks import Lock


@contextmanager
def held_elsewhere(lock: Lock) -> Iterator[int]:
    """Another process has the lock during the block; gives its number."""
    held, over = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        try:
            lock.acquire()
            os.write(held[1], b"x")
            os.close(over[1])
            os.read(over[0], 1)
        finally:
            os._exit(0)
    os.read(held[0], 1)
    try:
        yield child
    finally:
        for fd in (*held, *over):
            os.close(fd)
        os.waitpid(child, 0)


def test_the_holder_of_a_lock(tmp_path: Path) -> None:
    lock = Lock("sr", "gc_active", str(tmp_path))
    assert lock.holder() == 0
    with held_elsewhere(lock) as process:
        assert lock.holder() == process
        assert not lock.held
    assert lock.holder() == 0
    with lock:
        assert (lock.holder(), lock.held) == (os.getpid(), True)


def test_a_signal_ends_a_wait(tmp_path: Path) -> None:
    watch = Watch()
    with watch.listening():
        watch.check()
        thread = threading.Thread(target=os.kill, args=(os.getpid(), signal.SIGUSR1))
        thread.start()
        with pytest.raises(Aborted):
            watch.sleep(3600)
        thread.join()
        lock = Lock("sr", "sr", str(tmp_path))
        with pytest.raises(Aborted), watch.hold(lock):
            pass
        assert not lock.held
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_signal_while_waiting_for_a_lock(tmp_path: Path) -> None:
    """The lock stays with who has it, and can be taken afterwards."""
    lock, watch = Lock("sr", "sr", str(tmp_path)), Watch()
    with held_elsewhere(lock) as process:
        with watch.listening():
            thread = threading.Thread(target=os.kill, args=(os.getpid(), signal.SIGUSR1))
            thread.start()
            with pytest.raises(Aborted), watch.hold(lock):
                pass
            thread.join()
        assert (lock.held, lock.holder()) == (False, process)
    with lock:
        assert lock.held


@pytest.mark.parametrize(
    ("sizes", "rounds"),
    [
        ([100, 50, 25, 12], 4),
        ([100, 100, 100, 100, 100], 3),
        ([100, 130, 170, 230, 300], 3),
        (list(range(1000, 0, -1)), 20),
    ],
)
def test_when_a_leaf_is_given_up(sizes: list[int], rounds: int) -> None:
    """Sizes that become smaller go on, up to a point; others do not."""
    tracker, done = Tracker(), 0
    try:
        for size in sizes:
            tracker.begin_round(size)
            done += 1
    except LeafGCSkip:
        pass
    assert done == rounds


def test_how_much_may_be_copied_at_last(tmp_path: Path) -> None:
    speed = Speed(str(tmp_path / "log"))
    assert speed.limit == 20 << 20
    speed.note(1 << 20, 1.0)
    assert speed.limit == 20 << 20
    for _ in range(12):
        speed.note(100 << 20, 2.0)
    assert speed.limit == 5 * (50 << 20)
    assert len((tmp_path / "log").read_text().splitlines()) == 10
