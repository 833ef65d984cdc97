"""NFS exports: directories of one kernel that hosts mount over a network.

The server is the kernel's own nfsd, versions 3 to 4.2, with the daemons that belong to it, from
Debian's packages:

    rpcbind      knows which service listens where
    rpc.mountd   answers mounts of version 3, and the kernel's questions who may see what
    nfsdcld      keeps the clients of version 4, so that they go on after a restart of the server

They run in a kernel of their own only: on this machine's kernel they would serve its network.
"""

from dataclasses import dataclass
from typing import Final

from testbed.errors import DeviceRefused
from testbed.kernel.base import Kernel

#: What clients call `/`. A guest's root is hostfs, which no server can export.
ROOT: Final = "/mnt/disks"

#: Directories for the daemons; their configuration instead of the machine's; they start. nfsdcld
#: would never hear of a server that starts before it watches, so that is waited for.
_PREPARE: Final = """
set -e
mkdir -p /var/lib/nfs/nfsdcld
touch /var/lib/nfs/etab
printf '[exports]\nrootdir=%s\n' "$0" > /run/nfs.conf
mount --bind /run/nfs.conf /etc/nfs.conf
rpc.mountd
nfsdcld
watcher=$(pidof nfsdcld)
until grep -qs ^inotify /proc/$watcher/fdinfo/*; do
    kill -0 $watcher
    sleep 0.01
done
echo 131072 > /proc/fs/nfsd/max_block_size
echo 10 > /proc/fs/nfsd/nfsv4leasetime
echo 10 > /proc/fs/nfsd/nfsv4gracetime
"""

_THREADS: Final = 2


@dataclass(frozen=True, slots=True)
class Export:
    """A directory that a server exports.

    Attributes:
        server: its address, for device_config:server.
        path: what clients call the directory, for device_config:serverpath.
        directory: where it is in the server's kernel.
    """

    server: str
    path: str
    directory: str


def make_client(kernel: Kernel) -> None:
    """Give a kernel what mounting takes: modules, and for locks a rpcbind and statd's directory.

    Raises:
        DeviceRefused: rpcbind does not start.
    """
    kernel.require("nfsv3", "nfsv4")
    _run(kernel, "mkdir -p /var/lib/nfs/sm && (pidof -q rpcbind || rpcbind)")


class NfsServer:
    """The NFS server of a kernel; starts with its first export.

    Args:
        kernel: where it runs.
        address: how clients reach that kernel.
    """

    def __init__(self, kernel: Kernel, address: str = "127.0.0.1") -> None:
        self._kernel = kernel
        self._address = address
        self._prepared = False

    def start(self) -> None:
        """Serve.

        Raises:
            DeviceRefused: not on this kind of kernel, or a daemon does not start.
        """
        if not self._prepared:
            self._prepare()
        self._set_threads(_THREADS)

    def stop(self) -> None:
        """End every connection and answer no more, as a server that reboots does."""
        self._set_threads(0)

    def restart(self) -> None:
        """Stop and start."""
        self.stop()
        self.start()

    def export(self, directory: str, *, read_only: bool = False) -> Export:
        """Let clients mount a directory, with root as root. Again: with other rights.

        Args:
            directory: the mount point of a file system, below ROOT.
            read_only: clients may not write.

        Raises:
            DeviceRefused: not below ROOT, or the server refuses it.
        """
        if not directory.startswith(f"{ROOT}/"):
            raise DeviceRefused(f"{directory} cannot be exported", hint=f"mount it below {ROOT}")
        if not self._prepared:
            self.start()
        export = Export(self._address, directory.removeprefix(ROOT), directory)
        mode = "ro" if read_only else "rw"
        options = f"{mode},sync,no_root_squash,no_subtree_check,insecure"
        _run(self._kernel, 'exportfs -o "$0" "*:$1"', options, export.path)
        return export

    def withdraw(self, export: Export) -> None:
        """Undo `export`; the server restarts, for only then it lets go of the file system.

        Clients that have it mounted get ESTALE.
        """
        _run(self._kernel, 'exportfs -u "*:$0"', export.path)
        self.restart()

    def _prepare(self) -> None:
        if self._kernel.kind == "local":
            raise DeviceRefused(
                "this machine's own kernel would serve its network", hint="--kernel uml"
            )
        self._kernel.require("nfsd")
        make_client(self._kernel)
        self._kernel.call("mount", source="nfsd", target="/proc/fs/nfsd", kind="nfsd")
        pipes = "/var/lib/nfs/rpc_pipefs"
        self._kernel.call("mount", source="sunrpc", target=pipes, kind="rpc_pipefs")
        _run(self._kernel, _PREPARE, ROOT)
        self._prepared = True

    def _set_threads(self, number: int) -> None:
        _run(self._kernel, 'echo "$0" > /proc/fs/nfsd/threads', str(number))


def _run(kernel: Kernel, script: str, *arguments: str) -> None:
    done = kernel.run(["sh", "-c", script, *arguments])
    if done.returncode:
        what = script.strip().splitlines()[-1]
        raise DeviceRefused(f"the NFS server: {what} failed: {done.stderr.strip()}")
