"""The drivers as executables, as a toolstack runs them."""

import subprocess
import xmlrpc.client
from pathlib import Path
from typing import Any

import pytest

from srs import registry

DRIVERS = Path(__file__).parents[2] / "srs" / "drivers"
NAMES = {
    "FileSR": "file",
    "EXTSR": "ext",
    "NFSSR": "nfs",
    "LVHDSR": "lvhd",
    "LVMSR": "lvm",
    "LVHDoHBASR": "lvhdohba",
    "LVMoHBASR": "lvmohba",
    "LVHDoISCSISR": "lvhdoiscsi",
    "LVMoISCSISR": "lvmoiscsi",
}


def run(driver: Path, *argv: str, root: Path) -> Any:
    """What the driver answers; the working directory and the environment must not matter."""
    done = subprocess.run(
        [driver, *argv],
        check=False,
        capture_output=True,
        text=True,
        cwd=root,
        env={"SRS_ROOT": str(root), "PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return xmlrpc.client.loads(done.stdout)[0][0]


def document(command: str, **members: Any) -> str:
    request = {"command": command, "args": [], "device_config": {}, "host_ref": "h", **members}
    return xmlrpc.client.dumps((request,), command)


@pytest.mark.parametrize("name", NAMES)
def test_driver_info(name: str, tmp_path: Path) -> None:
    link = tmp_path / name
    link.symlink_to(DRIVERS / name)  # toolstacks look for drivers in a directory of links
    info = run(link, document("sr_get_driver_info"), root=tmp_path)
    assert info["driver_version"] == info["required_api_version"] == "1.0"
    assert "VDI_REVERT" in info["capabilities"]
    assert "VDI_SNAPSHOT" in info["capabilities"]
    assert all(set(item) == {"key", "description"} for item in info["configuration"])
    assert registry.get(NAMES[name]).info.name == info["name"]


@pytest.mark.parametrize("argv", [(), ("garbage",), ("<methodCall/>",), ("a", "b")])
def test_garbage_is_a_fault_and_no_traceback(argv: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(xmlrpc.client.Fault) as caught:
        run(DRIVERS / "FileSR", *argv, root=tmp_path)
    assert caught.value.faultCode == 143


@pytest.mark.parametrize(
    ("name", "code", "text"),
    [
        ("FileSR", 94, "The request is missing the location parameter"),
        ("EXTSR", 90, "The request is missing the device parameter"),
        ("NFSSR", 102, "The request is missing the server parameter"),
    ],
)
def test_missing_configuration(name: str, code: int, text: str, tmp_path: Path) -> None:
    call = document("sr_create", sr_uuid="u", device_config={"SRmaster": "true"})
    with pytest.raises(xmlrpc.client.Fault) as caught:
        run(DRIVERS / name, call, root=tmp_path)
    assert (caught.value.faultCode, caught.value.faultString) == (code, text)


@pytest.mark.parametrize("device", ["/dev/null", "/nowhere", "/etc/passwd"])
def test_what_is_no_block_device(device: str, tmp_path: Path) -> None:
    config = {"SRmaster": "true", "device": device}
    with pytest.raises(xmlrpc.client.Fault) as caught:
        run(DRIVERS / "EXTSR", document("sr_create", sr_uuid="u", device_config=config),
            root=tmp_path)  # fmt: skip
    assert caught.value.faultCode == 19
    assert device in caught.value.faultString


def test_only_the_master_creates(tmp_path: Path) -> None:
    call = document("sr_create", sr_uuid="u", device_config={"location": str(tmp_path / "sr")})
    with pytest.raises(xmlrpc.client.Fault) as caught:
        run(DRIVERS / "FileSR", call, root=tmp_path)
    assert caught.value.faultCode == 58
    assert not (tmp_path / "sr").exists()


def test_a_directory_that_holds_something(tmp_path: Path) -> None:
    (tmp_path / "sr").mkdir()
    (tmp_path / "sr" / "precious").write_text("")
    config = {"SRmaster": "true", "location": str(tmp_path / "sr")}
    with pytest.raises(xmlrpc.client.Fault) as caught:
        run(DRIVERS / "FileSR", document("sr_create", sr_uuid="u", device_config=config),
            root=tmp_path)  # fmt: skip
    assert caught.value.faultCode == 61


def test_types() -> None:
    assert set(registry.names()) >= {"file", "ext", "lvhd", "lvm"}
    assert registry.get("lvm") is registry.get("lvhd")
    with pytest.raises(KeyError):
        registry.get("no-such-type")
