"""Which VDIs are open on the host, at which block device, and for whom.

A VDI is attached and activated once, however many VBDs and copies use it: the first user
opens the device, the last one closes it. The states in between are never left behind, since
what fails halfway is undone.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from xapi.backend import BackendUnavailable, HostBackend, HostError
from xapi.database import Database
from xapi.errors import XenAPIError, internal_error, vdi_in_use
from xapi.storage import Storage, StorageError, as_xenapi_errors

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Open:
    """An attached VDI: how the driver says to reach it, whether it may be written, who uses it.

    `device` is empty while it is half closed: a close has failed once the device was gone.
    """

    attached: Mapping[str, object]
    writable: bool
    device: str
    users: set[str] = field(default_factory=set)


class Datapath:
    """The open VDIs of one host. Calls on the same VDI wait for each other."""

    def __init__(self, db: Database, storage: Storage, backend: HostBackend, host: str) -> None:
        self._db = db
        self._storage = storage
        self._backend = backend
        self._host = host
        self._open: dict[str, _Open] = {}
        # VDIs whose state is changing just now, and how to wait for the end of that.
        self._changing: set[str] = set()
        self._settled = threading.Condition()

    def open(self, task: str, vdi: str, user: str, *, writable: bool) -> str:
        """Make the VDI's block device if it has none, and return its path.

        Raises:
            XenAPIError: VDI_IN_USE where a writer would have to share a read-only device;
                what the driver or the host failed with.
        """
        with self._exclusively(vdi):
            opened = self._open.get(vdi)
            if opened is None:
                opened = self._open[vdi] = self._attach(task, vdi, writable=writable)
            elif writable and not opened.writable:
                raise vdi_in_use(vdi, "attach")
            elif not opened.device:
                # Whether it is active still nobody knows: activating twice is once.
                opened.device = self._activate(task, vdi, opened.attached, writable=opened.writable)
            opened.users.add(user)
            return opened.device

    def close(self, task: str, vdi: str, user: str, *, force: bool = False) -> None:
        """Give up one use; the last one takes the device away, by force with what is not written.

        Raises:
            XenAPIError: DEVICE_DETACH_REJECTED [class, user, text], and the use goes on; what
                the driver failed with, once the device is gone.
        """
        with self._exclusively(vdi):
            opened = self._open.get(vdi)
            if opened is None or user not in opened.users:
                return
            if opened.users == {user}:
                if opened.device:
                    self._unplug(opened.device, user, force=force)
                    opened.device = ""  # a second try goes on from here
                self._detach(task, vdi, force=force)
                self._open.pop(vdi, None)
            opened.users.discard(user)

    def _detach(self, task: str, vdi: str, *, force: bool) -> None:
        sr_ref, sr, location = self._names(vdi)
        with as_xenapi_errors(sr_ref, vdi):
            try:
                self._storage.vdi_deactivate(task, sr, location)
            except StorageError as error:
                if not force:
                    raise
                # A driver says once what could not be written, and has closed what it could.
                _log.warning("forced: %s: %s", vdi, error)
                self._storage.vdi_deactivate(task, sr, location)
            self._storage.vdi_detach(task, sr, location)

    def forget_all(self) -> None:
        """The host lost power: nothing is open any more."""
        self._open.clear()

    @contextmanager
    def _exclusively(self, vdi: str) -> Iterator[None]:
        with self._settled:
            self._settled.wait_for(lambda: vdi not in self._changing)
            self._changing.add(vdi)
        try:
            yield
        finally:
            with self._settled:
                self._changing.remove(vdi)
                self._settled.notify_all()

    def _attach(self, task: str, vdi: str, *, writable: bool) -> _Open:
        sr_ref, sr, location = self._names(vdi)
        with ExitStack() as undo, as_xenapi_errors(sr_ref, vdi):
            attached = self._storage.vdi_attach(task, sr, location, writable=writable)
            undo.callback(_quietly, self._storage.vdi_detach, task, sr, location)
            device = self._activate(task, vdi, attached, writable=writable)
            undo.pop_all()
        return _Open(attached, writable, device)

    def _activate(
        self, task: str, vdi: str, attached: Mapping[str, object], *, writable: bool
    ) -> str:
        sr_ref, sr, location = self._names(vdi)
        with ExitStack() as undo, as_xenapi_errors(sr_ref, vdi):
            self._storage.vdi_activate(task, sr, location, writable=writable)
            undo.callback(_quietly, self._storage.vdi_deactivate, task, sr, location)
            device = self._plug(attached, writable=writable)
            undo.pop_all()
        return device

    def _unplug(self, device: str, user: str, *, force: bool) -> None:
        try:
            self._backend.unplug(device, force=force)
        except BackendUnavailable as error:
            raise XenAPIError("HOST_OFFLINE", (self._host,)) from error
        except HostError as error:
            raise XenAPIError("DEVICE_DETACH_REJECTED", ("VBD", user, str(error))) from error

    def _plug(self, attached: Mapping[str, object], *, writable: bool) -> str:
        try:
            return self._backend.plug(attached, writable=writable)
        except BackendUnavailable as error:
            raise XenAPIError("HOST_OFFLINE", (self._host,)) from error
        except HostError as error:
            raise internal_error(str(error)) from error

    def _names(self, vdi: str) -> tuple[str, str, str]:
        """SR reference, SR uuid and location of a VDI."""
        with self._db.lock:
            sr: str = self._db.get("VDI", vdi, "SR")
            return sr, self._db.get("SR", sr, "uuid"), self._db.get("VDI", vdi, "location")


def _quietly(undo: Callable[[str, str, str], None], task: str, sr: str, vdi: str) -> None:
    """One step back after a failure, whose own error is what the client shall see."""
    try:
        undo(task, sr, vdi)
    except (StorageError, XenAPIError) as error:
        _log.warning("cleaning up after a failed attach of %s: %s", vdi, error)
