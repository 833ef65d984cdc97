"""Layers: device-mapper below a disk, switched while the disk is in use."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait

import pytest

from testbed.devices.disk import MiB, create_file
from testbed.devices.layer import Layer
from testbed.errors import DeviceRefused, GuestFault
from testbed.kernel.uml import UmlKernel

SIZE = 8 * MiB
PAGE = 4096


@pytest.fixture
def device(guest: UmlKernel) -> Iterator[str]:
    path = create_file(guest.state.path / "layered", SIZE)
    device = guest.add_disk(path, layered=True)
    yield device
    guest.remove_disk(device)
    path.unlink()


@pytest.fixture
def layer(guest: UmlKernel, device: str) -> Layer:
    return Layer(guest, guest.below_layer(device), SIZE)


def write(guest: UmlKernel, device: str, offset: int, data: bytes) -> None:
    spans = [(offset, len(data))]
    guest.call("write", blob=data, path=device, spans=spans, sync=True)


def read(guest: UmlKernel, device: str, offset: int) -> bytes:
    return guest.exchange("read", {"path": device, "offset": offset, "length": PAGE}).blob


def test_it_passes_everything_through(guest: UmlKernel, device: str, layer: Layer) -> None:
    data = bytes(range(256)) * 16
    write(guest, device, SIZE - PAGE, data)
    assert read(guest, layer.below, SIZE - PAGE) == data
    assert guest.call("dm_table", name=layer.name)[0][:3] == [0, SIZE // 512, "linear"]
    loop = device.removeprefix("/dev/")
    assert guest.run(["cat", f"/sys/block/{loop}/loop/dio"]).stdout == "1\n"


def test_an_error_comes_at_once_and_goes(guest: UmlKernel, device: str, layer: Layer) -> None:
    """Nothing above the layer answers in its place."""
    write(guest, device, 0, b"old" * 1000)
    kept = read(guest, device, 0)
    layer.switch([(0, layer.sectors, "error", "")])
    with pytest.raises(GuestFault, match="Input/output error"):
        read(guest, device, 0)
    with pytest.raises(GuestFault, match="Input/output error"):
        write(guest, device, 0, b"new" * 1000)
    layer.pass_through()
    assert read(guest, device, 0) == kept


def test_rows_side_by_side(guest: UmlKernel, device: str, layer: Layer) -> None:
    """A table of three rows, read back as it was given, and one bad page in the middle."""
    rows = [
        (0, 8, "linear", f"{layer.below} 0"),
        (8, 8, "error", ""),
        (16, layer.sectors - 16, "linear", f"{layer.below} 16"),
    ]
    layer.switch(rows)
    found = guest.call("dm_table", name=layer.name)
    assert [row[:3] for row in found] == [list(row[:3]) for row in rows]
    read(guest, device, 0)
    with pytest.raises(GuestFault, match="Input/output error"):
        read(guest, device, PAGE)
    read(guest, device, 2 * PAGE)
    layer.pass_through()


def test_a_refused_table_changes_nothing(guest: UmlKernel, device: str, layer: Layer) -> None:
    with pytest.raises(GuestFault, match="device-mapper"):
        layer.target("no-such-target")
    with pytest.raises(GuestFault, match="layer-nothing"):
        guest.call("dm_switch", name="layer-nothing", table=[])
    with pytest.raises(GuestFault, match="device-mapper"):
        layer.message("nobody listens")
    write(guest, device, 0, b"still works")


def test_a_message_and_its_effect(guest: UmlKernel, device: str, layer: Layer) -> None:
    layer.target("dust", "512", module="dm-dust")
    layer.message("addbadblock 3")
    layer.message("enable")
    assert "fail_read_on_bad_block" in layer.status()
    with pytest.raises(GuestFault, match="Input/output error"):
        read(guest, device, 0)
    layer.pass_through()
    read(guest, device, 0)


def test_a_device_that_hangs(guest: UmlKernel, device: str, layer: Layer) -> None:
    """A request waits as long as the layer is suspended, and then succeeds."""
    with ThreadPoolExecutor(1) as side:
        layer.suspend()
        try:
            reading = side.submit(read, guest, device, 0)
            # It hangs, whoever waits: a call that is given up would hold the device for longer.
            assert not wait([reading], timeout=0.5).done
        finally:
            layer.resume()
        reading.result(20)


def test_layers_where_there_are_none(guest: UmlKernel) -> None:
    path = create_file(guest.state.path / "plain", SIZE)
    device = guest.add_disk(path)
    with pytest.raises(DeviceRefused, match="without a layer"):
        guest.below_layer(device)
    guest.remove_disk(device)
    path.unlink()


def test_nothing_is_left(guest: UmlKernel) -> None:
    before = guest.call("census", roots=[])["mapped"]
    path = create_file(guest.state.path / "gone", SIZE)
    device = guest.add_disk(path, layered=True)
    assert len(guest.call("census", roots=[])["mapped"]) == len(before) + 1
    guest.remove_disk(device)
    assert guest.call("census", roots=[])["mapped"] == before
    path.unlink()
