"""The poll loop of a process that must never block: who is called when a descriptor is ready."""

import select
from collections.abc import Callable

Handler = Callable[[], None]


class Loop:
    """Descriptors and their handlers."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._handlers: dict[int, tuple[Handler | None, Handler | None]] = {}

    def watch(
        self, fd: int, on_input: Handler | None = None, on_room: Handler | None = None
    ) -> None:
        """From now on call these: at input or an end, and when `fd` can be written to.

        Without any handler the descriptor is not watched any more.
        """
        if on_input is None and on_room is None:
            if self._handlers.pop(fd, None) is not None:
                self._poll.unregister(fd)
            return
        wanted = (select.POLLIN if on_input else 0) | (select.POLLOUT if on_room else 0)
        self._poll.register(fd, wanted)
        self._handlers[fd] = (on_input, on_room)

    def wait(self, milliseconds: int) -> list[tuple[int, int]]:
        """What is ready: (descriptor, events of poll) each."""
        return self._poll.poll(milliseconds)

    def handle(self, ready: list[tuple[int, int]]) -> None:
        """Call the handlers. One that is not watched any more by then is not called."""
        for fd, events in ready:
            on_input, _ = self._handlers.get(fd, (None, None))
            if on_input is not None and events & ~select.POLLOUT:
                on_input()
            _, on_room = self._handlers.get(fd, (None, None))
            if on_room is not None and events & ~select.POLLIN:
                on_room()
