"""Where programs run: an SR that is clean again after each, however badly the last one ended."""

import logging
from collections.abc import Callable, Iterable
from typing import Any

import XenAPI

from scenarios.invariants import check
from scenarios.machine import Machine
from scenarios.storage import Repository
from scenarios.violations import InvariantsBroken
from testbed.errors import TestbedError
from testbed.member import Member
from testbed.provision import ProvisionedSR, provision, release_medium
from xapi.backend import HostError

_log = logging.getLogger(__name__)

#: What a host or an SR that is in no good state answers with.
TROUBLE = (XenAPI.Failure, TestbedError, HostError, InvariantsBroken, OSError)


class Bed:
    """An SR without disks.

    Args:
        sr: it is plugged.
        restart: boots the host after a power cut, and plugs its SRs.
        another: puts a new SR in the place of one that cannot be cleared; without it such an
            SR is an error.
    """

    def __init__(
        self,
        sr: Repository,
        restart: Callable[[], None],
        another: Callable[[Repository], Repository] | None = None,
    ) -> None:
        self.sr = sr
        self.restart = restart
        self._another = another

    def clear(self, vms: Iterable[Machine], *, doubtful: bool) -> None:
        """No disk, no VM, and nothing left of them.

        Args:
            vms: those that a program has made.
            doubtful: what the program left was not looked at.

        Raises:
            XenAPI.Failure, TestbedError, InvariantsBroken: that failed, and there is no other SR.
        """
        try:
            if not self.sr.host.kernel.running:
                self.restart()
            for vm in vms:
                vm.remove()
            self.sr.clear()
            if doubtful:
                self.sr.scan()  # figures that were wrong are right again
                check(self.sr, collected=True)
        except TROUBLE as error:
            if self._another is None:
                raise
            _log.warning("another SR takes the place of %s: %s", self.sr.uuid, error)
            self.sr = self._another(self.sr)


def make(host: Member, session: Any, kind: str, restart: Callable[[], None]) -> Bed:
    """A bed with an SR of its own, which the caller retires.

    Args:
        host: it runs.
        session: of its toolstack.
        kind: of SR.
        restart: boots the host after a power cut, and plugs what others have there.
    """

    def made() -> Repository:
        return Repository(host, session, provision(host, session, kind))

    def again() -> None:
        restart()
        _plug(bed.sr)

    def another(old: Repository) -> Repository:
        host.power_cut()
        restart()
        _give_up(host, session, old.provisioned)
        return made()

    bed = Bed(made(), again, another)
    return bed


def _plug(sr: Repository) -> None:
    for pbd in sr.api.SR.get_PBDs(sr.ref):
        sr.api.PBD.plug(pbd)


def _give_up(host: Member, session: Any, sr: ProvisionedSR) -> None:
    """Forget an SR that is not plugged in, whatever is on it, and remove its devices."""
    api = session.xenapi
    for vm in api.VM.get_all():
        if not api.VM.get_is_control_domain(vm):
            Machine(host, api, vm).remove()
    api.SR.forget(sr.ref)
    release_medium(host, sr.medium)
