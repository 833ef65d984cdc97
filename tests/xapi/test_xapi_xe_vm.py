"""`xe` for VMs, their disks and snapshots, hosts, networks and messages."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator

import pytest

from xapi.testing import CAPABILITIES, Fault, Rig, Xe, serve

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    types = {"mem": (*CAPABILITIES, "VDI_REVERT"), "old": CAPABILITIES}
    with serve(tmp_path_factory.mktemp("xe"), types) as rig:
        yield rig


@pytest.fixture
def xe(server: Rig) -> Xe:
    return Xe(server)


@pytest.fixture
def sr(xe: Xe) -> str:
    sr = xe.ok("sr-create", "name-label=an SR", "type=mem", "device-config:device=/dev/x")
    pool = xe.ok("pool-list", "--minimal")
    xe.ok("pool-param-set", f"uuid={pool}", f"default-SR={sr}", f"suspend-image-SR={sr}")
    return sr


@pytest.fixture
def vm(xe: Xe, sr: str) -> str:
    """A VM with a disk of 1 MiB on an SR that can revert."""
    vm = xe.ok("vm-create", "name-label=web")
    assert UUID.fullmatch(vm)
    assert UUID.fullmatch(xe.ok("vm-disk-add", "vm=web", "disk-size=1MiB", "device=0"))
    return vm


def disk(xe: Xe, vm: str, command: str = "vm-disk-list") -> str:
    """How the test harness of the field asks for a VM's disks."""
    return xe.ok(command, f"uuid={vm}", "vbd-params=", "--minimal")


def state(xe: Xe, vm: str) -> str:
    return xe.ok("vm-param-get", f"uuid={vm}", "param-name=power-state")


# -- life cycle


def test_power(xe: Xe, vm: str) -> None:
    for command, after in (
        ("vm-start", "running"),
        ("vm-pause", "paused"),
        ("vm-unpause", "running"),
        ("vm-reboot", "running"),
        ("vm-suspend", "suspended"),
        ("vm-resume", "running"),
        ("vm-shutdown", "halted"),
    ):
        assert xe.ok(command, "vm=web") == ""
        assert state(xe, vm) == after
    host = xe.ok("host-list", "params=name-label", "--minimal")
    xe.ok("vm-start", f"uuid={vm}", f"on={host}", "paused=true")
    assert state(xe, vm) == "paused"
    xe.ok("vm-shutdown", f"uuid={vm}", "--force")
    assert state(xe, vm) == "halted"
    assert xe.ok("vm-list", "power-state=halted", "--minimal") == vm


def test_which_vms(xe: Xe, vm: str) -> None:
    ended = xe("vm-start", "vm=mail")
    assert (ended.status, ended.stdout, ended.stderr) == (1, "", "Error: No matching VMs found\n")
    other = xe.ok("vm-create", "name-label=mail", "other-config:role=front")
    ended = xe("vm-start", "power-state=halted")
    assert ended.status == 1
    assert "--multiple" in ended.stderr
    xe.ok("vm-start", "power-state=halted", "--multiple")
    assert {state(xe, vm), state(xe, other)} == {"running"}
    xe.ok("vm-shutdown", "other-config:role=front")
    assert (state(xe, vm), state(xe, other)) == ("running", "halted")
    assert xe("vm-start", "colour=red").stderr.startswith("Unknown field colour of VM\n")
    ended = xe("vm-start", "vm=web", "on=no-such-host")
    assert ended.stderr == "Error: no objects of class host are called no-such-host\n"


# -- disks


def test_disk_lists(xe: Xe, sr: str, vm: str) -> None:
    second = xe.ok("vm-disk-add", "vm=web", "disk-size=2MiB", "device=autodetect", f"sr-uuid={sr}")
    assert disk(xe, vm).split(",")[1] == second
    vbds = xe.ok("vbd-list", f"vm-uuid={vm}", "--minimal").split(",")
    mixed = xe.ok("vm-disk-list", "vm=web", "--minimal").split(",")
    assert set(mixed[::2]) == set(vbds)
    text = xe.ok("vm-disk-list", "vm=web", "vbd-params=userdevice", "vdi-params=virtual-size")
    assert text == (
        "Disk 0 VBD:\nuserdevice ( RW): 0\n\n\n"
        "Disk 0 VDI:\nvirtual-size ( RO): 1048576\n\n\n"
        "Disk 1 VBD:\nuserdevice ( RW): 1\n\n\n"
        "Disk 1 VDI:\nvirtual-size ( RO): 2097152"
    )
    xe.ok("vm-start", "vm=web")
    xe.ok("vm-disk-remove", "vm=web", "device=1")
    assert second not in xe.ok("vdi-list", "--minimal")
    assert xe("vm-disk-remove", "vm=web", "device=1").stderr == "Error: The VM has no disk 1\n"


def test_a_disk_that_cannot_be_connected_is_not_left_behind(xe: Xe, vm: str) -> None:
    before = xe.ok("vdi-list", "--minimal")
    ended = xe("vm-disk-add", "vm=web", "disk-size=1MiB", "device=0")
    assert ended.stderr.startswith("The VM has a device of that number already.\ndevice: 0\n")
    assert xe.ok("vdi-list", "--minimal") == before


def test_a_disk_needs_an_sr(xe: Xe) -> None:
    xe.ok("vm-create", "name-label=web")
    ended = xe("vm-disk-add", "vm=web", "disk-size=1MiB", "device=0")
    assert ended.stderr == "Error: The pool has no default SR: name one with sr-uuid\n"


def test_cds(xe: Xe, sr: str, vm: str) -> None:
    xe.ok("vdi-create", f"sr-uuid={sr}", "name-label=tools.iso", "virtual-size=1MiB")
    xe.ok("vm-cd-add", "vm=web", "cd-name=tools.iso", "device=3")
    assert "tools.iso" in xe.ok("vm-cd-list", "vm=web", "vbd-params=")
    xe.ok("vm-start", "vm=web")
    xe.ok("vm-cd-eject", "vm=web")
    assert "no CD drive with a CD" in xe("vm-cd-eject", "vm=web").stderr
    xe.ok("vm-cd-insert", "vm=web", "cd-name=tools.iso")
    xe.ok("vm-shutdown", "vm=web")
    xe.ok("vm-cd-remove", "vm=web", "cd-name=tools.iso")
    assert xe.ok("vm-cd-list", "vm=web") == ""


# -- snapshots


def test_snapshot_revert(xe: Xe, server: Rig, vm: str) -> None:
    xe.ok("vm-start", "vm=web")
    snapshot = xe.ok("vm-snapshot", "vm=web", "new-name-label=before", "new-name-description=why")
    assert xe.ok("snapshot-list", f"snapshot-of={vm}", "--minimal") == snapshot
    assert xe.ok("snapshot-param-get", f"uuid={snapshot}", "param-name=name-description") == "why"
    assert snapshot not in xe.ok("vm-list", "--minimal")
    live = disk(xe, vm)
    frozen = disk(xe, snapshot, "snapshot-disk-list")
    assert xe.ok("vdi-param-get", f"uuid={frozen}", "param-name=snapshot-of") == live
    xe.ok("vm-param-set", f"uuid={vm}", "name-description=after")
    assert xe.ok("snapshot-revert", f"snapshot-uuid={snapshot}") == ""
    assert (state(xe, vm), disk(xe, vm)) == ("halted", live)
    assert xe.ok("vm-param-get", f"uuid={vm}", "param-name=name-description") == ""


def test_a_revert_that_fails(xe: Xe, server: Rig, vm: str) -> None:
    snapshot = xe.ok("vm-snapshot", "vm=web", "new-name-label=before")
    live = disk(xe, vm)
    server.host.faults["vdi_revert"] = Fault(90, "no way back")
    ended = xe("snapshot-revert", f"uuid={snapshot}")
    assert ended.status == 1
    said = ended.stderr.splitlines()
    assert said[1:3] == [f"snapshot: {snapshot} (before)", f"vm: {vm} (web)"]
    assert disk(xe, vm) == live


def test_revert_to_what_is_no_snapshot(xe: Xe, vm: str) -> None:
    ended = xe("snapshot-revert", f"uuid={vm}")
    assert (ended.status, ended.stderr) == (1, f"Error: the VM {vm} is not a snapshot\n")
    assert xe("snapshot-revert").stderr.startswith("Required parameter not found: uuid\n")
    ended = xe("snapshot-revert", "uuid=none")
    assert ended.stderr == "No object of that class has the uuid.\ntype: VM\nuuid: none\n"


def test_copies(xe: Xe, sr: str, vm: str) -> None:
    clone = xe.ok("vm-clone", "vm=web", "new-name-label=twin", "new-name-description=of web")
    copy = xe.ok("vm-copy", "vm=web", "new-name-label=copy", f"sr-uuid={sr}")
    snapshot = xe.ok("vm-snapshot", "vm=web", "new-name-label=s")
    again = xe.ok("snapshot-clone", f"uuid={snapshot}", "new-name-label=again")
    copied = xe.ok("snapshot-copy", f"uuid={snapshot}", "new-name-label=copied")
    assert xe.ok("template-list", "--minimal") == f"{again},{copied}"
    fresh = xe.ok("vm-install", "template=again", "new-name-label=fresh")
    assert len({disk(xe, each) for each in (vm, clone, copy, fresh)}) == 4
    for template in (again, copied):
        xe.ok("template-uninstall", f"template-uuid={template}", "--force")
    for each in (clone, copy, fresh):
        xe.ok("vm-uninstall", f"uuid={each}", "--force")
    assert len(xe.ok("vdi-list", "--minimal").split(",")) == 2


def test_a_checkpoint(xe: Xe, vm: str) -> None:
    xe.ok("vm-start", "vm=web")
    checkpoint = xe.ok("vm-checkpoint", "vm=web", "new-name-label=asleep")
    power = ("snapshot-param-get", f"uuid={checkpoint}", "param-name=power-state")
    assert xe.ok(*power) == "suspended"
    xe.ok("snapshot-reset-powerstate", f"uuid={checkpoint}")
    assert xe.ok(*power) == "halted"


def test_a_snapshot_without_a_disk(xe: Xe, vm: str) -> None:
    ignored = f"ignore-vdi-uuids={disk(xe, vm)}"
    snapshot = xe.ok("vm-snapshot", "vm=web", "new-name-label=s", ignored)
    assert disk(xe, snapshot, "snapshot-disk-list") == ""
    xe.ok("snapshot-destroy", f"uuid={snapshot}")
    assert xe.ok("snapshot-list", "--minimal") == ""


def test_uninstalling_a_suspended_vm(xe: Xe, vm: str) -> None:
    """The memory image goes with the shutdown, and is not missed after that."""
    xe.ok("vm-start", "vm=web")
    xe.ok("vm-suspend", "vm=web")
    assert len(xe.ok("vdi-list", "--minimal").split(",")) == 2
    xe.ok("vm-uninstall", "vm=web", "--force")
    assert xe.ok("vdi-list", "--minimal") == ""


def test_uninstalling_a_vm_with_one_disk_twice(xe: Xe, vm: str) -> None:
    other = ("vm-uuid=" + vm, "vdi-uuid=" + disk(xe, vm), "device=1", "mode=RO")
    xe.ok("vbd-create", *other)
    ended = xe("vm-uninstall", "vm=web", "--force")
    assert (ended.status, ended.stderr) == (0, "")
    assert xe.ok("vdi-list", "--minimal") == ""


def test_uninstalling_asks_first(xe: Xe, vm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = xe.ok("vm-snapshot", "vm=web", "new-name-label=s")
    frozen = disk(xe, snapshot, "snapshot-disk-list")
    monkeypatch.setattr("sys.stdin", io.StringIO("no\n"))
    ended = xe("snapshot-uninstall", f"uuid={snapshot}")
    assert (ended.status, ended.stderr) == (1, "Nothing was destroyed\n")
    assert f"VDI: {frozen} (" in ended.stdout
    monkeypatch.setattr("sys.stdin", io.StringIO("yes\n"))
    assert xe("snapshot-uninstall", f"uuid={snapshot}").status == 0
    assert frozen not in xe.ok("vdi-list", "--minimal")
    xe.ok("vm-start", "vm=web")
    xe.ok("vm-uninstall", "vm=web", "--force")
    assert xe.ok("vdi-list", "--minimal") == ""


def test_templates(xe: Xe, sr: str) -> None:
    disks = f'<provision><disk device="0" size="1048576" sr="{sr}"/></provision>'
    template = xe.ok("vm-create", "name-label=small", f"other-config:disks={disks}")
    xe.ok("vm-param-set", f"uuid={template}", "is-a-template=true")
    assert xe.ok("template-list", "name-label=small", "--minimal") == template
    assert template not in xe.ok("vm-list", "--minimal")
    vm = xe.ok("vm-install", "template=small", "new-name-label=fresh")
    assert UUID.fullmatch(disk(xe, vm))


# -- the rest


def test_plugins(xe: Xe) -> None:
    host = xe.ok("host-list", "--minimal")
    ended = xe("host-call-plugin", f"host-uuid={host}", "plugin=none", "fn=f", "args:a=b")
    assert ended.stderr == "The host has no such plugin.\nplugin: none\n"


def test_networks(xe: Xe, vm: str) -> None:
    network = xe.ok("network-create", "name-label=inside", "other-config:a=b")
    vif = xe.ok("vif-create", f"vm-uuid={vm}", f"network-uuid={network}", "device=0")
    assert xe.ok("vif-list", f"vm-uuid={vm}", "params=network-name-label", "--minimal") == "inside"
    assert xe.ok("network-param-get", f"uuid={network}", "param-name=VIF-uuids") == vif
    xe.ok("vif-destroy", f"uuid={vif}")
    xe.ok("network-destroy", f"uuid={network}")
    assert xe.ok("pif-list", "management=true", "params=device", "--minimal") == "eth0"


def test_secrets(xe: Xe) -> None:
    secret = xe.ok("secret-create", "value=open sesame")
    assert xe.ok("secret-param-get", f"uuid={secret}", "param-name=value") == "open sesame"
    xe.ok("secret-destroy", f"uuid={secret}")
    assert xe.ok("secret-list", "--minimal") == ""


def test_messages(xe: Xe, vm: str) -> None:
    made = [
        xe.ok("message-create", "name=n", "body=b", "priority=3", f"vm-uuid={vm}") for _ in range(3)
    ]
    assert xe.ok("message-list", f"obj-uuid={vm}", "cls=VM", "--minimal") == ",".join(made)
    xe.ok("message-destroy", f"uuid={made[0]}")
    xe.ok("message-destroy", f"uuids={made[1]},{made[2]}")
    assert xe.ok("message-list", "--minimal") == ""
    assert "one object" in xe("message-create", "name=n", "body=b", "priority=3").stderr


def test_changed_blocks(xe: Xe, sr: str) -> None:
    vdi = xe.ok("vdi-create", f"sr-uuid={sr}", "name-label=d", "virtual-size=1MiB")
    ended = xe("vdi-enable-cbt", f"uuid={vdi}")
    assert (ended.status, ended.stderr.splitlines()[0]) == (
        1,
        "The SR's driver cannot do this.",
    )


def test_introducing_a_disk_where_the_driver_cannot(xe: Xe, sr: str) -> None:
    """All that the command says is understood; then it is for the driver."""
    what = ("uuid=3e4f6e6c-0c5e-4c5c-8f0c-1a9f8d2b7c11", "type=user", "location=there")
    ended = xe("vdi-introduce", f"sr-uuid={sr}", *what, "sm-config:a=b", "managed=false")
    assert (ended.status, ended.stdout) == (1, "")
    assert ended.stderr == f"The SR's driver cannot do this.\nsr: {sr} (an SR)\n"
