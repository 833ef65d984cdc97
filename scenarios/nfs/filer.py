"""An export for one scenario, and SRs on it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import XenAPI

from scenarios.background import PATIENCE
from scenarios.storage import Repository
from testbed.devices.nfs import Export
from testbed.host import Host
from testbed.provision import ProvisionedSR


def refused(call: Any, *arguments: Any) -> list[str]:
    """The ErrorDescription of a call that must fail."""
    with pytest.raises(XenAPI.Failure) as caught:
        call(*arguments)
    return list(caught.value.details)


class Filer:
    """An NFS server of the host's own, with one export, and the session of a client."""

    def __init__(self, host: Host, session: Any, export: Export) -> None:
        self.host = host
        self.session = session
        self.export = export

    @property
    def api(self) -> Any:
        """The XenAPI."""
        return self.session.xenapi

    def config(self, **changes: str) -> dict[str, str]:
        """Device_config of an SR on the export; an empty value leaves the key out."""
        config = {"server": self.export.server, "serverpath": self.export.path, **changes}
        return {key: value for key, value in config.items() if value}

    def create(self, config: dict[str, str], sm_config: dict[str, str] | None = None) -> str:
        """SR.create; returns the reference."""
        this = self.api.session.get_this_host(self.session.handle)
        sm_config = sm_config or {}
        args = (this, config, "0", "on NFS", "", "nfs", "user", True, sm_config)
        return str(self.api.SR.create(*args))

    def probe(self, **changes: str) -> str:
        """SR.probe."""
        this = self.api.session.get_this_host(self.session.handle)
        return str(self.api.SR.probe(this, self.config(**changes), "nfs", {}))

    @contextmanager
    def repository(
        self, sm_config: dict[str, str] | None = None, **changes: str
    ) -> Iterator[Repository]:
        """An SR on the export, destroyed afterwards."""
        config = self.config(**changes)
        ref = self.create(config, sm_config)
        made = ProvisionedSR("nfs", ref, self.api.SR.get_uuid(ref), self.export, config)
        sr = Repository(self.host, self.session, made)
        try:
            yield sr
        finally:
            sr.clear()
            self.unplug(sr)
            self.api.SR.destroy(sr.ref)

    def pbd(self, sr: Repository) -> str:
        """The PBD of an SR."""
        (pbd,) = self.api.SR.get_PBDs(sr.ref)
        return str(pbd)

    def unplug(self, sr: Repository) -> None:
        """Unplug an SR."""
        self.api.PBD.unplug(self.pbd(sr))

    def plug(self, sr: Repository) -> None:
        """Plug an SR in."""
        self.api.PBD.plug(self.pbd(sr))

    def replug(self, sr: Repository) -> None:
        """Unplug an SR, and plug it in again."""
        self.unplug(sr)
        self.plug(sr)

    def wait_for_server(self, sr: Repository) -> None:
        """Wait until the host's kernel has found a server that came back.

        It connects anew 3 seconds after the last time, then 6, 12 ... Requests that a soft mount
        gives up before fail, at the mount point itself with ESTALE: the kernel's file system layer
        makes that of any failure to look at it again.
        """
        deadline = time.monotonic() + PATIENCE
        # Asks the server, and stands still for as long as the mount has patience.
        while self.host.kernel.run(["stat", "-f", f"/run/sr-mount/{sr.uuid}"]).returncode:
            assert time.monotonic() < deadline, "the server is back, the host does not notice"

    def listed(self, below: str = "") -> list[str]:
        """Names on the server, in the export or in a directory of it."""
        directory = f"{self.export.directory}/{below}"
        names = self.host.kernel.run(["ls", directory]).stdout.split()
        return sorted(set(names) - {"lost+found"})

    def mount_options(self, sr: Repository) -> set[str]:
        """What the kernel mounted the SR with."""
        for line in self.host.kernel.run(["cat", "/proc/mounts"]).stdout.splitlines():
            _, point, _, options, *_ = line.split()
            if point == f"/run/sr-mount/{sr.uuid}":
                return set(options.split(","))
        raise AssertionError(f"{sr.uuid} is not mounted")
