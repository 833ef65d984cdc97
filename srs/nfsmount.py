"""Mounting NFS by call, and what must be asked of a server before.

    Exception
    ├── DNSError 140          the server's name has no address
    ├── NFSTarget 108         nothing on port 2049, or version 3 and a silent rpcbind
    ├── NFSVersion 72         no version that it speaks
    └── NFSMount 73           the mount itself failed

mount.nfs(8) looks up the address, strips the options that are not the kernel's, and calls
mount(2); starting it takes ten times as long as the mount (0.2 s of 0.22 in a small machine),
so that is done here. The kernel asks the server's mountd itself. What a server offers is asked
with the field's own rpcinfo(8) and showmount(8).
"""

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from srs import mounts, paths
from srs.errors import DNSError
from srs.nfserrors import NFSMount, NFSTarget, NFSVersion
from srs.run import TOO_LONG, CommandFailed, run

_PORT: Final = 2049
_PROGRAM: Final = "100003"
#: Seconds until a server that does not answer is none.
_CONNECT_TIMEOUT: Final = 10
#: Seconds for rpcinfo and showmount, whose own patience is a minute: callers hold the SR's lock.
_ANSWER_TIMEOUT: Final = 5
_VERSIONS: Final = ("3", "4", "4.0", "4.1", "4.2")

#: Options that are flags of mount(2), with the flag.
_FLAGS: Final = {
    "ro": mounts.MS_RDONLY, "nosuid": mounts.MS_NOSUID, "nodev": mounts.MS_NODEV,
    "noexec": mounts.MS_NOEXEC, "sync": mounts.MS_SYNCHRONOUS, "dirsync": mounts.MS_DIRSYNC,
    "noatime": mounts.MS_NOATIME, "nodiratime": mounts.MS_NODIRATIME,
    "relatime": mounts.MS_RELATIME,
}  # fmt: skip
#: Their opposites, which are what a mount without flags has.
_DEFAULTS: Final = frozenset(
    ("rw", "suid", "dev", "exec", "async", "atime", "diratime", "norelatime", "defaults")
)
#: Options for mount(8) and mount.nfs(8), which the kernel does not know.
_FOR_PROGRAMS: Final = frozenset(
    ("_netdev", "auto", "noauto", "nofail", "bg", "fg", "user", "users")
)


@dataclass(frozen=True, slots=True)
class Server:
    """An NFS server, and how to speak to it.

    Attributes:
        name: host name or address, as the user gave it.
        version: of the protocol: "3", "4" (the highest minor version that works), "4.0" ...
        udp: whether to use UDP in place of TCP.
        timeout: tenths of a second until a request is sent again.
        retries: how often, until a soft mount gives up.
        options: the user's, with commas.
    """

    name: str
    version: str = "3"
    udp: bool = False
    timeout: int = 200
    retries: int = 4
    options: str = ""

    def __post_init__(self) -> None:
        if self.version not in _VERSIONS:
            raise NFSVersion(self.version)

    def address(self) -> str:
        """Its first address.

        Raises:
            DNSError: it has none.
        """
        try:
            found = socket.getaddrinfo(self.name, _PORT, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise DNSError(f"{self.name}: {error}") from error
        return str(found[0][4][0])

    def check(self) -> None:
        """Refuse a server that does not serve this version.

        Raises:
            DNSError, NFSTarget, NFSVersion: see the module's text.
        """
        address = self._reach()
        wanted = self.version[0]
        offered = self._registered(address, needed=wanted == "3")
        if wanted not in offered and not (wanted == "4" and self._mounts_version_4(address)):
            raise NFSVersion(f"{self.name} does not serve version {self.version}")

    def versions(self) -> list[str]:
        """Versions that it serves, of 3 and 4."""
        address = self._reach()
        offered = self._registered(address)
        if "4" not in offered and self._mounts_version_4(address):
            offered.add("4")
        return sorted(offered & {"3", "4"})

    def _reach(self) -> str:
        address = self.address()
        try:
            socket.create_connection((address, _PORT), _CONNECT_TIMEOUT).close()
        except OSError as error:
            raise NFSTarget(f"{self.name}: {error.strerror or error}") from error
        return address

    @staticmethod
    def _registered(address: str, *, needed: bool = False) -> set[str]:
        """Versions of NFS that its rpcbind knows; a server of version 4 need not have one.

        Raises:
            NFSTarget: it does not answer, and is needed.
        """
        try:
            table = run(["rpcinfo", "-s", address], seconds=_ANSWER_TIMEOUT)
        except CommandFailed as error:
            if needed and error.returncode == TOO_LONG:
                raise NFSTarget(f"{address}: no answer from its rpcbind") from error
            return set()
        rows = (line.split() for line in table.splitlines())
        return {version for row in rows if row[:1] == [_PROGRAM] for version in row[1].split(",")}

    def _mounts_version_4(self, address: str) -> bool:
        """Whether its root can be mounted with version 4."""
        try:
            with self._mounted_somewhere("/", "4", address):
                return True
        except NFSMount:
            return False

    @contextmanager
    def mounted(self, path: str) -> Iterator[str]:
        """Mount a directory for a while, somewhere; gives the mount point.

        Raises:
            NFSMount: refused.
        """
        with self._mounted_somewhere(path, self.version, self.address()) as point:
            yield point

    @contextmanager
    def _mounted_somewhere(self, path: str, version: str, address: str) -> Iterator[str]:
        point = os.path.join(paths.SR_MOUNT, f"probe-{os.getpid()}")
        os.makedirs(point, mode=0o700)
        try:
            self._mount(path, point, version, address)
            try:
                yield point
            finally:
                mounts.unmount(point)
        finally:
            os.rmdir(point)

    def mount(self, path: str, point: str) -> None:
        """Mount a directory of the server on a directory of this host.

        Raises:
            DNSError, NFSMount: see the module's text.
        """
        self._mount(path, point, self.version, self.address())

    def _mount(self, path: str, point: str, version: str, address: str) -> None:
        minors = ("4.2", "4.1", "4.0") if version == "4" else (version,)
        for minor in minors:
            try:
                self._call_mount(path, point, minor, address)
            except OSError as error:
                # A server refuses a minor version with one of these; the next may do.
                if error.errno in (errno.EPROTONOSUPPORT, errno.EINVAL) and minor != minors[-1]:
                    continue
                why = f"{self.name}:{path}, version {minor}: {error.strerror}"
                raise NFSMount(why) from error
            return

    def _call_mount(self, path: str, point: str, version: str, address: str) -> None:
        # Directory attributes are asked for at each use: other hosts change directories, too.
        protocol = ("udp" if self.udp else "tcp") + ("6" if ":" in address else "")
        words = [
            "soft",
            f"proto={protocol}",
            f"vers={version}",
            "acdirmin=0",
            "acdirmax=0",
            f"timeo={self.timeout}",
            f"retrans={self.retries}",
        ]
        flags, others = split_options(self.options)
        data = ",".join([*words, *others, f"addr={address}"])
        host = f"[{self.name}]" if ":" in self.name else self.name
        kind = "nfs" if version == "3" else "nfs4"
        mounts.mount(f"{host}:{path}", point, kind, flags, data)

    def exports(self) -> list[tuple[str, str]]:
        """(path, who may mount it) of everything that the server exports to version 3.

        Raises:
            CommandFailed: its mountd does not answer, or not in time.
        """
        argv = ["showmount", "--no-headers", "-e", self.name]
        lines = run(argv, seconds=_ANSWER_TIMEOUT).splitlines()
        pairs = (line.rpartition(" ") for line in lines)
        return [(path.rstrip(), who) for path, _, who in pairs]


def split_options(options: str) -> tuple[int, list[str]]:
    """What mount(8) makes of options: flags for mount(2), and the file system's own words."""
    flags, others = 0, []
    for word in filter(None, options.split(",")):
        if word in _FLAGS:
            flags |= _FLAGS[word]
        elif word not in _DEFAULTS | _FOR_PROGRAMS and not word.startswith("retry="):
            others.append(word)
    return flags, others
