"""Locks between processes and between threads: real processes, real files."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from srs import locks
from srs.errors import LockErr
from srs.locks import Lock

HOLDER = """
import sys
from srs.locks import Lock
lock = Lock("ns", "sr", root=sys.argv[1])
print("free" if lock.try_acquire() else "taken", flush=True)
sys.stdin.read()
"""


class Process:
    """Another process that tries to take the lock, and keeps it until its stdin is closed."""

    def __init__(self, root: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(root)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        assert self._process.stdout is not None
        self.answer = self._process.stdout.readline().strip()

    def end(self) -> None:
        self._process.communicate("")

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


def test_between_processes(tmp_path: Path) -> None:
    lock = Lock("ns", "sr", root=str(tmp_path))
    with lock:
        other = Process(tmp_path)
        assert other.answer == "taken"
        other.end()
    other = Process(tmp_path)
    assert other.answer == "free"
    assert not lock.try_acquire()
    other.end()
    assert lock.try_acquire()
    lock.release()


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    other = Process(tmp_path)
    assert other.answer == "free"
    other.kill()
    with Lock("ns", "sr", root=str(tmp_path)):
        assert (tmp_path / "ns" / "sr").exists()


def test_between_threads(tmp_path: Path) -> None:
    lock = Lock("ns", "sr", root=str(tmp_path))
    answers: list[bool] = []

    def attempt() -> None:
        answers.append(Lock("ns", "sr", root=str(tmp_path)).try_acquire())

    with lock:
        thread = threading.Thread(target=attempt)
        thread.start()
        thread.join()
    assert answers == [False]


def test_threads_take_turns(tmp_path: Path) -> None:
    inside = 0
    overlaps = 0

    def work() -> None:
        nonlocal inside, overlaps
        for _ in range(50):
            with Lock("ns", "sr", root=str(tmp_path)):
                inside += 1
                overlaps += inside > 1
                os.sched_yield()
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert overlaps == 0


def test_re_entrant_and_held_until_the_last_release(tmp_path: Path) -> None:
    lock = Lock("ns", "sr", root=str(tmp_path))
    with lock:
        with Lock("ns", "sr", root=str(tmp_path)):
            pass
        other = Process(tmp_path)
        assert other.answer == "taken"
        other.end()


def test_releasing_what_is_not_held(tmp_path: Path) -> None:
    with pytest.raises(LockErr, match="is not held"):
        Lock("ns", "sr", root=str(tmp_path)).release()


def test_a_forked_child_holds_nothing(tmp_path: Path) -> None:
    lock = Lock("ns", "sr", root=str(tmp_path))
    with lock:
        child = os.fork()
        if child == 0:
            os._exit(1 if lock.try_acquire() else 0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        # And its end must not drop the lock of its parent.
        other = Process(tmp_path)
        assert other.answer == "taken"
        other.end()


def test_removed_lock_files_lock_again(tmp_path: Path) -> None:
    lock = Lock("ns", "sr", root=str(tmp_path))
    with lock:
        locks.remove("ns", root=str(tmp_path))
        assert not (tmp_path / "ns").exists()
    with lock:
        other = Process(tmp_path)
        assert other.answer == "taken"
        other.end()


def test_a_root_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LockErr):
        Lock("ns", "sr", root=str(tmp_path / "file")).acquire()
