"""SMAPIv1 on the wire: one XML-RPC document in, one out.

    Exception
    └── BadRequest (143, srs.errors)      a document that is no SMAPIv1 call

A call names the command twice (method name and member `command`) and has one struct as its
only parameter. Members that mean nothing for a command are absent. The answer is a
methodResponse, or a fault with the error's code and text.
"""

import xmlrpc.client
from dataclasses import dataclass, field
from typing import Any
from xml.parsers.expat import ExpatError

from srs.errors import BadRequest, SRError


@dataclass(frozen=True, slots=True)
class Request:
    """One SMAPIv1 call. Strings are empty where the caller sent nothing.

    Attributes:
        command: sr_attach, vdi_create, ...
        args: the command's own arguments; their meaning depends on the command.
        device_config: the PBD's device_config, and `SRmaster`.
        session_ref: a XenAPI session that may use the toolstack's unix socket.
        vdi_uuid: the disk that the call is about; for vdi_revert the snapshot.
        vdi_sm_config: what a new disk is to be (`type`), for vdi_create.
        driver_params: the client's extra parameters, for vdi_snapshot and vdi_clone.
    """

    command: str
    args: tuple[str, ...] = ()
    device_config: dict[str, str] = field(default_factory=dict)
    session_ref: str = ""
    host_ref: str = ""
    sr_ref: str = ""
    sr_uuid: str = ""
    sr_sm_config: dict[str, str] = field(default_factory=dict)
    vdi_ref: str = ""
    vdi_uuid: str = ""
    vdi_location: str = ""
    vdi_type: str = ""
    vdi_sm_config: dict[str, str] = field(default_factory=dict)
    driver_params: dict[str, str] = field(default_factory=dict)
    subtask_of: str = ""

    @property
    def is_master(self) -> bool:
        """Whether this host is the SR's master."""
        return self.device_config.get("SRmaster") == "true"

    def arg(self, index: int, default: str | None = None) -> str:
        """An argument by its place.

        Raises:
            BadRequest: the argument is missing and has no default.
        """
        if index < len(self.args):
            return self.args[index]
        if default is None:
            raise BadRequest(f"{self.command} needs {index + 1} arguments, not {len(self.args)}")
        return default

    def int_arg(self, index: int) -> int:
        """An argument that is a number, such as a size in bytes.

        Raises:
            BadRequest: missing, or not a decimal number.
        """
        text = self.arg(index)
        try:
            return int(text)
        except ValueError:
            raise BadRequest(f"{self.command}: {text!r} is not a number") from None


_STRINGS = (
    "session_ref", "host_ref", "sr_ref", "sr_uuid", "vdi_ref", "vdi_uuid", "vdi_location",
    "vdi_type", "subtask_of",
)  # fmt: skip
_MAPS = ("device_config", "sr_sm_config", "vdi_sm_config", "driver_params")


def parse(document: str) -> Request:
    """Read a methodCall.

    Raises:
        BadRequest: the XML is broken, or it is not a call with one struct, or a member has
            the wrong type.
    """
    try:
        params, method = xmlrpc.client.loads(document)
    except (ExpatError, xmlrpc.client.Error, ValueError, TypeError, AttributeError) as error:
        raise BadRequest(f"no XML-RPC call: {error}") from error
    if method is None or len(params) != 1 or not isinstance(params[0], dict):
        raise BadRequest("a SMAPIv1 call is a methodCall with one struct")
    members: dict[str, Any] = params[0]
    if members.get("command", method) != method:
        raise BadRequest(f"method {method} with command {members['command']}")
    args = members.get("args", [])
    if not isinstance(args, list) or not all(isinstance(item, str) for item in args):
        raise BadRequest("args is not an array of strings")
    fields: dict[str, Any] = {name: _string(members, name) for name in _STRINGS}
    fields |= {name: _string_map(members, name) for name in _MAPS}
    return Request(command=method, args=tuple(args), **fields)


def _string(members: dict[str, Any], name: str) -> str:
    value = members.get(name, "")
    if not isinstance(value, str):
        raise BadRequest(f"{name} is not a string")
    return value


def _string_map(members: dict[str, Any], name: str) -> dict[str, str]:
    value = members.get(name, {})
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        raise BadRequest(f"{name} is not a struct of strings")
    return value


def encode_result(value: object) -> str:
    """A methodResponse: None, a string, or a (nested) dict and list of those and bools."""
    return xmlrpc.client.dumps(
        (value,),  # type: ignore[arg-type]  # typeshed has no name for what can be marshalled
        methodresponse=True,
        allow_none=True,
    )


def encode_fault(error: SRError) -> str:
    """A methodResponse that carries an error's code and text."""
    return xmlrpc.client.dumps(xmlrpc.client.Fault(error.code, error.text), methodresponse=True)
