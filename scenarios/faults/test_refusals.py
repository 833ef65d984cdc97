"""Bad input and wrong moments: the field's own code, and nothing has changed."""

import http.client
import urllib.parse
from typing import Any

import pytest
import XenAPI

from scenarios.oracle import BLOCK, Content, MiB, Model, awkward_spans, one_sector
from scenarios.storage import VDI, Repository
from testbed.devices.disk import TiB
from testbed.devices.nfs import Export
from testbed.provision import provision, retire


def refused(call: Any, *arguments: Any) -> list[str]:
    """The ErrorDescription of a call that must fail."""
    with pytest.raises(XenAPI.Failure) as caught:
        call(*arguments)
    return list(caught.value.details)


def everything(sr: Repository) -> dict[str, Any]:
    """All that XenAPI knows of the SR and its VDIs, and all that is stored."""
    records = {ref: sr.api.VDI.get_record(ref) for ref in sr.vdis()}
    return {"sr": sr.api.SR.get_record(sr.ref), "vdis": records, "stored": sr.stored()}


def test_revert_of_a_disk_that_is_no_snapshot(sr: Repository, vdi: VDI) -> None:
    """REVERT_ONLY_ALLOWED_ON_SNAPSHOT."""
    before = everything(sr)
    assert refused(sr.api.VDI.revert, vdi.ref) == ["REVERT_ONLY_ALLOWED_ON_SNAPSHOT"]
    assert everything(sr) == before


def test_revert_while_the_disk_is_attached(sr: Repository, vdi: VDI) -> None:
    """VDI_IN_USE, for a read-only attachment too, and the disk keeps its content."""
    snapshot = vdi.snapshot()
    model = Model(vdi.size)
    model.write(one_sector("kept", 0))
    vdi.write(one_sector("kept", 0))
    for mode in ("RW", "RO"):
        with vdi.plugged(mode) as device:
            answer = refused(sr.api.VDI.revert, snapshot.ref)
            assert answer == ["VDI_IN_USE", vdi.ref, "revert_from"]
            assert Content(*sr.host.digest(device)) == model.content()


def test_revert_while_the_snapshot_is_attached(vdi: VDI) -> None:
    """That is allowed: a checkpoint's snapshots are."""
    snapshot = vdi.snapshot()
    vdi.write(awkward_spans("lost", vdi.size))
    with snapshot.plugged("RO"):
        snapshot.revert_live_disk()
    vdi.must_hold(Model(vdi.size))


def test_unknown_references(sr: Repository) -> None:
    """HANDLE_INVALID with class and reference; UUID_INVALID for a uuid."""
    nowhere = "OpaqueRef:00000000-0000-4000-8000-000000000000"
    uuid = nowhere.removeprefix("OpaqueRef:")
    assert refused(sr.api.VDI.revert, nowhere) == ["HANDLE_INVALID", "VDI", nowhere]
    assert refused(sr.api.VDI.get_by_uuid, uuid) == ["UUID_INVALID", "VDI", uuid]


def test_wrong_number_of_arguments(sr: Repository, vdi: VDI) -> None:
    """MESSAGE_PARAMETER_COUNT_MISMATCH; the session is not counted."""
    code, method, expected, received = refused(sr.api.VDI.get_uuid, vdi.ref, "surplus")
    assert code == "MESSAGE_PARAMETER_COUNT_MISMATCH"
    assert (method, expected, received) == ("VDI.get_uuid", "1", "2")


@pytest.mark.parametrize("size", [3 * TiB, 2041 << 30])
def test_size_out_of_range(sr: Repository, size: int) -> None:
    """SR_BACKEND_FAILURE_79: a VHD ends at 2040 GiB."""
    before = everything(sr)
    code, _, text, *_ = refused(sr.create, size)
    assert code == "SR_BACKEND_FAILURE_79"
    assert text.startswith("VDI Invalid size")
    assert everything(sr) == before


def test_shrinking(sr: Repository, vdi: VDI) -> None:
    """SR_BACKEND_FAILURE_79: a disk cannot become smaller."""
    before = everything(sr)
    assert refused(vdi.resize, vdi.size - BLOCK)[0] == "SR_BACKEND_FAILURE_79"
    assert everything(sr) == before


def test_unknown_sr_type(sr: Repository) -> None:
    """SR_UNKNOWN_DRIVER, and no half-made SR."""
    srs = set(sr.api.SR.get_all())
    api = sr.api
    this_host = api.session.get_this_host(sr.session.handle)
    answer = refused(api.SR.create, this_host, {}, "0", "x", "", "no-such-type", "user", False, {})
    assert answer == ["SR_UNKNOWN_DRIVER", "no-such-type"]
    assert set(api.SR.get_all()) == srs


def test_missing_device(sr: Repository) -> None:
    """The field's code for the parameter that is missing, and no half-made SR."""
    codes = {
        "file": "94",
        "ext": "90",
        "lvhd": "90",
        "nfs": "102",
        "lvhdohba": "107",
        "lvhdoiscsi": "95",
    }
    expected = codes[sr.api.SR.get_type(sr.ref)]
    srs, pbds = set(sr.api.SR.get_all()), set(sr.api.PBD.get_all())
    api = sr.api
    this_host = api.session.get_this_host(sr.session.handle)
    driver = api.SR.get_type(sr.ref)
    code, _, text, *_ = refused(
        api.SR.create, this_host, {}, "0", "x", "", driver, "user", False, {}
    )
    assert code == f"SR_BACKEND_FAILURE_{expected}"
    assert "missing" in text
    assert (set(api.SR.get_all()), set(api.PBD.get_all())) == (srs, pbds)


def test_device_that_does_not_exist(sr: Repository) -> None:
    """SR_BACKEND_FAILURE_19, also for what is no block device."""
    driver = sr.api.SR.get_type(sr.ref)
    if "device" not in sr.api.PBD.get_device_config(sr.api.SR.get_PBDs(sr.ref)[0]):
        pytest.skip("the SR stands on no device")
    this_host = sr.api.session.get_this_host(sr.session.handle)
    srs = set(sr.api.SR.get_all())
    for device in ("/dev/nowhere", "/run"):
        config = {"device": device}
        refusal = refused(
            sr.api.SR.create, this_host, config, "0", "x", "", driver, "user", False, {}
        )
        assert refusal[0] == "SR_BACKEND_FAILURE_19"
    assert set(sr.api.SR.get_all()) == srs


def test_device_in_use(sr: Repository) -> None:
    """A disk that carries an SR cannot be given to another one."""
    if isinstance(sr.provisioned.medium, (str, Export)):
        pytest.skip("a file SR stands on a directory; two may share a file system")
    before = everything(sr)
    api = sr.api
    this_host = api.session.get_this_host(sr.session.handle)
    config = sr.provisioned.device_config
    driver = api.SR.get_type(sr.ref)
    code = refused(api.SR.create, this_host, config, "0", "x", "", driver, "user", False, {})[0]
    assert code == "SR_DEVICE_IN_USE"
    assert everything(sr) == before


def test_full_sr(sr: Repository) -> None:
    """SR_BACKEND_FAILURE_44: the disk keeps what it holds, and reverts once there is room."""
    small = provision(sr.host, sr.session, sr.kind, size=160 * MiB, label="small")
    tight = Repository(sr.host, sr.session, small)
    disk = tight.create(5 * BLOCK)
    disk.write(one_sector("wanted", BLOCK))
    snapshot = disk.snapshot()
    disk.write(one_sector("kept while there is no room", BLOCK))
    content = disk.content()
    make_room = tight.fill()

    assert refused(tight.api.VDI.revert, snapshot.ref)[0] == "SR_BACKEND_FAILURE_44"
    assert refused(tight.create, 5 * BLOCK)[0] == "SR_BACKEND_FAILURE_44"
    assert disk.content() == content

    make_room()
    snapshot.revert_live_disk()
    assert disk.content() == snapshot.content()
    tight.clear()
    retire(sr.host, sr.session, small)


def test_garbled_request(sr: Repository) -> None:
    """HTTP 500 for what is no XML-RPC; the server goes on."""
    url = urllib.parse.urlsplit(sr.host.xapi.url)
    for body in (b"<methodCall><methodName>VDI.revert", b"\xff\xfe garbage", b""):
        connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=10)
        connection.request("POST", "/", body, {"Content-Type": "text/xml"})
        response = connection.getresponse()
        text = response.read().decode()
        connection.close()
        assert response.status == 500
        assert "Traceback" not in text
    assert sr.api.SR.get_uuid(sr.ref) == sr.uuid
