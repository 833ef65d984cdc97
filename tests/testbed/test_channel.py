"""The host's end of a link to a guest, without a guest."""

import threading

import pytest

from testbed.errors import KernelDied
from testbed.guest.frames import Kind, pack, pack_body
from testbed.guest.ring import PeerGone
from testbed.kernel.channel import Channel


class _Link:
    """A guest that says hello, takes one call, and goes."""

    def __init__(self) -> None:
        self._called = threading.Event()
        self._said = [pack(Kind.HELLO, 0, pack_body({}, b""))]

    def send(self, _: bytes) -> None:
        """See Link."""
        self._called.set()

    def wait(self) -> bytes:
        """See Link."""
        if self._said:
            return self._said.pop()
        self._called.wait()
        raise PeerGone

    def close(self) -> None:
        """See Link."""


def test_who_waits_hears_of_the_end_whatever_else_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    complaints: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", complaints.append)

    def lost() -> None:
        raise OSError("the state directory is gone")

    channel = Channel(_Link(), lambda: KernelDied("gone", ""), lost)  # type: ignore[arg-type]
    with pytest.raises(KernelDied):
        channel.call("run", {}, b"", timeout=60)
    channel.close()
    assert [complaint.exc_type for complaint in complaints] == [OSError]
