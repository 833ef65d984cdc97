"""`xe vdi-export` and `xe vdi-import`: the content of disks, as HTTP streams from and to files.

Imported only by a command that needs it: HTTP is dear.
"""

from __future__ import annotations

import http.client
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO
from urllib.parse import urlencode

from xapi.xe_args import Arguments
from xapi.xe_client import ApiFailure, Client, XeError

_CHUNK = 1 << 20
#: Zeros of this many bytes become a hole in the file.
_HOLE = 1 << 16
_ZEROS = bytes(_HOLE)


def export_disk(client: Client, args: Arguments) -> str:
    """`vdi-export`. The file appears when it is whole; where a disk holds zeros, it has holes."""
    path = args.required("filename")
    query = {
        "vdi": client.ref("VDI", args.required("uuid")),
        "format": args.optional("format", "raw"),
    }
    if "base" in args.keys:
        query["base"] = client.ref("VDI", args.keys["base"])
    if os.path.lexists(path):
        raise XeError(f"Error: The file {path} exists already")
    unfinished = f"{path}.part"
    try:
        with (
            open(unfinished, "wb") as file,
            _transfer(client, "GET", "/export_raw_vdi", query) as response,
        ):
            _save(response, file, _Progress(args, response.length))
        os.rename(unfinished, path)
    except OSError as error:
        raise XeError(f"Error: {error}") from error
    finally:
        with suppress(FileNotFoundError):
            os.unlink(unfinished)
    return ""


def _save(response: http.client.HTTPResponse, file: BinaryIO, progress: _Progress) -> None:
    expected = response.length
    while data := response.read(_CHUNK):
        for offset in range(0, len(data), _HOLE):
            piece = data[offset : offset + _HOLE]
            if piece == _ZEROS[: len(piece)]:
                file.seek(len(piece), os.SEEK_CUR)
            else:
                file.write(piece)
        progress.more(len(data))
    if expected not in (None, progress.done):
        raise http.client.IncompleteRead(b"")
    file.truncate(progress.done)


def import_disk(client: Client, args: Arguments) -> str:
    """`vdi-import`."""
    query = {
        "vdi": client.ref("VDI", args.required("uuid")),
        "format": args.optional("format", "raw"),
    }
    try:
        with open(args.required("filename"), "rb") as file:
            progress = _Progress(args, os.fstat(file.fileno()).st_size)
            if not progress.total:
                raise XeError("Error: The file is empty")
            with _transfer(client, "PUT", "/import_raw_vdi", query, (file, progress)):
                return ""
    except OSError as error:
        raise XeError(f"Error: {error}") from error


@contextmanager
def _transfer(
    client: Client,
    method: str,
    path: str,
    query: dict[str, str],
    source: tuple[BinaryIO, _Progress] | None = None,
) -> Iterator[http.client.HTTPResponse]:
    """A request with a task of its own, which tells why it failed."""
    task = str(client.call("task.create", f"xe {method} {path}", ""))
    connection = http.client.HTTPConnection(client.server)
    try:
        target = f"{path}?{urlencode({'session_id': client.session, 'task_id': task, **query})}"
        _send(connection, method, target, source)
        response = connection.getresponse()
        if response.status != http.client.OK:
            raise _failure(client, task, f"{response.status} {response.reason}")
        try:
            yield response
        except http.client.HTTPException as error:
            raise _failure(client, task, "the transfer was cut") from error
    except http.client.HTTPException as error:
        raise XeError(f"Error: {method} {path}: {error!r}") from error
    finally:
        connection.close()
        client.call("task.destroy", task)


def _send(
    connection: http.client.HTTPConnection,
    method: str,
    target: str,
    source: tuple[BinaryIO, _Progress] | None,
) -> None:
    if source is None:
        connection.request(method, target)
        return
    file, progress = source
    connection.putrequest(method, target)
    connection.putheader("Content-Length", str(progress.total))
    connection.endheaders()
    # A server that has enough, or refuses, hangs up; what it has to say can still be read.
    with suppress(ConnectionError):
        while data := file.read(_CHUNK):
            connection.send(data)
            progress.more(len(data))


def _failure(client: Client, task: str, otherwise: str) -> XeError:
    """What the task says; if it says nothing, the error of HTTP."""
    said: list[str] = client.call("task.get_error_info", task)
    return ApiFailure(said[0], said[1:]) if said else XeError(f"Error: {otherwise}")


class _Progress:
    """Counts bytes, and with --progress shows it on stderr."""

    def __init__(self, args: Arguments, total: int | None) -> None:
        self.total = total or 0
        self.done = 0
        self._show: Callable[[str], object] = (
            sys.stderr.write if args.flag("progress") else lambda _: None
        )

    def more(self, count: int) -> None:
        """These were transferred, too."""
        before, self.done = self.done, self.done + count
        if self.total and self.done * 100 // self.total != before * 100 // self.total:
            end = "\n" if self.done == self.total else ""
            self._show(f"\r{self.done * 100 // self.total} %{end}")
