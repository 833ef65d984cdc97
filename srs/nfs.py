"""NFSSR (type `nfs`): a FileSR in a directory that an NFS server exports.

    Exception
    ├── ConfigServerMissing 102 · ConfigServerPathMissing 101   device_config lacks a key
    ├── DNSError 140 · NFSTarget 108 · NFSVersion 72 · NFSMount 73   (srs.nfsmount)
    ├── NFSAttached 75 · SRExists 42      an SR that is to be made is there already
    ├── NFSCreate 88 · NFSDelete 76       its directory on the server cannot be made, or removed
    ├── SharedFileSystemNoWrite 461       it cannot be written
    └── NFSUnMount 74                     somebody uses it

The SR's directory is `<serverpath>/<SR uuid>`; with SR.sm_config `nosubdir` it is serverpath
itself. Mounts are soft: when a server is gone, operations fail after (`nfs-retrans` + 1) times
`nfs-timeout` tenths of a second (both in SR.other_config), rather than hang for ever.

Not every server has hard links, which splitting a disk takes: see srs.hardlinks.
"""

import errno
import os
import re
from contextlib import suppress
from typing import ClassVar, Final
from xmlrpc.client import escape

from srs import filenames, hardlinks, mounts
from srs.errors import (
    ConfigServerMissing,
    ConfigServerPathMissing,
    InvalidArg,
    SRExists,
)
from srs.file import VHD_CAPABILITIES, FileSR
from srs.nfserrors import (
    NFSAttached,
    NFSCreate,
    NFSDelete,
    NFSUnMount,
    SharedFileSystemNoWrite,
)
from srs.nfsmount import Server
from srs.protocol import Request
from srs.run import CommandFailed
from srs.sr import DriverInfo

_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class NFSSR(FileSR):
    """Disks in a directory on an NFS server; several hosts may share it."""

    storage_type: ClassVar[str] = "nfs"
    info: ClassVar[DriverInfo] = DriverInfo(
        type="nfs",
        name="NFS VHD",
        description="SR plugin which stores disks as VHD files on a remote NFS filesystem",
        capabilities=(*VHD_CAPABILITIES, "SR_CACHING", "THIN_PROVISIONING", "VDI_READ_CACHING"),
        configuration={
            "server": "hostname or IP address of NFS server (required)",
            "serverpath": "path on remote server (required)",
            "nfsversion": "for protocol version, can be 3, 4, 4.0, 4.1 or 4.2; default: 3",
            "options": "options for the mount, with commas",
            "useUDP": "true: over UDP",
        },
    )

    def __init__(self, request: Request) -> None:
        super().__init__(request)
        if not self.config.get("server"):
            raise ConfigServerMissing()

    # -- where it is

    @property
    def server(self) -> Server:
        """The server, as device_config and the SR's record say."""
        tuning = self.session.call("SR.get_other_config", self.ref) if self.ref else {}
        return Server(
            name=self.config["server"],
            version=self.config.get("nfsversion") or "3",
            udp=self.config.get("useUDP") == "true",
            timeout=_positive(tuning, "nfs-timeout", 200),
            retries=_positive(tuning, "nfs-retrans", 4),
            options=self.config.get("options", ""),
        )

    @property
    def location(self) -> str:
        """The directory on the server that SRs are made in."""
        path = self.config.get("serverpath", "")
        if not path:
            raise ConfigServerPathMissing()
        return path

    def _directory(self) -> str:
        """The SR's own directory on the server."""
        return self.location if self._nosubdir() else os.path.join(self.location, self.uuid)

    def _nosubdir(self) -> bool:
        sm_config: dict[str, str] = self.session.call("SR.get_sm_config", self.ref)
        return sm_config.get("nosubdir") == "true"

    # -- the SR

    def create(self, size: int) -> None:
        """sr_create: an empty directory on the server."""
        self.require_master()
        server, location = self.server, self.location
        if self.is_attached():
            raise NFSAttached(self.path)
        server.check()
        with server.mounted(location) as point:
            if not self._nosubdir():
                _make_directory(os.path.join(point, self.uuid))

    def mount(self) -> None:
        """Mount the SR's directory, and try it."""
        server = self.server
        server.check()
        server.mount(self._directory(), self.path)
        try:
            self._require_writable()
            self._look_for_hard_links()
        except BaseException:
            mounts.unmount(self.path)
            raise

    def _scratch(self, purpose: str) -> str:
        """Name of a file that only this host makes: others may be attaching the SR, too."""
        host = self.session.host.removeprefix("OpaqueRef:")
        return f"{self.uuid}.{host}.{purpose}.new"

    def _require_writable(self) -> None:
        path = self.store.path(self._scratch("test"))
        try:
            with open(path, "wb") as file:
                os.fsync(file.fileno())
            filenames.remove(path)
        except OSError as error:
            raise SharedFileSystemNoWrite(error.strerror) from error

    def _look_for_hard_links(self) -> None:
        if hardlinks.detect(self.path, self._scratch("link")) is False:
            body = f"Storage repository {self.uuid} does not support hardlinks"
            about = ("sr_does_not_support_hardlinks", "2", "SR", self.uuid, body)
            self.session.call("message.create", *about)

    def is_attached(self) -> bool:
        """Whether it is mounted; a server that is gone does not matter."""
        return mounts.is_mounted(self.path)

    def detach(self) -> None:
        """sr_detach: unmount the directory."""
        if not self.is_attached():
            return
        try:
            mounts.unmount(self.path)
            os.rmdir(self.path)
        except OSError as error:
            raise NFSUnMount(f"{self.path}: {error.strerror}") from error

    def delete(self) -> None:
        """sr_delete: what is left, which must be no visible disk, and the directory."""
        super().delete()
        if self._nosubdir():
            return
        with self.server.mounted(self.location) as point:
            try:
                os.rmdir(os.path.join(point, self.uuid))
            except FileNotFoundError:
                return
            except OSError as error:
                raise NFSDelete(f"{self._directory()}: {error.strerror}") from error

    def probe(self) -> str:
        """sr_probe: the SRs in serverpath, and with `probeversion` what the server speaks.

        Raises:
            ConfigServerPathMissing: with the server's exports as XML for the caller.
        """
        server = self.server
        if not self.config.get("serverpath"):
            raise ConfigServerPathMissing(stderr=_exports_document(server))
        versions = server.versions() if "probeversion" in self.config else []
        server.check()
        with server.mounted(self.location) as point:
            found = sorted(filter(_UUID.fullmatch, os.listdir(point)))
        return _probe_document(found, versions)


def _positive(tuning: dict[str, str], key: str, default: int) -> int:
    text = tuning.get(key, str(default))
    if not text.isdecimal() or int(text) < 1:
        raise InvalidArg(f"other_config:{key} is {text!r}, which is no positive number")
    return int(text)


def _make_directory(path: str) -> None:
    """The SR's directory; one that is there already must be empty."""
    try:
        with suppress(FileExistsError):  # a server that was slow may answer to a second request
            os.mkdir(path, 0o700)
        if os.listdir(path):
            raise SRExists(os.path.basename(path))
    except OSError as error:
        if error.errno == errno.EROFS:
            raise SharedFileSystemNoWrite(error.strerror) from error
        raise NFSCreate(error.strerror) from error


def _exports_document(server: Server) -> str:
    """The XML list of a server's exports; without any where it does not tell."""
    lines = ["<?xml version='1.0' ?>", "<nfs-exports>"]
    exports = []
    with suppress(CommandFailed):
        exports = server.exports()
    for path, who in exports:
        lines += [
            "  <Export>",
            f"    <Target>{escape(server.name)}</Target>",
            f"    <Path>{escape(path)}</Path>",
            f"    <Accesslist>{escape(who)}</Accesslist>",
            "  </Export>",
        ]
    return "\n".join([*lines, "</nfs-exports>", ""])


def _probe_document(uuids: list[str], versions: list[str]) -> str:
    lines = ["<?xml version='1.0' ?>", "<SRlist>"]
    for uuid in uuids:
        lines += ["  <SR>", f"    <UUID>{uuid}</UUID>", "  </SR>"]
    if versions:
        lines += ["  <SupportedVersions>"]
        lines += [f"    <Version>{version}</Version>" for version in versions]
        lines += ["  </SupportedVersions>"]
    return "\n".join([*lines, "</SRlist>", ""])
