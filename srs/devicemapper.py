"""Device-mapper by call: tables that can be switched while the device is in use.

An ioctl takes 0.2 to 4 ms in a guest, `dmsetup` 150 to 300. Layout of the requests: the uapi
header `linux/dm-ioctl.h`, interface 4.0. A table is a list of rows (start, length, target,
parameters); start and length are sectors of 512 bytes, and the parameters are the text that
the kernel documents for each target.
"""

import errno
import fcntl
import os
import struct
from typing import Final

#: start, length, target, parameters
Row = tuple[int, int, str, str]

_CREATE, _REMOVE, _SUSPEND, _DEVICE_STATUS, _LOAD, _STATUS, _MESSAGE = 3, 4, 6, 7, 9, 12, 14
_SUSPENDED, _STATUS_TABLE = 1 << 1, 1 << 4
_BUFFER_FULL, _SKIP_LOCKFS, _NOFLUSH = 1 << 8, 1 << 10, 1 << 11

#: version (3), data size, data start, target count, open count, flags, event, device, name, uuid
_REQUEST: Final = struct.Struct("=3IIIIiII4xQ128s129s7x")
#: start, length, status, bytes to the next row, target; the parameters follow
_TARGET: Final = struct.Struct("=QQiI16s")
_MESSAGE_SECTOR: Final = struct.Struct("=Q")
_IOWR: Final = 3 << 30 | _REQUEST.size << 16 | 0xFD << 8
#: Bytes for what the kernel answers; tables here have a handful of rows.
_ROOM: Final = 64 << 10


def create(name: str, table: list[Row], *, uuid: str = "") -> str:
    """Make a device with a table; returns its path, /dev/dm-N.

    Raises:
        OSError: the name is taken, or the kernel refuses the table (its log says why).
    """
    device = _call(_CREATE, name, uuid=uuid)[0]
    try:
        _load(name, table)
        _call(_SUSPEND, name)  # without the flag: resume
    except OSError:
        _call(_REMOVE, name)
        raise
    return _path(device)


def find(name: str) -> str | None:
    """The path of the device of this name; None if there is none."""
    try:
        return _path(_call(_DEVICE_STATUS, name)[0])
    except OSError as error:
        if error.errno == errno.ENXIO:
            return None
        raise


def _path(device: int) -> str:
    minor = device & 0xFF | device >> 12 & 0xFFF00  # reference: `new_encode_dev` of the kernel
    return f"/dev/dm-{minor}"


def switch(name: str, table: list[Row]) -> None:
    """Give a device another table while it is in use.

    Requests that are under way end in the old table; those that come meanwhile wait, and go
    through the new one. Nothing is flushed: what a file system holds back stays held back.

    Raises:
        OSError: no such device, or the kernel refuses the table; then the old one stays.
    """
    _load(name, table)
    suspend(name)
    resume(name)


def suspend(name: str) -> None:
    """Let all requests wait: a disk that hangs. Returns when none is under way below."""
    _call(_SUSPEND, name, flags=_SUSPENDED | _SKIP_LOCKFS | _NOFLUSH)


def resume(name: str) -> None:
    """Let the requests go on, through the table that was loaded last."""
    _call(_SUSPEND, name)


def message(name: str, text: str) -> None:
    """Send a message to the target at the start of the device.

    Raises:
        OSError: no such device, or the target does not understand.
    """
    _call(_MESSAGE, name, payload=_MESSAGE_SECTOR.pack(0) + text.encode() + b"\0")


def status(name: str) -> list[Row]:
    """The rows of a device, with what each target reports in place of its parameters."""
    return _rows(*_call(_STATUS, name))


def table(name: str) -> list[Row]:
    """The rows of the table that a device has now."""
    return _rows(*_call(_STATUS, name, flags=_STATUS_TABLE))


def remove(name: str) -> None:
    """Remove a device.

    Raises:
        OSError: no such device, or EBUSY while it is open.
    """
    _call(_REMOVE, name)


def _load(name: str, rows: list[Row]) -> None:
    payload = b""
    for start, length, target, parameters in rows:
        text = parameters.encode() + b"\0"
        text += bytes(-len(text) % 8)
        size = _TARGET.size + len(text)
        payload += _TARGET.pack(start, length, 0, size, target.encode()) + text
    _call(_LOAD, name, payload=payload, targets=len(rows))


def _rows(_device: int, count: int, data: bytes) -> list[Row]:
    rows, at = [], 0
    for _ in range(count):
        start, length, _, following, target = _TARGET.unpack_from(data, at)
        text = data[at + _TARGET.size :].partition(b"\0")[0]
        rows.append((start, length, target.rstrip(b"\0").decode(), text.decode()))
        at = following
    return rows


def _call(
    command: int,
    name: str,
    *,
    uuid: str = "",
    flags: int = 0,
    payload: bytes = b"",
    targets: int = 0,
) -> tuple[int, int, bytes]:
    """One ioctl; returns device number, number of rows and what was answered."""
    size = _REQUEST.size + max(len(payload), _ROOM)
    head = _REQUEST.pack(
        4, 0, 0, size, _REQUEST.size, targets, 0, flags, 0, 0, name.encode(),
        uuid.encode(),
    )  # fmt: skip
    buffer = bytearray(size)
    buffer[: len(head) + len(payload)] = head + payload
    control = os.open("/dev/mapper/control", os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(control, _IOWR | command, buffer)
    except OSError as error:
        raise OSError(error.errno, f"device-mapper: {error.strerror}", name) from error
    finally:
        os.close(control)
    fields = _REQUEST.unpack_from(buffer)
    if fields[7] & _BUFFER_FULL:
        raise OSError(errno.EOVERFLOW, f"the answer is longer than {_ROOM} bytes", name)
    return fields[9], fields[5], bytes(buffer[fields[4] : fields[3]])
