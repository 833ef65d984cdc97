"""A terminal inside a guest, joined to the terminal outside."""

import os
import queue
import selectors
import shutil
import sys
import termios
import tty
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from testbed.errors import KernelDied
from testbed.guest.ring import PeerGone
from testbed.kernel.base import Kernel


@contextmanager
def _raw(fd: int) -> Iterator[None]:
    """Every key goes to the guest as it is, Ctrl-C too."""
    if not os.isatty(fd):
        yield
        return
    saved = termios.tcgetattr(fd)
    tty.setraw(fd)
    try:
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, saved)


def converse(kernel: Kernel, argv: Sequence[str]) -> int:
    """Run a program on a terminal in the guest until it ends; keys and text pass through.

    End of input (a pipe that closes) is passed on as Ctrl-D.
    """
    size = shutil.get_terminal_size()
    received: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    wake_read, wake_write = os.pipe()

    def receive(data: bytes) -> None:
        received.put(data)
        os.write(wake_write, b"!")

    keyboard = sys.stdin.fileno()
    stream = kernel.open_shell(argv, (size.lines, size.columns), receive)
    # Not epoll: it refuses files, and input may come from one.
    with selectors.PollSelector() as selector, _raw(keyboard):
        selector.register(keyboard, selectors.EVENT_READ)
        selector.register(wake_read, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fd == keyboard:
                    typed = os.read(keyboard, 4096)
                    if not typed:
                        selector.unregister(keyboard)
                        typed = b"\x04"
                    try:
                        kernel.channel.send_to_stream(stream, typed)
                    except PeerGone as error:
                        raise KernelDied(
                            "it went away under the shell", kernel.console()
                        ) from error
                    continue
                os.read(wake_read, 1)
                text = received.get()
                if not text:
                    return 0
                sys.stdout.buffer.write(text)
                sys.stdout.buffer.flush()
