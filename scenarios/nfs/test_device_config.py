"""What can be wrong in device_config, and what a probe tells."""

from typing import Any
from xml.etree import ElementTree

import pytest

from scenarios.nfs.filer import Filer, refused
from scenarios.oracle import BLOCK, Model, one_sector
from scenarios.storage import VDI, Repository


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"server": ""}, 102),
        ({"serverpath": ""}, 101),
        ({"server": "no-such-host.invalid"}, 140),
        ({"server": "192.0.2.1"}, 108),
        ({"serverpath": "/nowhere"}, 73),
        ({"serverpath": "/nowhere", "nfsversion": "4.2"}, 73),
        ({"nfsversion": "2"}, 72),
        ({"nfsversion": "4.3"}, 72),
        ({"nfsversion": "four"}, 72),
        ({"options": "no-such-option"}, 73),
    ],
)
def test_each_mistake_has_its_code(filer: Filer, changes: dict[str, str], code: int) -> None:
    """And leaves no half-made SR, here or on the server."""
    srs = set(filer.api.SR.get_all())
    assert refused(filer.create, filer.config(**changes))[0] == f"SR_BACKEND_FAILURE_{code}"
    assert set(filer.api.SR.get_all()) == srs
    assert filer.listed() == []


def test_without_a_path_the_exports_are_told(filer: Filer) -> None:
    """As XML, where a caller of the probe looks for it."""
    code, _, _, document = refused(lambda: filer.probe(serverpath=""))
    assert code == "SR_BACKEND_FAILURE_101"
    exports = {
        (export.findtext("Target"), export.findtext("Path"), export.findtext("Accesslist"))
        for export in ElementTree.fromstring(document).iter("Export")
    }
    assert (filer.export.server, filer.export.path, "*") in exports


def test_a_server_whose_rpcbind_hangs(filer: Filer) -> None:
    """Version 3 cannot do without it, nor can the list of exports; version 4 can."""
    rpcbind = filer.host.kernel.run(["pidof", "rpcbind"]).stdout.strip()
    filer.host.kernel.run(["sh", "-c", f"kill -STOP {rpcbind}"])
    try:
        assert refused(filer.create, filer.config())[0] == "SR_BACKEND_FAILURE_108"
        code, _, _, document = refused(lambda: filer.probe(serverpath=""))
        assert code == "SR_BACKEND_FAILURE_101"
        assert list(ElementTree.fromstring(document)) == []
        with filer.repository(nfsversion="4.2") as sr:
            sr.scan()
    finally:
        filer.host.kernel.run(["sh", "-c", f"kill -CONT {rpcbind}"])


def test_probe_finds_srs_and_versions(filer: Filer) -> None:
    """Directories whose name is a uuid; versions only when they are asked for."""
    assert ElementTree.fromstring(filer.probe()).tag == "SRlist"
    with filer.repository() as sr:
        filer.host.kernel.run(["mkdir", f"{filer.export.directory}/something else"])
        document = filer.probe()
        assert [node.text for node in ElementTree.fromstring(document).iter("UUID")] == [sr.uuid]
        assert "SupportedVersions" not in document
        document = filer.probe(probeversion="yes")
        versions = ElementTree.fromstring(document).iter("Version")
        assert [node.text for node in versions] == ["3", "4"]
        filer.host.kernel.run(["rmdir", f"{filer.export.directory}/something else"])


@pytest.mark.parametrize(
    ("nfsversion", "mounted"),
    [("", "3"), ("3", "3"), ("4", "4.2"), ("4.1", "4.1"), ("4.2", "4.2")],
)
def test_versions_and_options(filer: Filer, nfsversion: str, mounted: str) -> None:
    """The kernel mounts what was asked for; other_config changes it at the next plug."""
    with filer.repository(nfsversion=nfsversion, options="noatime,retry=1,nordirplus") as sr:
        options = filer.mount_options(sr)
        always = {"soft", "proto=tcp", f"vers={mounted}", "acdirmin=0", "acdirmax=0", "noatime"}
        assert always | {"timeo=200", "retrans=4"} <= options
        assert mounted != "3" or "nordirplus" in options
        filer.api.SR.set_other_config(sr.ref, {"nfs-timeout": "33", "nfs-retrans": "2"})
        filer.replug(sr)
        assert always | {"timeo=33", "retrans=2"} <= filer.mount_options(sr)
        filer.unplug(sr)
        filer.api.SR.set_other_config(sr.ref, {"nfs-timeout": "soon"})
        assert refused(filer.plug, sr)[0] == "SR_BACKEND_FAILURE_1"
        filer.api.SR.set_other_config(sr.ref, {})
        filer.plug(sr)


def test_subdirectory_or_not(filer: Filer) -> None:
    """An SR lives in a directory of its uuid, or in the export itself; both go with it."""
    with filer.repository() as sr:
        disk = sr.create(BLOCK)
        assert filer.listed() == [sr.uuid]
        assert f"{disk.uuid}.vhd" in filer.listed(sr.uuid)
    assert filer.listed() == []
    with filer.repository({"nosubdir": "true"}) as sr:
        disk = sr.create(BLOCK)
        assert f"{disk.uuid}.vhd" in filer.listed()
    assert filer.listed() == []


def test_an_sr_is_found_again(filer: Filer) -> None:
    """Forgotten, and introduced with its uuid, it has its disks."""
    with filer.repository() as sr:
        disk = sr.create(BLOCK)
        disk.write(one_sector("kept", 0))
        uuid, config = disk.uuid, filer.api.PBD.get_device_config(filer.pbd(sr))
        filer.unplug(sr)
        filer.api.SR.forget(sr.ref)
        sr.ref = introduce(filer, sr, config)
        filer.plug(sr)
        sr.scan()
        model = Model(BLOCK)
        model.write(one_sector("kept", 0))
        VDI(sr, filer.api.VDI.get_by_uuid(uuid)).must_hold(model)


def introduce(filer: Filer, sr: Repository, config: dict[str, Any]) -> str:
    """SR.introduce, and a PBD."""
    ref = filer.api.SR.introduce(sr.uuid, "found again", "", "nfs", "user", True, {})
    host = filer.api.session.get_this_host(filer.session.handle)
    filer.api.PBD.create({"host": host, "SR": ref, "device_config": config, "other_config": {}})
    return str(ref)


def test_whether_a_host_has_a_file_open(filer: Filer) -> None:
    """Plugin nfs-on-slave, as a master asks it before it coalesces."""
    this = filer.api.session.get_this_host(filer.session.handle)
    with filer.repository() as sr:
        disk = sr.create(BLOCK)
        path = {"path": f"/run/sr-mount/{sr.uuid}/{disk.uuid}.vhd"}
        with disk.plugged("RO"):
            code, _, kind, _ = refused(
                filer.api.host.call_plugin, this, "nfs-on-slave", "check", path
            )
            assert (code, kind) == ("XENAPI_PLUGIN_FAILURE", "VDIInUse")
        assert filer.api.host.call_plugin(this, "nfs-on-slave", "check", path) == "True"


def test_read_only_export(filer: Filer) -> None:
    """461 for a new SR, and for one that is there; nothing is left mounted."""
    with filer.repository() as sr:
        filer.unplug(sr)
        filer.host.export(filer.export.directory, read_only=True)
        assert refused(filer.plug, sr)[0] == "SR_BACKEND_FAILURE_461"
        assert refused(filer.create, filer.config())[0] == "SR_BACKEND_FAILURE_461"
        filer.host.export(filer.export.directory)
        filer.plug(sr)
