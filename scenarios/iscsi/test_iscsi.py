"""SRs on LUNs of iSCSI targets: found, logged in to, shared, dropped, and grown."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from xmlrpc.client import Fault, loads

import pytest

from scenarios.background import PATIENCE
from scenarios.luns import (
    Maker,
    pbd_of,
    plug,
    refused,
    snapshot_to_go_back_to,
    text,
    unplug,
    working_paths,
)
from scenarios.oracle import BLOCK, Model, awkward_spans
from scenarios.plugin import footprint
from scenarios.storage import Repository
from srs.paths import NBD_SOCKETS
from testbed.devices.disk import GiB
from testbed.devices.iscsi import Chap, Target
from testbed.host import Host
from testbed.provision import name_initiator

MakeTarget = Callable[..., Target]

_ME = Chap("initiator", "a secret of mine")
_IT = Chap("target", "a secret of its own")
#: Portals on loopback that a route can lead astray, other than 127.0.0.1.
_ELSEWHERE = ("127.0.0.2", "127.0.0.3")


@pytest.fixture
def maker(host: Host, xenapi: Any) -> Maker:
    """Makes SRs of kind lvhdoiscsi."""
    name_initiator(host, xenapi)
    return Maker("lvhdoiscsi", host, xenapi)


@pytest.fixture
def make_target(host: Host, maker: Maker) -> Iterator[MakeTarget]:
    """Makes targets; afterwards they are gone, with all sessions and disks."""
    made: list[Target] = []
    before: set[tuple[str, ...]] = set()

    def make(**options: Any) -> Target:
        made.append(Target(host, name=f"scenario-{len(made)}", **options))
        before.update(footprint(host) if not before else ())
        return made[-1]

    try:
        yield make
    finally:
        for target in made:
            target.remove()
    assert footprint(host) <= before


def sessions(host: Host, target: Target) -> list[str]:
    """Portals of a target that the host is logged in to."""
    found = (entry.partition(" ") for entry in host.census()["sessions"])
    return [portal for iqn, _, portal in found if iqn == target.iqn]


def chap(me: Chap | None, it: Chap | None = None) -> dict[str, str]:
    """device_config for CHAP."""
    config = {} if me is None else {"chapuser": me.user, "chappassword": me.secret}
    if it is not None:
        config |= {"incoming_chapuser": it.user, "incoming_chappassword": it.secret}
    return config


def test_probe(host: Host, maker: Maker, make_target: MakeTarget) -> None:
    """96 with the targets, 107 with the LUNs, then the SRs; and no session is left."""
    target = make_target(portals=("127.0.0.1", "127.0.0.2"))
    luns = [target.add_lun(GiB), target.add_lun(2 * GiB)]
    everything = target.device_config(luns[0])

    for config in ({}, {"targetIQN": "iqn.2026-01.org.sr-testbed:nobody"}):
        code, found = maker.probe_further({"target": everything["target"], **config})
        assert code == "SR_BACKEND_FAILURE_96"
        ours = [entry for entry in found if text(entry, "TargetIQN") == target.iqn]
        assert {text(entry, "IPAddress") for entry in ours} == set(target.portals)
        assert {text(entry, "Port") for entry in ours} == {"3260"}

    wanted = {key: everything[key] for key in ("target", "targetIQN")}
    code, found = maker.probe_further(wanted)
    assert code == "SR_BACKEND_FAILURE_107"
    units = {text(unit, "SCSIid"): unit for unit in found}
    assert set(units) == {lun.scsi_id for lun in luns}
    for lun in luns:
        unit = units[lun.scsi_id]
        assert text(unit, "LUNid") == str(lun.number)
        assert text(unit, "serial") == lun.serial
        assert text(unit, "size") == str(lun.disk.size)
        assert text(unit, "vendor") == lun.vendor

    assert not list(maker.probe(everything))
    with maker.repository(luns[0], everything) as sr:
        (entry,) = maker.probe(everything)
        assert text(entry, "UUID") == sr.uuid
        assert len(sessions(host, target)) == 1
        unplug(sr)
        (entry,) = maker.probe(everything)
        assert sessions(host, target) == []
        plug(sr)


_UNREACHABLE = {
    "no target": ("95", {}),
    "no port": ("142", {"target": "127.0.0.1", "port": "many"}),
    "too large a port": ("142", {"target": "127.0.0.1", "port": "65536"}),
    "nobody listens": ("141", {"target": "127.0.0.1", "port": "3259"}),
    "unknown name": ("140", {"target": "nobody.invalid"}),
}


@pytest.mark.parametrize("case", _UNREACHABLE)
def test_a_target_that_cannot_be_asked(maker: Maker, case: str) -> None:
    """Each has a code of its own."""
    code, config = _UNREACHABLE[case]
    assert refused(maker.probe, config)[0] == f"SR_BACKEND_FAILURE_{code}"


def test_a_host_without_a_name(maker: Maker, make_target: MakeTarget) -> None:
    """97; a device_config may bring a name of its own, but not while another is in use: 70."""
    target = make_target()
    lun, other = target.add_lun(GiB), target.add_lun(GiB)
    api = maker.session.xenapi
    this_host = api.session.get_this_host(maker.session.handle)
    name = api.host.get_other_config(this_host)["iscsi_iqn"]
    config = target.device_config(lun)
    api.host.remove_from_other_config(this_host, "iscsi_iqn")
    try:
        assert refused(maker.create, config)[0] == "SR_BACKEND_FAILURE_97"
        with maker.repository(lun, {**config, "localIQN": "iqn.2026-01.org.sr-testbed:me"}):
            another = {**target.device_config(other), "localIQN": name}
            assert refused(maker.create, another)[0] == "SR_BACKEND_FAILURE_70"
    finally:
        api.host.add_to_other_config(this_host, "iscsi_iqn", name)


#: Whom the target wants to see and who it is; whom the host says it is and wants to see.
_CHAP = {
    "right": ((_ME, None), (_ME, None)),
    "both right": ((_ME, _IT), (_ME, _IT)),
    "wrong secret": ((_ME, None), (Chap(_ME.user, "another secret"), None)),
    "wrong name": ((_ME, None), (Chap("nobody", _ME.secret), None)),
    "missing": ((_ME, None), (None, None)),
    "wrong target": ((_ME, _IT), (_ME, Chap(_IT.user, "another secret"))),
}


@pytest.mark.parametrize("case", _CHAP)
def test_chap(host: Host, maker: Maker, make_target: MakeTarget, case: str) -> None:
    """68 where the secrets differ, and nothing is left; no secret in the error."""
    asked, given = _CHAP[case]
    target = make_target(chap=asked[0], mutual=asked[1])
    lun = target.add_lun(GiB)
    config = {**target.device_config(lun), **chap(*given)}
    if asked == given:
        with maker.repository(lun, config):
            assert len(sessions(host, target)) == 1
        return
    srs = set(maker.session.xenapi.SR.get_all())
    answer = refused(maker.create, config)
    assert answer[0] == "SR_BACKEND_FAILURE_68"
    assert not any(one is not None and one.secret in str(answer) for one in given)
    assert sessions(host, target) == []
    assert set(maker.session.xenapi.SR.get_all()) == srs


def test_passwords_are_secrets_of_the_toolstack(
    host: Host, maker: Maker, make_target: MakeTarget
) -> None:
    """No device_config tells them; without the secret it is 20."""
    target = make_target(chap=_ME, mutual=_IT)
    lun, api = target.add_lun(GiB), maker.session.xenapi
    config = {**target.device_config(lun), **chap(_ME, _IT)}
    secrets = []
    for key in ("chappassword", "incoming_chappassword"):
        secrets.append(api.secret.create({"value": config.pop(key), "other_config": {}}))
        config[f"{key}_secret"] = api.secret.get_uuid(secrets[-1])
    with maker.repository(lun, config) as sr:
        disk = sr.create(4 * BLOCK)
        document = api.VDI.generate_config(
            api.session.get_this_host(maker.session.handle), disk.ref
        )
        assert _ME.secret in document
        assert "_secret" not in document
        unplug(sr)
        value = api.secret.get_value(secrets[0])
        api.secret.destroy(secrets.pop(0))
        assert refused(plug, sr)[0] == "SR_BACKEND_FAILURE_20"
        secrets.append(api.secret.create({"value": value, "other_config": {}}))
        config["chappassword_secret"] = api.secret.get_uuid(secrets[-1])
        api.PBD.set_device_config(pbd_of(sr), config)
        plug(sr)
        assert len(sessions(host, target)) == 1
    for secret in secrets:
        api.secret.destroy(secret)


def test_two_srs_share_a_session(host: Host, maker: Maker, make_target: MakeTarget) -> None:
    """It ends with the last of them."""
    target = make_target()
    first, second = target.add_lun(GiB), target.add_lun(GiB)
    with maker.repository(first, target.device_config(first)) as one:
        with maker.repository(second, target.device_config(second)) as other:
            assert len(sessions(host, target)) == 1
            unplug(one)
            assert len(sessions(host, target)) == 1
            other.create(BLOCK)
            plug(one)
        assert len(sessions(host, target)) == 1
        users = host.kernel.run(["cat", f"/run/sr-ref/{target.iqn}"]).stdout.split()
        assert users == [one.uuid]
    assert sessions(host, target) == []
    assert host.census("/run/sr-ref")["files"] == []


def test_all_portals(host: Host, maker: Maker, make_target: MakeTarget) -> None:
    """A session for each, one device for all; the PBD notes where, and attaches there again."""
    target = make_target(portals=("127.0.0.1", "127.0.0.2"))
    lun = target.add_lun(GiB)
    config = {**target.device_config(lun), "targetIQN": "*", "multipathing": "true"}
    with maker.repository(lun, config) as sr:
        for _ in ("created", "plugged again"):
            assert len(sessions(host, target)) == 2
            assert len(host.kernel.call("unit", scsi_id=lun.scsi_id)) == 2
            noted = sr.api.PBD.get_device_config(pbd_of(sr))["multiSession"]
            for portal in target.portals:
                assert f"{portal},3260,{target.iqn}|" in noted
            assert sr.api.PBD.get_other_config(pbd_of(sr))["iscsi_sessions"] == "2"
            disk = sr.create(4 * BLOCK)
            snapshot, model = snapshot_to_go_back_to(disk)
            snapshot.revert_live_disk()
            disk.must_hold(model)
            unplug(sr)
            host.kernel.run(["rm", "-r", "/etc/iscsi/nodes"])  # as after a power cut
            plug(sr)


def test_a_portal_is_down_when_the_sr_is_plugged_in(
    host: Host, maker: Maker, make_target: MakeTarget
) -> None:
    """The other one does. A plug later both are used again."""
    target = make_target(portals=_ELSEWHERE)
    lun = target.add_lun(GiB)
    config = {**target.device_config(lun), "targetIQN": "*", "multipathing": "true"}
    with maker.repository(lun, config) as sr:
        disk = sr.create(4 * BLOCK)
        for portal in target.portals:
            unplug(sr)
            with unreachable(host, portal):
                plug(sr)
                assert len(sessions(host, target)) == working_paths(host, lun) == 1
                snapshot, model = snapshot_to_go_back_to(disk)
                snapshot.revert_live_disk()
                disk.must_hold(model)
            unplug(sr)
            plug(sr)
            assert len(sessions(host, target)) == working_paths(host, lun) == 2


def test_a_session_breaks_while_a_disk_is_reverted(
    host: Host, maker: Maker, make_target: MakeTarget
) -> None:
    """For two seconds: requests wait for it, and the revert is done."""
    target = make_target()
    lun = target.add_lun(GiB)
    with maker.repository(lun, target.device_config(lun)) as sr:
        disk = sr.create(4 * BLOCK)
        snapshot, model = snapshot_to_go_back_to(disk)
        back = threading.Timer(2, target.start)
        with host.fist("LVM_revert_create_dest", action="sleep 0.1") as fist:
            reverting = threading.Thread(target=snapshot.revert_live_disk)
            reverting.start()
            assert fist.wait(30)
            target.stop()
            back.start()
            reverting.join(60)
            assert not reverting.is_alive()
        back.join()
        disk.must_hold(model)
        snapshot.revert_live_disk()
        disk.must_hold(model)


def test_a_lun_that_is_missing(maker: Maker, make_target: MakeTarget) -> None:
    """47, and it comes back with the LUN."""
    target = make_target()
    lun = target.add_lun(GiB)
    with maker.repository(lun, target.device_config(lun)) as sr:
        unplug(sr)
        target.unplug_lun(lun)
        assert refused(plug, sr)[0] == "SR_BACKEND_FAILURE_47"
        target.plug_lun(lun)
        plug(sr)


def test_a_lun_that_grew(maker: Maker, make_target: MakeTarget) -> None:
    """A scan finds the room."""
    target = make_target()
    lun = target.add_lun(GiB, room=2 * GiB)
    with maker.repository(lun, target.device_config(lun)) as sr:
        before = size(sr)
        target.resize_lun(lun, 2 * GiB)
        sr.scan()
        assert size(sr) - before == GiB


def size(sr: Repository) -> int:
    """Bytes of the SR."""
    return int(sr.api.SR.get_physical_size(sr.ref))


def test_a_disk_is_attached_without_a_toolstack(
    host: Host, maker: Maker, make_target: MakeTarget
) -> None:
    """By the document that generate_config gave, before the SR is plugged in: HA's statefile.

    Where the data path does not start, nothing is left.
    """
    target = make_target(chap=_ME, mutual=_IT)
    lun = target.add_lun(GiB)
    with maker.repository(lun, {**target.device_config(lun), **chap(_ME, _IT)}) as sr:
        disk, image = sr.create(4 * BLOCK, type="raw"), sr.create(4 * BLOCK)
        this_host = sr.api.session.get_this_host(sr.session.handle)
        document = sr.api.VDI.generate_config(this_host, disk.ref)
        of_image = sr.api.VDI.generate_config(this_host, image.ref)
        unplug(sr)
        assert sessions(host, target) == []
        before = footprint(host)
        in_the_way = f"{NBD_SOCKETS}/{sr.uuid}/{image.uuid}"
        host.kernel.run(["mkdir", "-p", in_the_way])
        with pytest.raises(Fault, match="Is a directory"):
            carry_out(host, of_image)
        assert footprint(host) <= before
        host.kernel.run(["rmdir", in_the_way])
        brought = carry_out(host, of_image)
        active = footprint(host)
        assert carry_out(host, of_image) == brought
        assert footprint(host) == active
        carry_out(host, of_image.replace("attach_from_config", "detach_from_config"))
        assert footprint(host) <= before
        device = carry_out(host, document)["params"]
        host.write(device, (0, b"written by a host alone"))
        carry_out(host, document.replace("attach_from_config", "detach_from_config"))
        assert sessions(host, target) == []
        plug(sr)
        with disk.plugged("RO") as device:
            assert host.read(device, 0, 23) == b"written by a host alone"


def carry_out(host: Host, document: str) -> Any:
    """What the driver answers to a document."""
    return loads(host.sm_call("lvhdoiscsi", document).stdout)[0][0]


def test_a_path_is_cut_while_a_disk_is_written(
    host: Host, maker: Maker, make_target: MakeTarget
) -> None:
    """Writing goes on over the other one; a scan uses it again when it is back."""
    target = make_target(portals=_ELSEWHERE)
    lun = target.add_lun(GiB)
    config = {**target.device_config(lun), "targetIQN": "*", "multipathing": "true"}
    with maker.repository(lun, config) as sr:
        disk = sr.create(4 * BLOCK)
        model = Model(disk.size)
        with disk.plugged() as device:
            for portal in target.portals:
                spans = awkward_spans(f"without {portal}", disk.size)
                model.write(spans)
                with unreachable(host, portal):
                    host.write(device, *((span.offset, span.data) for span in spans))
                    assert working_paths(host, lun) == 1
                wait_for_sessions(host, target)
                sr.scan()
                assert working_paths(host, lun) == 2
        disk.must_hold(model)


@contextmanager
def unreachable(host: Host, address: str) -> Iterator[None]:
    """No packet reaches one of _ELSEWHERE meanwhile."""
    route = ["table", "local", "blackhole", f"{address}/32"]
    assert host.kernel.run(["ip", "route", "add", *route]).returncode == 0
    try:
        yield
    finally:
        host.kernel.run(["ip", "route", "del", *route])


def wait_for_sessions(host: Host, target: Target) -> None:
    """Until the host is logged in at every portal."""
    deadline = time.monotonic() + PATIENCE
    states = ["sh", "-c", "cat /sys/class/iscsi_session/*/state"]
    while host.kernel.run(states).stdout.split() != ["LOGGED_IN"] * len(target.portals):
        assert time.monotonic() < deadline, "the host does not log in again"
