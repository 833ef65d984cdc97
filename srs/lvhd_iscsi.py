"""LVHDoISCSISR (types `lvhdoiscsi` and `lvmoiscsi`): an LVHDSR on a LUN of an iSCSI target.

    Exception
    ├── ConfigTargetMissing 95        device_config has no `target`
    ├── ISCSIPort 142                 `port` is no port
    ├── DNSError 140                  a target's name that nobody knows
    ├── ISCSITarget 141               nobody answers there
    ├── ConfigTargetIQNMissing 96     no `targetIQN`, or an unknown one; those known are on stderr
    ├── ConfigSCSIid 107              no `SCSIid`; the LUNs are on stderr
    ├── ConfigISCSIIQNMissing 97      this host has no IQN
    ├── ISCSIDevice 67                the target shows no LUN
    └── those of srs.iscsi and srs.lun

    <iscsi-target-iqns><TGT><Index/><IPAddress/><Port/><TargetIQN/></TGT> ...
    <iscsi-target><LUN><vendor/><serial/><LUNid/><size/><SCSIid/></LUN> ...

A session is shared by all SRs with LUNs on its target (srs.sessionrefs), and closed when the
last one is detached. `targetIQN=*` takes all targets; `multihomed=true`, or multipathing, all
portals of a target. Which ones that were is kept in the PBD as `multiSession`, so that a later
attach waits for the same.
"""

import os
import socket
from collections.abc import Iterable
from typing import ClassVar, Final

from srs import iscsi, scsi, sessionrefs
from srs.errors import ConfigTargetIQNMissing, ConfigTargetMissing, DNSError, InvalidArg
from srs.iscsi import Chap, Portal
from srs.lun import LUN_CAPABILITIES, LunSR
from srs.scsi import Path
from srs.scsierrors import (
    ConfigISCSIIQNMissing,
    InvalidSecret,
    ISCSIDevice,
    ISCSIDiscovery,
    ISCSIPort,
    ISCSITarget,
)
from srs.session import Failure
from srs.sr import DriverInfo

_DEFAULT_PORT: Final = 3260
#: Seconds that a broken session holds requests back; with more paths, another takes them over.
_RECOVERY: Final = 144
_RECOVERY_MULTIPATH: Final = 15
#: Seconds for a LUN to appear.
_APPEARS: Final = 2.0
#: Stands for the SR in srs.sessionrefs while there is none, with the number of the process.
_PROBE: Final = "probe"


class LVHDoISCSISR(LunSR):
    """Disks on a LUN of an iSCSI target."""

    info: ClassVar[DriverInfo] = DriverInfo(
        type="lvhdoiscsi",
        name="LVHD over iSCSI",
        description="SR plugin which represents disks as Logical Volumes within a Volume Group "
        "created on an iSCSI LUN",
        capabilities=LUN_CAPABILITIES,
        configuration={
            "SCSIid": "The scsi_id of the destination LUN",
            "target": "IP address or hostname of the iSCSI target, or several with commas",
            "targetIQN": "The IQN of the target LUN group to be attached, or * for all",
            "chapuser": "The username to be used during CHAP authentication",
            "chappassword": "The password to be used during CHAP authentication",
            "chappassword_secret": "The uuid of a secret with that password, in its place",
            "incoming_chapuser": "The incoming username for bi-directional CHAP (optional)",
            "incoming_chappassword": "The incoming password for bi-directional CHAP (optional)",
            "incoming_chappassword_secret": "The uuid of a secret with it, in its place",
            "port": "The network port number on which to query the target (default 3260)",
            "multihomed": "true to use all portals of the target (default false)",
            "usediscoverynumber": "The index of the one discovered target to use (optional)",
            "allocation": "thick (default) or thin",
        },
    )

    # -- what device_config says

    def _addresses(self) -> list[str]:
        text = self.config.get("target", "")
        names = [name.strip() for name in text.split(",") if name.strip()]
        if not names:
            raise ConfigTargetMissing()
        try:
            found = [socket.getaddrinfo(name, None)[0][4][0] for name in names]
        except OSError as error:
            raise DNSError(f"{text}: {error}") from error
        return [str(address) for address in found]

    @property
    def _port(self) -> int:
        text = self.config.get("port", "") or str(_DEFAULT_PORT)
        if not text.isascii() or not text.isdigit() or not 0 < int(text) < 1 << 16:
            raise ISCSIPort(text)
        return int(text)

    @property
    def _chap(self) -> Chap:
        return Chap(
            self.config.get("chapuser", ""),
            self._password("chappassword"),
            self.config.get("incoming_chapuser", ""),
            self._password("incoming_chappassword"),
        )

    def _password(self, key: str) -> str:
        """What device_config says, or the secret of the toolstack that it names."""
        uuid = self.config.get(f"{key}_secret", "")
        if not uuid:
            return self.config.get(key, "")
        try:
            ref = self.session.call("secret.get_by_uuid", uuid)
            return str(self.session.call("secret.get_value", ref))
        except Failure as failure:
            raise InvalidSecret(uuid) from failure

    @property
    def _name(self) -> str:
        """The IQN of this host."""
        name = self.config.get("localIQN", "")
        if not name:
            host = self.session.call("host.get_record", self.request.host_ref)
            name = host["other_config"].get("iscsi_iqn", "") or host["iscsi_iqn"]
        if not name:
            raise ConfigISCSIIQNMissing()
        return str(name)

    # -- portals

    def _portals(self) -> list[Portal]:
        """Where to log in: as noted at the last attach, or what the targets tell now."""
        noted = self.config.get("multiSession", "")
        if noted:
            return [_noted(entry) for entry in noted.split("|") if entry]
        port, addresses = self._port, self._addresses()
        iqn = self.config.get("targetIQN", "")
        if len(addresses) == 1 and not self._multihomed:
            there = [session.portal for session in iscsi.sessions(iqn)] if iqn else []
            if Portal(addresses[0], port, iqn) in there:
                return [Portal(addresses[0], port, iqn)]
        found = self._discover(addresses, port)
        number = self.config.get("usediscoverynumber", "")
        if number.isdigit():
            found = found[int(number) : int(number) + 1]
        wanted = [portal for portal in found if iqn in ("*", portal.iqn)]
        if not wanted:
            raise ConfigTargetIQNMissing(iqn, stderr=_targets_document(found))
        if self._multihomed:
            return wanted
        return [portal for portal in wanted if portal.address in addresses] or wanted[:1]

    @property
    def _multihomed(self) -> bool:
        return self.config.get("multihomed") == "true" or self.multipathing

    def _discover(self, addresses: list[str], port: int) -> list[Portal]:
        found: dict[Portal, None] = {}
        failures: list[ISCSITarget | ISCSIDiscovery] = []
        for address in addresses:
            try:
                iscsi.require_service(address, port)
                found.update(dict.fromkeys(iscsi.discover(address, port, self._chap)))
            except (ISCSITarget, ISCSIDiscovery) as error:
                failures.append(error)  # of several, one may be dead
        if failures and not found:
            raise failures[0]
        return list(found)

    # -- sessions

    @property
    def _user(self) -> str:
        return self.uuid or f"{_PROBE}-{os.getpid()}"

    def connect(self) -> bool:
        """See LunSR. Log in where there is no session, and wait for the LUN."""
        with iscsi.lock():
            known = bool(sessionrefs.targets_of(self._user))
            portals = self._log_in()
        self._note(portals)
        hosts = self._hosts(portals)
        wanted = len(hosts) if self.multipathing else 1
        if len(scsi.paths(self.scsi_id)) < wanted:
            # The daemon does so too, but nobody knows when it is through; and a target that has
            # got the LUN since the login tells only who asks.
            scsi.rescan(hosts.__contains__)
            scsi.wait_for(lambda: len(scsi.paths(self.scsi_id)) >= wanted, seconds=_APPEARS)
        return not known

    def _log_in(self) -> list[Portal]:
        iscsi.ensure_daemon(self._name)
        portals = self._portals()
        recovery = _RECOVERY_MULTIPATH if self.multipathing else _RECOVERY
        wanted = {portal.iqn for portal in portals}
        added = wanted.difference(sessionrefs.targets_of(self._user))
        there = {session.portal.iqn for session in iscsi.sessions()}
        for iqn in added:
            sessionrefs.add(iqn, self._user)
        try:
            iscsi.login(portals, self._chap, recovery)
        except Exception:
            # Not what was there before: disks are open on it.
            for iqn in added:
                if sessionrefs.drop(iqn, self._user) and iqn not in there:
                    iscsi.logout(iqn)
            raise
        return portals

    def _note(self, portals: list[Portal]) -> None:
        if self.ref:
            if len(portals) > 1 and "multiSession" not in self.config:
                noted = "|".join(f"{p.address},{p.port},{p.iqn}" for p in portals) + "|"
                self.change_pbd(multiSession=noted)
            self.note_in_pbd("iscsi_sessions", str(len(portals)))

    def _hosts(self, portals: Iterable[Portal]) -> set[int]:
        wanted = set(portals)
        return {session.host for session in iscsi.sessions() if session.portal in wanted}

    def disconnect(self) -> None:
        """See LunSR. A session that others use shows this LUN no more."""
        with iscsi.lock():
            self._log_out()
        scsi_id = self.config.get("SCSIid", "")
        if scsi_id and not scsi.published(scsi_id):
            for path in scsi.paths(scsi_id):
                path.remove()

    def _log_out(self) -> None:
        for iqn in sessionrefs.targets_of(self._user):
            if sessionrefs.drop(iqn, self._user):
                iscsi.logout(iqn)

    def offline_config(self) -> dict[str, str]:
        """See LunSR."""
        chap = self._chap
        secrets = {"chappassword": chap.secret, "incoming_chappassword": chap.in_secret}
        kept = super().offline_config().items()
        config = {key: text for key, text in kept if key.removesuffix("_secret") not in secrets}
        return {**config, **{k: v for k, v in secrets.items() if v}, "localIQN": self._name}

    # -- probing

    def probe(self) -> str:
        """sr_probe: targets, then LUNs, then SRs, as far as device_config is complete."""
        self.scsi_id  # noqa: B018  # raises, with what there is to choose from
        return super().probe()

    def describe_units(self) -> str:
        """See LunSR."""
        with iscsi.lock():
            portals = self._log_in()
        try:
            hosts = self._hosts(portals)
            scsi.rescan(hosts.__contains__)
            scsi.wait_for(lambda: bool(_units(hosts)), seconds=_APPEARS)
            shown = _units(hosts)
        finally:
            self.disconnect()
        if not shown:
            raise ISCSIDevice(", ".join(sorted({portal.iqn for portal in portals})))
        return _units_document(shown)


def _noted(entry: str) -> Portal:
    try:
        address, port, iqn = entry.split(",")
        return Portal(address, int(port), iqn)
    except ValueError:
        raise InvalidArg(f"multiSession: {entry}") from None


def _targets_document(portals: list[Portal]) -> str:
    lines = ["<?xml version='1.0' ?>", "<iscsi-target-iqns>"]
    for index, portal in enumerate(portals):
        fields = {
            "Index": index,
            "IPAddress": portal.address,
            "Port": portal.port,
            "TargetIQN": portal.iqn,
        }
        lines += scsi.element("TGT", fields)
    return "\n".join([*lines, "</iscsi-target-iqns>", ""])


def _units(hosts: set[int]) -> dict[str, Path]:
    """A path to each unit behind SCSI hosts, by SCSI id."""
    return {path.scsi_id: path for path in scsi.paths() if path.host in hosts}


def _units_document(units: dict[str, Path]) -> str:
    lines = ["<?xml version='1.0' ?>", "<iscsi-target>"]
    for unit in units.values():
        fields = {
            "vendor": unit.vendor,
            "serial": unit.serial,
            "LUNid": unit.lun,
            "size": unit.size,
            "SCSIid": unit.scsi_id,
        }
        lines += scsi.element("LUN", fields)
    return "\n".join([*lines, "</iscsi-target>", ""])
