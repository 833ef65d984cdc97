"""This machine's own kernel, for a VM that has device-mapper and where we are root.

The same agent runs as an ordinary process, in a mount namespace of its own. What a kernel of
its own gives for free has to be tidied here: device-mapper devices, loop devices and nbd
devices belong to the machine and outlive every process.

A power cut here is weaker than a real one: every process of the host dies at once, but the
page cache is this machine's and survives. `scenarios` that need the real thing say so.
"""

import contextlib
import os
import socket
import time
from collections.abc import Sequence
from concurrent.futures import TimeoutError as FutureTimeout
from pathlib import Path
from typing import Final

from testbed.errors import (
    BootFailed,
    CommandFailed,
    DeviceRefused,
    GuestFault,
    KernelDied,
    PackageMissing,
)
from testbed.guest.frames import SocketLink
from testbed.guest.setup import HOST_ROOT
from testbed.kernel import guestconfig
from testbed.kernel.base import BOOT_TIMEOUT, LVM_DEVICES, MODULES, Kernel
from testbed.kernel.channel import Channel
from testbed.kernel.console import Console
from testbed.kernel.process import KernelProcess
from testbed.network import Nic
from testbed.run import run
from testbed.state import StateDirectory

#: What shows that a module's work is there, loaded or built in.
_EVIDENCE: Final = {
    "loop": Path("/dev/loop-control"),
    "dm-mod": Path("/dev/mapper/control"),
    "nbd": Path("/dev/nbd0"),
    "ext4": Path("/sys/fs/ext4"),
}


_NO_NIC: Final = "hosts on a network have kernels of their own: --kernel uml"


def _absent() -> list[str]:
    return [name for name in MODULES if not _EVIDENCE[name].exists()]


def _holders(device: str) -> list[str]:
    """Names of device-mapper devices that stand on a device, topmost first."""
    directory = Path("/sys/block", device, "holders")
    if not directory.is_dir():
        return []
    found: list[str] = []
    for holder in sorted(os.listdir(directory)):
        found += [*_holders(holder), holder]
    return found


class LocalKernel(Kernel):
    """The agent on this machine's own kernel; needs root, device-mapper, loop and nbd."""

    kind = "local"

    def __init__(
        self,
        state: StateDirectory,
        name: str = "host",
        variants: Sequence[Path] = (),
        *,
        nics: Sequence[Nic] = (),
        drivers: bool = True,
        shelf: Path | None = None,
        extra_memory: int = 0,
        tree: Path | None = None,
    ) -> None:
        super().__init__(
            state, name, variants,
            nics=nics, drivers=drivers, shelf=shelf, extra_memory=extra_memory, tree=tree,
        )  # fmt: skip
        self._disks: set[str] = set()

    @classmethod
    def missing(cls) -> str:
        """Why this machine's kernel cannot be used; empty when it can."""
        if os.geteuid() != 0:
            return "needs root"
        absent = _absent()
        if absent:
            with contextlib.suppress(CommandFailed, PackageMissing):
                run(["modprobe", "-a", *absent])
        absent = _absent()
        return f"this machine's kernel has no {', '.join(absent)}" if absent else ""

    def boot(self) -> float:
        """Start the agent; returns the seconds until it was ready."""
        if self.nics:
            raise DeviceRefused("this machine's own kernel takes no network card", hint=_NO_NIC)
        reason = self.missing()
        if reason:
            raise BootFailed(reason, "")
        guestconfig.compile_sources(self.tree)
        started = time.monotonic()
        ours, theirs = socket.socketpair()
        config = {
            "own_kernel": False,
            "hostname": self.name,
            "socket": theirs.fileno(),
            "modules": [],
            "lvm_devices": LVM_DEVICES,
            "variants": self.variants,
            "nics": [],
            "drivers": self.drivers,
        }
        script = self.state.path / "init.py"
        guestconfig.write_script(script, config, self.tree)
        self._console = Console()
        python = str(guestconfig.interpreter())
        self._process = KernelProcess(
            [python, "-I", "-S", str(script)],
            lock=self.state.lock,
            writable=[],
            pass_fds=[theirs.fileno()],
            output=self._console.write_end,
            environment={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        )
        theirs.close()
        self._console.started()
        self._channel = Channel(SocketLink(ours), self._died, self._lost)
        for service, path in self._services.items():
            self._channel.offer(service, path)
        try:
            self._channel.hello.result(BOOT_TIMEOUT)
        except (KernelDied, FutureTimeout) as error:
            self.power_cut()
            raise BootFailed(str(error), self.console()) from None
        return time.monotonic() - started

    def power_off(self) -> None:
        """Sync, end every process, and free what the host took from this kernel."""
        if self.running:
            with contextlib.suppress(KernelDied, GuestFault):
                self.call("sync", timeout=60)
        self._ending = self._ending or "it was powered off"
        self._clean_up()

    def power_cut(self) -> None:
        """End every process at once, and free what the host took from this kernel."""
        self._ending = self._ending or "its power was cut"
        self._clean_up()

    def _clean_up(self) -> None:
        if self._process is not None:
            self._process.kill()
        if self._channel is not None:
            self._channel.close()
        # Mounts went with the namespace; NBD devices when their servers died.
        for device in sorted(self._disks):
            for holder in _holders(Path(device).name):
                with contextlib.suppress(CommandFailed):
                    run(["dmsetup", "remove", "--force", "--noudevsync", f"/dev/{holder}"])
            with contextlib.suppress(OSError):
                from testbed.guest.linux import detach_loop

                detach_loop(device)
        self._disks.clear()

    def add_disk(self, path: Path, *, layered: bool = False, bare: bool = False) -> str:
        """Plug a sparse file in as a loop device."""
        if layered or bare:
            raise DeviceRefused(
                "the machine's own kernel shows LVM the disk below a layer or a LUN too",
                hint="use --kernel uml",
            )
        if not path.is_file():
            raise DeviceRefused(f"there is no file {path}")
        device = str(self.call("attach_loop", path=f"{HOST_ROOT}{path.resolve()}"))
        self._disks.add(device)
        return device

    def below_layer(self, device: str) -> str:
        """There are none."""
        raise DeviceRefused(f"{device} was plugged in without a layer")

    def require(self, *modules: str) -> None:
        """Load them as the machine does."""
        run(["modprobe", "-a", *modules])

    def remove_disk(self, device: str) -> None:
        """Take a disk out."""
        if device not in self._disks:
            raise DeviceRefused(f"{device} is no disk that was plugged in")
        if _holders(Path(device).name):
            raise DeviceRefused(f"{device} is still in use")
        self.call("detach_loop", device=device)
        self._disks.remove(device)
