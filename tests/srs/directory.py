"""A FileSR on a plain directory, without a kernel and without a toolstack.

The toolstack's database is a dictionary here; with a real one, and real block devices, the
scenarios do the same.
"""

import pickle
from pathlib import Path
from typing import Any

import pytest

from srs import paths
from srs.cbtlogs import FileLogs
from srs.file import FileSR
from srs.protocol import Request
from srs.session import Failure


def live_in(directory: Path, patch: pytest.MonkeyPatch) -> None:
    """Keep what a host keeps in /run in this directory."""
    for name in ("PHY_LINKS", "NBD_SOCKETS", "CONTROL_SOCKETS", "PAUSES", "LOCKS"):
        patch.setattr(paths, name, str(directory / name))


class Database:
    """The toolstack as far as these drivers ask it; a reference is `OpaqueRef:` and the uuid."""

    host = "host"

    def __init__(self) -> None:
        self.vdis: dict[str, dict[str, Any]] = {}
        self.messages: list[str] = []
        self.other_config: dict[str, str] = {}
        self.figures: dict[str, str] = {}

    def call(self, method: str, *args: Any) -> Any:
        """A XenAPI call."""
        if method == "VDI.db_introduce":
            return self._introduce(*args)
        if method == "VDI.get_by_uuid":
            if f"OpaqueRef:{args[0]}" not in self.vdis:
                raise Failure(method, ["UUID_INVALID", args[0]])
            return f"OpaqueRef:{args[0]}"
        if method == "VDI.get_record":
            return self._record(method, args[0])
        if method == "VDI.db_forget":
            return self.vdis.pop(args[0], None)
        if method == "message.create":
            return self.messages.append(args[0])
        if method == "SR.get_other_config":
            return self.other_config
        if method == "SR.get_sm_config":
            return {}
        if method.startswith("VDI.set_"):
            self._record(method, args[0])[method.removeprefix("VDI.set_")] = args[1]
        elif method == "VDI.add_to_sm_config":
            self._record(method, args[0])["sm_config"][args[1]] = args[2]
        elif method == "VDI.remove_from_sm_config":
            self._record(method, args[0])["sm_config"].pop(args[1], None)
        elif method.startswith("SR.set_"):
            self.figures[method.removeprefix("SR.set_")] = args[1]
        return self.figures.get(method.removeprefix("SR.get_"), "0")

    def _record(self, method: str, ref: str) -> dict[str, Any]:
        if ref not in self.vdis:
            raise Failure(method, ["HANDLE_INVALID", "VDI", ref])
        return self.vdis[ref]

    def _introduce(self, uuid: str, *fields: Any) -> str:
        names = "name_label name_description SR type sharable read_only other_config location"
        names += " xenstore_data sm_config managed virtual_size physical_utilisation"
        names += " metadata_of_pool is_a_snapshot snapshot_time snapshot_of cbt_enabled"
        self.vdis[f"OpaqueRef:{uuid}"] = {
            "uuid": uuid,
            **dict(zip(names.split(), fields, strict=True)),
        }
        return f"OpaqueRef:{uuid}"

    def vdi_record(self, ref: str) -> dict[str, Any]:
        """See Session."""
        return self._record("VDI.get_record", ref)

    def vdi_ref(self, uuid: str) -> str:
        """See Session."""
        return str(self.call("VDI.get_by_uuid", uuid))

    def vdi_records_of(self, _: str) -> dict[str, Any]:
        """See Session."""
        return dict(self.vdis)

    def set_sm_config_key(self, ref: str, key: str, value: str) -> None:
        """See Session."""
        self.vdi_record(ref)["sm_config"][key] = value


class LastingDatabase(Database):
    """One in a file: what a process has told it stays when that process dies."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        if path.exists():
            self.vdis, self.messages, self.figures = pickle.loads(path.read_bytes())

    def call(self, method: str, *args: Any) -> Any:
        """A XenAPI call."""
        answer = super().call(method, *args)
        self._path.write_bytes(pickle.dumps((self.vdis, self.messages, self.figures)))
        return answer

    def set_sm_config_key(self, ref: str, key: str, value: str) -> None:
        """See Session."""
        self.call("VDI.remove_from_sm_config", ref, key)
        self.call("VDI.add_to_sm_config", ref, key, value)


class Directory(FileSR):
    """A FileSR on a plain directory."""

    def __init__(self, path: Path, database: Database) -> None:
        super().__init__(
            Request("", sr_uuid=path.name, host_ref="host", device_config={"SRmaster": "true"})
        )
        self.path = str(path)
        self.store = type(self.store)(self.path)
        self._logs = FileLogs(self.path)
        self.session = database  # type: ignore[assignment]

    def is_attached(self) -> bool:
        """See FileSR: nothing is mounted."""
        return True
