"""The process behind an active disk: it holds the image open and serves it over NBD.

    Exception
    ├── TapdiskFailed (453, srs.errors)           it did not come up, or does not answer
    └── TapdiskAlreadyRunning (445, srs.errors)   there is one already

It is forked, not executed: Python is running already, and starting it again is what costs.
Two unix sockets belong to it, both named `<SR uuid>/<VDI uuid>`: one for NBD clients, one
over which drivers say one word and get one word back:

    pause     close the image; requests wait until
    unpause   the image is opened again, by its path: it may be another one now
    stop      close the image, then both sockets; end, or wait for another disk (spare.py)

Who listens on the control socket is the process to kill if it hangs; the kernel says which.
"""

import ctypes
import json
import os
import select
import signal
import socket
from dataclasses import asdict, dataclass
from typing import Final, NoReturn

from srs import paths
from srs.datapath import spare
from srs.datapath.nbd import Connection, HangUp
from srs.datapath.store import Export, ImageStore
from srs.errors import TapdiskAlreadyRunning, TapdiskFailed
from srs.forking import detach, fork, name_process

_ANSWER_MAX: Final = 512
_READY: Final = b"ready"
_PR_SET_IO_FLUSHER: Final = 57  # linux/prctl.h
#: Seconds until a process that does not answer is taken for stuck.
_PATIENCE: Final = 60


class Server:
    """The data path of one disk, as drivers see it from outside."""

    def __init__(self, sr_uuid: str, vdi_uuid: str) -> None:
        self._sr_uuid, self._vdi_uuid = sr_uuid, vdi_uuid
        self.socket_path = os.path.join(paths.NBD_SOCKETS, sr_uuid, vdi_uuid)
        self._control_path = os.path.join(paths.CONTROL_SOCKETS, sr_uuid, vdi_uuid)

    def is_running(self) -> bool:
        """Whether a process is serving the disk."""
        control = self._connect()
        if control is None:
            return False
        control.close()
        return True

    def start(self, export: Export) -> None:
        """Start the process; NBD clients can connect when this returns.

        Raises:
            TapdiskAlreadyRunning: there is one.
            TapdiskFailed: the image cannot be opened, or the sockets not be made.
        """
        if self.is_running():
            raise TapdiskAlreadyRunning(export.name)
        order = _Order(self._sr_uuid, self._vdi_uuid, export)
        with spare.hire(order.pack()) or _fork_server(order) as process:
            said = process.recv(_ANSWER_MAX)
        if said != _READY:
            raise TapdiskFailed(said.decode(errors="replace") or "it ended at once")

    def pause(self) -> None:
        """Close the image; a disk without a process is paused as it is.

        Raises:
            TapdiskFailed: the process cannot.
        """
        self._say("pause")

    def unpause(self) -> None:
        """Open the image again.

        Raises:
            TapdiskFailed: the process cannot.
        """
        self._say("unpause")

    def stop(self) -> None:
        """Have the image closed and the disk let go, if a process serves it.

        Raises:
            TapdiskFailed: what was written last could not be made durable, or it hangs.
        """
        control = self._connect()
        if control is None:
            self._remove_sockets()
            return
        with control:
            try:
                answer = _exchange(control, "stop")
            except TapdiskFailed as error:
                answer = str(error)
                _kill(_peer_pid(control))
        self._remove_sockets()
        if answer not in ("ok", ""):
            raise TapdiskFailed(answer)

    def _say(self, word: str) -> None:
        control = self._connect()
        if control is None:
            return
        with control:
            answer = _exchange(control, word)
        if answer != "ok":
            raise TapdiskFailed(f"{word}: {answer or 'the process ended'}")

    def _connect(self) -> socket.socket | None:
        control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        control.settimeout(_PATIENCE)
        try:
            with _ShortPath(self._control_path) as path:
                control.connect(path)
        except (FileNotFoundError, ConnectionRefusedError, ConnectionResetError):
            control.close()
            return None
        return control

    def _remove_sockets(self) -> None:
        for path in (self.socket_path, self._control_path):
            try:
                os.unlink(path)
            except FileNotFoundError:
                continue

    def listen(self) -> tuple[socket.socket, socket.socket]:
        """Make both sockets, in place of those that a dead process left; NBD and control."""
        self._remove_sockets()
        listener = _listener(self.socket_path, socket.SOCK_STREAM)
        try:
            return listener, _listener(self._control_path, socket.SOCK_SEQPACKET)
        except OSError:
            listener.close()
            raise


class _ShortPath:
    """A path by way of its directory's descriptor: socket addresses have 107 bytes."""

    def __init__(self, path: str) -> None:
        self._directory, self._name = os.path.split(path)

    def __enter__(self) -> str:
        self._fd = os.open(self._directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        return f"/proc/self/fd/{self._fd}/{self._name}"

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


def _listener(path: str, kind: int) -> socket.socket:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    listener = socket.socket(socket.AF_UNIX, kind)
    try:
        with _ShortPath(path) as short:
            listener.bind(short)
        listener.listen(16)
    except OSError:
        listener.close()
        raise
    return listener


def _kill(pid: int) -> None:
    """End a process that hangs, and wait until it is gone."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        signal.pidfd_send_signal(process, signal.SIGKILL)
        select.select([process], [], [])
    finally:
        os.close(process)


def _peer_pid(sock: socket.socket) -> int:
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return int.from_bytes(credentials[:4], "little", signed=True)


def _exchange(control: socket.socket, word: str) -> str:
    """Say a word and wait for the answer; empty if the process ended instead.

    Raises:
        TapdiskFailed: no answer in time.
    """
    try:
        control.send(word.encode())
        return control.recv(_ANSWER_MAX).decode(errors="replace")
    except TimeoutError:
        raise TapdiskFailed(f"no answer to {word} in {_PATIENCE} s") from None
    except (BrokenPipeError, ConnectionResetError):
        return ""


# -- inside the process


@dataclass(frozen=True, slots=True)
class _Order:
    """Which disk a process is to serve."""

    sr_uuid: str
    vdi_uuid: str
    export: Export

    def pack(self) -> bytes:
        """As bytes, for a process that waits."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def unpack(cls, data: bytes) -> "_Order":
        """The inverse of `pack`."""
        fields = json.loads(data)
        return cls(fields["sr_uuid"], fields["vdi_uuid"], Export(**fields["export"]))


def _fork_server(order: _Order) -> socket.socket:
    """A new process, and the connection over which it reports."""
    ours, theirs = socket.socketpair()
    if fork() == 0:
        _become_server(order, theirs)
    theirs.close()
    return ours


def _become_server(order: _Order, report: socket.socket) -> NoReturn:
    """In the child. Whoever started it may end any time: init will reap this."""
    try:
        detach(report.fileno())
        _become_flusher()
        _serve(order, report)
        while (hired := _wait_for_another()) is not None:
            _serve(_Order.unpack(hired[0]), hired[1])
    finally:
        os._exit(0)


def _wait_for_another() -> tuple[bytes, socket.socket] | None:
    """The next order, and the connection to who gave it; None: enough others wait."""
    name_process("nbd spare")
    return spare.wait()


def _become_flusher() -> None:
    # The kernel writes pages back through this process: while it looks for memory to do so,
    # it must not be made to wait for pages to be written back. Root only; others do without.
    ctypes.CDLL(None).prctl(_PR_SET_IO_FLUSHER, 1, 0, 0, 0)


def _serve(order: _Order, report: socket.socket) -> None:
    """One disk, until a driver says stop."""
    name_process(f"nbd {order.vdi_uuid}")
    with report:
        try:
            store = ImageStore(order.export)
            try:
                listener, control = Server(order.sr_uuid, order.vdi_uuid).listen()
            except OSError:
                store.close()
                raise
        except OSError as error:
            report.sendall(str(error).encode()[:_ANSWER_MAX])
            return
        report.sendall(_READY)
    with listener, control:
        _Loop(order.export, store, listener, control).run()


class _Loop:
    """Clients and drivers, one event at a time."""

    def __init__(
        self, export: Export, store: ImageStore, listener: socket.socket, control: socket.socket
    ) -> None:
        self._export = export
        self._store: ImageStore | None = store
        self._listener = listener
        self._control = control
        self._clients: dict[int, Connection] = {}
        self._poll = select.poll()
        self._poll.register(listener, select.POLLIN)
        self._poll.register(control, select.POLLIN)
        self._stopped = False

    def run(self) -> None:
        """Serve until a driver says stop."""
        while not self._stopped:
            for fd, events in self._poll.poll():
                if fd == self._control.fileno():
                    self._obey()
                elif self._store is None:
                    continue  # paused by an earlier event of the same round
                elif fd == self._listener.fileno():
                    self._accept(self._store)
                elif fd in self._clients:
                    self._attend(self._clients[fd], events)
        for client in self._clients.values():
            client.close()

    def _accept(self, store: ImageStore) -> None:
        sock, _ = self._listener.accept()
        sock.setblocking(False)
        writable = self._export.writable
        try:
            client = Connection(sock, self._export.name, store, writable=writable)
        except HangUp:
            sock.close()
            return
        self._clients[sock.fileno()] = client
        self._poll.register(sock, select.POLLIN)

    def _attend(self, client: Connection, events: int) -> None:
        try:
            if client.wants_to_send:
                client.send()
                client.proceed()
            elif events & (select.POLLIN | select.POLLHUP | select.POLLERR):
                client.receive()
        except HangUp:
            self._poll.unregister(client.sock)
            del self._clients[client.sock.fileno()]
            client.close()
            return
        self._poll.modify(client.sock, _wanted(client))

    def _obey(self) -> None:
        driver, _ = self._control.accept()
        with driver:
            driver.settimeout(_PATIENCE)
            try:
                word = driver.recv(_ANSWER_MAX).decode(errors="replace")
                driver.send(self._carry_out(word).encode()[:_ANSWER_MAX])
            except OSError:
                return  # the driver went away: nobody waits for the answer

    def _carry_out(self, word: str) -> str:
        try:
            if word == "pause":
                self._pause()
            elif word == "unpause":
                self._unpause()
            elif word == "stop":
                self._stopped = True
                self._close()
            elif word:
                return f"unknown word {word}"
        except OSError as error:
            return str(error)
        return "ok"

    def _close(self) -> None:
        store, self._store = self._store, None
        if store is not None:
            store.close()

    def _pause(self) -> None:
        if self._store is None:
            return
        # Without the image nothing can be answered, not even that a client went away.
        for fd in (self._listener, *(client.sock for client in self._clients.values())):
            self._poll.unregister(fd)
        self._close()

    def _unpause(self) -> None:
        if self._store is not None:
            return
        self._store = ImageStore(self._export)
        for client in self._clients.values():
            client.use(self._store)
            self._poll.register(client.sock, _wanted(client))
        self._poll.register(self._listener, select.POLLIN)


def _wanted(client: Connection) -> int:
    return select.POLLOUT if client.wants_to_send else select.POLLIN
