"""A kernel under test: boot it, talk to it, plug disks, cut its power."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testbed.errors import KernelDied
from testbed.guest.frames import pack_body
from testbed.guest.setup import HOST_ROOT
from testbed.kernel.channel import Answer, Channel
from testbed.kernel.console import Console
from testbed.kernel.guestconfig import ROOT
from testbed.kernel.process import KernelProcess, explain
from testbed.network import Nic
from testbed.state import StateDirectory

#: Modules that the storage drivers of this project need, on every kind of kernel.
MODULES = ("loop", "dm-mod", "nbd", "ext4")

#: Devices that LVM may look at, as a regular expression: disks, and LUNs by the one name that
#: their drivers give them, however many paths lead there.
LVM_DEVICES = "^/dev/(loop|disk/by-scsid/)"

#: Seconds until a kernel that does not say hello counts as broken.
BOOT_TIMEOUT = 30.0


def layer_name(below: str) -> str:
    """What device-mapper calls the layer above a device."""
    return f"layer-{below.rpartition('/')[2]}"


@dataclass(frozen=True, slots=True)
class Output:
    """What a program inside printed, and its exit status."""

    stdout: str
    stderr: str
    returncode: int


class Kernel(ABC):
    """One kernel; boots at most once. Use `testbed.kernel.choose` to get the right kind.

    Args:
        state: where its files go; the caller owns and closes it.
        name: becomes the guest's host name.
        variants: Python files that register more drivers (see testbed/guest/smserver.py).
        nics: network cards.
        drivers: whether storage drivers run inside.
        shelf: a directory with disks that other kernels may have plugged in at the same time.
        extra_memory: bytes beyond the usual, where a kernel has memory of its own.
        tree: the directory that holds the package `srs` with the drivers; None for our own.
    """

    kind: str

    def __init__(
        self,
        state: StateDirectory,
        name: str,
        variants: Sequence[Path],
        *,
        nics: Sequence[Nic] = (),
        drivers: bool = True,
        shelf: Path | None = None,
        extra_memory: int = 0,
        tree: Path | None = None,
    ) -> None:
        self.state = state
        self.name = name
        self.nics = tuple(nics)
        self.drivers = drivers
        self.shelf = shelf
        self.extra_memory = extra_memory
        self.tree = ROOT if tree is None else tree.resolve()
        # Below the guest's other name for its root: /tmp is hidden when it looks for them.
        self.variants = [f"{HOST_ROOT}{path.resolve()}" for path in variants]
        self._services: dict[str, Path] = {}
        #: Called when the kernel went away by itself: nobody here ended it. From any thread.
        self.when_lost: Callable[[], None] = lambda: None
        self._ending = ""
        self._console: Console | None = None
        self._process: KernelProcess | None = None
        self._channel: Channel | None = None

    @classmethod
    @abstractmethod
    def missing(cls) -> str:
        """Why this kind cannot run here; empty when it can."""

    @abstractmethod
    def boot(self) -> float:
        """Start; returns after the agent said hello, with the seconds that it took.

        Raises:
            BootFailed: with the console's last lines.
        """

    @abstractmethod
    def power_off(self) -> None:
        """An orderly end: file systems are synced, then the kernel stops. Idempotent."""

    @abstractmethod
    def power_cut(self) -> None:
        """An end without warning: what was not flushed to a disk is lost. Idempotent."""

    @abstractmethod
    def add_disk(self, path: Path, *, layered: bool = False, bare: bool = False) -> str:
        """Plug a file in as a disk; returns the device inside, /dev/loopN.

        Args:
            path: a file below the state directory.
            layered: put a device-mapper device in between (see testbed/devices/layer.py), and
                no cache above it.
            bare: no loop device on top: LVM does not see it, and a target can make a LUN of it.

        Raises:
            DeviceRefused: no slot is left, the file cannot be used, or this kind of kernel
                has no layers.
        """

    @abstractmethod
    def below_layer(self, device: str) -> str:
        """The device below the layer of a disk that was plugged in with one.

        Raises:
            DeviceRefused: it has none.
        """

    @abstractmethod
    def require(self, *modules: str) -> None:
        """Load modules of this kernel, and what they need; those that are there are fine."""

    @abstractmethod
    def remove_disk(self, device: str) -> None:
        """Take a disk out again. Raises DeviceRefused while it is in use."""

    # --- what works the same on every kind -----------------------------------------------

    @property
    def running(self) -> bool:
        """True between `boot` and the end, whatever ended it."""
        return self._process is not None and self._process.running

    @property
    def channel(self) -> Channel:
        """The wire to the agent. Raises KernelDied when the kernel does not run."""
        if self._channel is None:
            raise self._gone()
        return self._channel

    @property
    def pid(self) -> int:
        """The main process, and process group, on this machine."""
        if self._process is None:
            raise self._gone()
        return self._process.pid

    def console(self, lines: int = 25) -> str:
        """The last lines that the kernel, or its agent, printed."""
        return self._console.tail(lines) if self._console is not None else ""

    def call(
        self,
        operation: str,
        /,
        *,
        blob: bytes = b"",
        timeout: float | None = None,
        **arguments: Any,
    ) -> Any:
        """Run an operation of the agent (testbed/guest/ops.py) and return its value.

        Raises:
            GuestFault: it failed inside.
            KernelDied: the kernel went away.
            TimeoutError: no answer within `timeout` seconds.
        """
        return self.exchange(operation, arguments, blob=blob, timeout=timeout).value

    def exchange(
        self,
        operation: str,
        arguments: Mapping[str, Any],
        *,
        blob: bytes = b"",
        timeout: float | None = None,
    ) -> Answer:
        """Like `call`, with bytes both ways."""
        return self.channel.call(operation, dict(arguments), blob, timeout)

    def run(self, argv: Sequence[str], environment: Mapping[str, str] | None = None) -> Output:
        """Run a program inside. Its exit status is for the caller to judge."""
        arguments = {"argv": list(argv), "environment": dict(environment or {})}
        answer = self.exchange("run", arguments)
        text = answer.blob.decode(errors="replace")
        return Output(text, answer.value["stderr"], answer.value["returncode"])

    def driver_call(self, driver: str | None, document: str) -> Answer:
        """A SMAPIv1 call; its process has no other meanwhile (see testbed/guest/smserver.py)."""
        request = pack_body({"driver": driver}, document.encode())
        return self.exchange("sm", {}, blob=request)

    def plugin_call(self, plugin: str, fn: str, arguments: Mapping[str, str]) -> dict[str, Any]:
        """A host plugin's function in a process of its own; what srs.plugins.call returns."""
        request = pack_body({"plugin": plugin, "fn": fn, "args": dict(arguments)})
        result: dict[str, Any] = self.exchange("sm", {}, blob=request).value
        return result

    def offer(self, service: str, path: Path) -> None:
        """Let the guest reach the Unix socket at `path` under the name of a service."""
        self._services[service] = path
        if self.running:
            self.channel.offer(service, path)

    def open_shell(
        self, argv: Sequence[str], size: tuple[int, int], receive: Callable[[bytes], None]
    ) -> int:
        """Start a program on a terminal; what it prints goes to `receive`, empty at its end.

        Returns:
            The stream to send keys to, with `channel.send_to_stream`.
        """
        channel = self.channel
        stream = int(self.call("shell", argv=list(argv), rows=size[0], columns=size[1]))

        def deliver(data: bytes) -> None:
            receive(data)
            if not data:
                channel.close_stream(stream)

        channel.attach_stream(stream, deliver)
        return stream

    def _gone(self) -> KernelDied:
        return KernelDied("it is not running", self.console())

    def _lost(self) -> None:
        if not self._ending:
            self.when_lost()

    def _died(self) -> KernelDied:
        """The error for calls that were under way; runs in the channel's reader."""
        status = self._process.end(2.0) if self._process is not None else None
        if self._console is not None:
            self._console.finish(1.0)
        return KernelDied(self._ending or explain(status, self.console()), self.console())
