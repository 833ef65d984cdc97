"""User-Mode Linux: a real Linux kernel as an ordinary process of an ordinary user.

Boots in 0.1 s with three parameters that skip work nobody needs here: the benchmark of
RAID-6 algorithms, zswap's pools and 256 pseudo terminals of the old kind. (A guest that
writes to a RAID-6 needs the first of them: `raid6=True`.)
"""

import contextlib
import mmap
import os
import string
import threading
import time
from collections.abc import Sequence
from concurrent.futures import TimeoutError as FutureTimeout
from pathlib import Path
from typing import Final

from testbed.errors import BootFailed, DeviceRefused, GuestFault, KernelDied, PackageMissing
from testbed.guest.ring import Bell, Ring, region_size
from testbed.kernel import guestconfig, mconsole
from testbed.kernel.base import BOOT_TIMEOUT, LVM_DEVICES, MODULES, Kernel, layer_name
from testbed.kernel.channel import Channel
from testbed.kernel.console import Console
from testbed.kernel.modules import load_order
from testbed.kernel.process import KernelProcess
from testbed.network import Nic
from testbed.state import StateDirectory, memory_base

PROGRAM: Final = Path("/usr/bin/linux.uml")
_MODULE_TREES: Final = Path("/usr/lib/uml/modules")
_RING_CAPACITY: Final = 4 << 20
#: The kernel has ubda to ubdp, and takes ubda for its root, which we do not have.
_SLOTS: Final = string.ascii_lowercase[1:16]

#: The guest's C library: keep freed memory, because getting it back faults page by page.
_MALLOC: Final = (
    "MALLOC_TOP_PAD_=33554432",
    "MALLOC_TRIM_THRESHOLD_=268435456",
    "MALLOC_MMAP_THRESHOLD_=268435456",
)


def _module_tree() -> Path:
    trees = sorted(_MODULE_TREES.glob("*/modules.dep"))
    if not trees:
        raise PackageMissing(str(_MODULE_TREES), "user-mode-linux")
    return trees[-1].parent


def _files_of(modules: Sequence[str]) -> list[tuple[str, str]]:
    """Files in load order, with parameters."""
    return [
        (path, "nbds_max=16" if path.endswith("/nbd.ko") else "")
        for path in load_order(_module_tree(), modules)
    ]


class UmlKernel(Kernel):
    """One User-Mode Linux guest.

    Args:
        state: where its files go.
        name: host name inside.
        variants: see Kernel.
        memory: bytes of guest memory. It is taken from this machine as it is touched.
        raid6: pay 0.8 s of boot for a kernel whose RAID-6 does not panic.
        nics: see Kernel; the first is vec0 inside.
        drivers: see Kernel.
        shelf: see Kernel.
        extra_memory: see Kernel.
        tree: see Kernel.
    """

    kind = "uml"

    def __init__(
        self,
        state: StateDirectory,
        name: str = "host",
        variants: Sequence[Path] = (),
        *,
        memory: int = 140 << 20,
        raid6: bool = False,
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
        self._memory = memory + extra_memory
        self._raid6 = raid6
        self._slots: dict[str, str] = {}  # device inside -> ubd letter
        self._layered: set[str] = set()
        self._plugging = threading.Lock()
        self._memory_state: StateDirectory | None = None
        self._bells: list[Bell] = []

    @classmethod
    def missing(cls) -> str:
        """Why no guest can boot here; empty when one can."""
        return "" if PROGRAM.exists() else f"{PROGRAM} is missing"

    # --- life ----------------------------------------------------------------------------

    def boot(self) -> float:
        """Start the guest; returns the seconds until its agent was ready."""
        if not PROGRAM.exists():
            raise PackageMissing(str(PROGRAM), "user-mode-linux")
        guestconfig.compile_sources(self.tree)
        started = time.monotonic()
        self._write_start_script()
        self._console = Console()
        self._memory_state = StateDirectory(memory_base(), "memory")
        memfd = os.memfd_create("testbed-ring")
        os.ftruncate(memfd, region_size(_RING_CAPACITY))
        region = memoryview(mmap.mmap(memfd, region_size(_RING_CAPACITY)))
        (inbound, inside_0), (outbound, inside_1) = self._line(), self._line()
        cables = [nic.connect().detach() for nic in self.nics]
        inherited = [memfd, *inside_0, *inside_1, *cables]
        try:
            self._process = KernelProcess(
                self._command_line(memfd, inside_0, inside_1, cables),
                lock=self.state.lock,
                writable=[
                    *(self.state.path, self._memory_state.path),
                    *([self.shelf] if self.shelf else []),
                ],
                pass_fds=inherited,
                output=self._console.write_end,
                environment={
                    "PATH": "/usr/bin:/bin",
                    "TMPDIR": str(self._memory_state.path),
                    "SR_TESTBED_UNCONFINED": os.environ.get("SR_TESTBED_UNCONFINED", ""),
                },
            )
        finally:
            for fd in inherited:
                os.close(fd)
            self._console.started()
        ring = Ring(region, _RING_CAPACITY, host=True, inbound=inbound, outbound=outbound)
        self._channel = Channel(ring, self._died, self._lost)
        for service, path in self._services.items():
            self._channel.offer(service, path)
        self._await_hello()
        return time.monotonic() - started

    def _await_hello(self) -> None:
        channel = self.channel
        try:
            channel.hello.result(BOOT_TIMEOUT)
        except KernelDied as died:
            console = self.console()
            self._clean_up()
            raise BootFailed(died.reason, console) from None
        except FutureTimeout:
            console = self.console()
            self.power_cut()
            raise BootFailed(f"no hello within {BOOT_TIMEOUT:.0f} s", console) from None

    def power_off(self) -> None:
        """Sync, stop, and remove everything but the caller's state directory."""
        if self.running:
            self._ending = "it was powered off"
            with contextlib.suppress(KernelDied, GuestFault):
                self.call("sync", timeout=60)
            # The agent powers its kernel off when its host hangs up.
            self._hang_up()
            if self._process is not None:
                self._process.end(5.0)
        self._clean_up()

    def power_cut(self) -> None:
        """SIGKILL to the whole process group: page cache and running programs are lost."""
        self._ending = self._ending or "its power was cut"
        if self._process is not None:
            self._process.kill()
        self._clean_up()

    def _hang_up(self) -> None:
        for bell in self._bells:
            bell.hang_up()

    def _clean_up(self) -> None:
        if self._process is not None:
            self._process.kill()
        if self._channel is not None:
            self._channel.close()
        self._hang_up()
        for bell in self._bells:
            os.close(bell.read)
        self._bells = []
        if self._memory_state is not None:
            self._memory_state.close()
        self._slots.clear()
        self._layered.clear()

    # --- disks ---------------------------------------------------------------------------

    def add_disk(self, path: Path, *, layered: bool = False, bare: bool = False) -> str:
        """Hot-plug: sparse file -> /dev/ubdX -> [device-mapper ->] /dev/loopN.

        The loop device on top gives drivers the same kind of name on every kernel, with a
        layer below it or without; flush and discard pass through it.
        """
        if any(character in str(path) for character in ",: "):
            raise DeviceRefused(f"the path {path} has a character that ubd cannot take")
        if not path.is_file():
            raise DeviceRefused(f"there is no file {path}")
        shared = self.shelf is not None and path.parent == self.shelf
        if not shared and not path.resolve().is_relative_to(self.state.path.resolve()):
            raise DeviceRefused(f"{path} is not below {self.state.path}: the guest cannot write it")
        with self._plugging:
            free = [letter for letter in _SLOTS if letter not in self._slots.values()]
            if not free:
                raise DeviceRefused(f"all {len(_SLOTS)} disk slots are taken")
            # Shared: the kernel takes no lock on the file, and keeps no cache between the two
            # devices, in which another kernel's writes would not show.
            self._manage(f"config ubd{free[0]}{'c' if shared else ''}={path}")
            lower = f"/dev/ubd{free[0]}"
            upper = self._add_layer(lower) if layered else lower
            device = upper
            if not bare:
                device = str(self.call("attach_loop", path=upper, direct=layered or shared))
            self._slots[device] = free[0]
            if layered:
                self._layered.add(device)
            return device

    def _add_layer(self, lower: str) -> str:
        sectors = self.call("size", path=lower) // 512
        rows = [(0, sectors, "linear", f"{lower} 0")]
        return str(self.call("dm_create", name=layer_name(lower), table=rows))

    def below_layer(self, device: str) -> str:
        """/dev/ubdX of a layered disk."""
        if device not in self._layered:
            raise DeviceRefused(f"{device} was plugged in without a layer")
        return f"/dev/ubd{self._slots[device]}"

    def require(self, *modules: str) -> None:
        """Load them by call."""
        self.call("load_modules", modules=_files_of(modules))

    def remove_disk(self, device: str) -> None:
        """The inverse; refused while the kernel still uses the disk."""
        with self._plugging:
            letter = self._slots.get(device)
            if letter is None:
                raise DeviceRefused(f"{device} is no disk that was plugged in")
            try:
                if device.startswith("/dev/loop"):
                    self.call("detach_loop", device=device)
                if device in self._layered:
                    self.call("dm_remove", name=layer_name(f"/dev/ubd{letter}"))
                    self._layered.remove(device)
                self._manage(f"remove ubd{letter}")
            except (GuestFault, mconsole.ConsoleRefused) as error:
                raise DeviceRefused(f"{device} is still in use: {error}") from error
            del self._slots[device]

    def _manage(self, command: str) -> None:
        mconsole.command(self.state.path / "uml" / "g" / "mconsole", command)

    # --- building ------------------------------------------------------------------------

    def _line(self) -> tuple[Bell, tuple[int, int]]:
        """A doorbell line: our end, and the descriptors that the guest's serial line uses."""
        inside_read, our_write = os.pipe()
        our_read, inside_write = os.pipe()
        bell = Bell(our_read, our_write)
        self._bells.append(bell)
        return bell, (inside_read, inside_write)

    def _write_start_script(self) -> None:
        config = {
            "own_kernel": True,
            "hostname": self.name,
            "ring_capacity": _RING_CAPACITY,
            "modules": _files_of(MODULES),
            "lvm_devices": LVM_DEVICES,
            "variants": self.variants,
            "nics": [
                (f"vec{number}", nic.ip, str(nic.address.netmask))
                for number, nic in enumerate(self.nics)
            ],
            "drivers": self.drivers,
        }
        guestconfig.write_script(self.state.path / "init.py", config, self.tree)

    def _command_line(
        self, memfd: int, line_0: tuple[int, int], line_1: tuple[int, int], cables: Sequence[int]
    ) -> list[str]:
        uml = self.state.path / "uml"
        uml.mkdir(exist_ok=True)
        blacklist = "init_zswap" if self._raid6 else "init_zswap,raid6_select_algo"
        return [
            str(PROGRAM),
            f"mem={self._memory >> 20}M",
            f"iomem=mmapper,/proc/self/fd/{memfd}",
            "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro",
            f"init={guestconfig.interpreter()}",
            "con=null", "con0=null,fd:1",
            "ssl=null",
            f"ssl0=fd:{line_0[0]},fd:{line_0[1]}", f"ssl1=fd:{line_1[0]},fd:{line_1[1]}",
            f"uml_dir={uml}/", "umid=g",
            *(
                f"vec{number}:transport=fd,fd={cable},mac={nic.mac},mtu={nic.mtu},depth=128,vec=1"
                for number, (nic, cable) in enumerate(zip(self.nics, cables, strict=True))
            ),
            # With a value: a bare unknown word would become the first argument of init.
            "noreboot=1",
            "loglevel=7", "printk.time=1", "printk.devkmsg=on",
            "lpj=20000000", "pty.legacy_count=0", f"initcall_blacklist={blacklist}",
            *_MALLOC,
            "--", "-I", "-S", str(self.state.path / "init.py"),
        ]  # fmt: skip
