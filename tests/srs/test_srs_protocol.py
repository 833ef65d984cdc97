"""SMAPIv1 documents: golden bytes in and out, and what is refused."""

import xmlrpc.client
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srs import command, errors, protocol
from srs.errors import BadRequest, SRError, Unimplemented
from srs.file import FileSR
from srs.sr import SR
from srs.vdi import VDI

REVERT = """\
<?xml version='1.0'?>
<methodCall><methodName>vdi_revert</methodName><params><param><value><struct>
<member><name>host_ref</name><value><string>OpaqueRef:h</string></value></member>
<member><name>command</name><value>vdi_revert</value></member>
<member><name>args</name><value><array><data>
<value>OpaqueRef:target</value></data></array></value></member>
<member><name>device_config</name><value><struct>
<member><name>SRmaster</name><value>true</value></member>
<member><name>device</name><value>/dev/sdb</value></member></struct></value></member>
<member><name>session_ref</name><value>OpaqueRef:s</value></member>
<member><name>subtask_of</name><value>OpaqueRef:t</value></member>
<member><name>sr_ref</name><value>OpaqueRef:sr</value></member>
<member><name>sr_uuid</name><value>0c5a3f5e-31f1-4f6b-9a4f-0123456789ab</value></member>
<member><name>vdi_ref</name><value>OpaqueRef:snap</value></member>
<member><name>vdi_location</name><value>11111111-2222-3333-4444-555555555555</value></member>
<member><name>vdi_uuid</name><value>11111111-2222-3333-4444-555555555555</value></member>
<member><name>vdi_on_boot</name><value>persist</value></member>
<member><name>vdi_allow_caching</name><value>false</value></member>
</struct></value></param></params></methodCall>
"""

NIL = """\
<?xml version='1.0'?>
<methodResponse>
<params>
<param>
<value><nil/></value></param>
</params>
</methodResponse>
"""

LOCATION = """\
<?xml version='1.0'?>
<methodResponse>
<params>
<param>
<value><struct>
<member>
<name>uuid</name>
<value><string>u</string></value>
</member>
<member>
<name>location</name>
<value><string>u</string></value>
</member>
</struct></value>
</param>
</params>
</methodResponse>
"""

FAULT = """\
<?xml version='1.0'?>
<methodResponse>
<fault>
<value><struct>
<member>
<name>faultCode</name>
<value><int>90</int></value>
</member>
<member>
<name>faultString</name>
<value><string>The request is missing the device parameter</string></value>
</member>
</struct></value>
</fault>
</methodResponse>
"""


class Recorder(SR):
    """A driver that notes what it is asked for."""

    info = FileSR.info
    calls: list[Any]

    def scan(self) -> None:
        type(self).calls.append(("scan", self.uuid))

    def vdi(self, uuid: str) -> VDI:
        return VDI()


def document(command_name: str, **members: Any) -> str:
    request = {"command": command_name, "args": [], "device_config": {}, **members}
    return xmlrpc.client.dumps((request,), command_name)


def fault_of(reply: command.Reply) -> tuple[int, str]:
    with pytest.raises(xmlrpc.client.Fault) as caught:
        xmlrpc.client.loads(reply.stdout)
    return caught.value.faultCode, caught.value.faultString


def test_a_revert_as_the_toolstack_sends_it() -> None:
    request = protocol.parse(REVERT)
    assert request.command == "vdi_revert"
    assert request.args == ("OpaqueRef:target",)
    assert request.vdi_uuid == "11111111-2222-3333-4444-555555555555"
    assert request.sr_ref == "OpaqueRef:sr"
    assert request.subtask_of == "OpaqueRef:t"
    assert request.device_config["device"] == "/dev/sdb"
    assert request.is_master
    assert request.driver_params == {}


def test_answers_byte_for_byte() -> None:
    assert protocol.encode_result(None) == NIL
    assert protocol.encode_result({"uuid": "u", "location": "u"}) == LOCATION
    assert protocol.encode_fault(errors.ConfigDeviceMissing()) == FAULT


@pytest.mark.parametrize(
    "broken",
    [
        "",
        "no XML at all",
        REVERT[: len(REVERT) // 2],
        NIL,
        xmlrpc.client.dumps(("a string",), "sr_scan"),
        xmlrpc.client.dumps(({}, {}), "sr_scan"),
        document("sr_scan", command="sr_attach"),
        document("sr_scan", args="no array"),
        document("sr_scan", args=[1]),
        document("sr_scan", sr_uuid=17),
        document("sr_scan", device_config={"device": 1}),
    ],
)
def test_what_is_no_call_is_a_bad_request(broken: str) -> None:
    code, text = fault_of(command.execute(Recorder, broken))
    assert code == 143
    assert text.startswith("A request is badly formed")


@given(st.text())
def test_no_text_makes_it_raise(text: str) -> None:
    code, _ = fault_of(command.execute(Recorder, text))
    assert code == 143


def test_unknown_command_is_143_and_missing_method_38() -> None:
    assert fault_of(command.execute(Recorder, document("vdi_frobnicate")))[0] == 143
    revert = document("vdi_revert", vdi_uuid="u", args=["t"])
    assert fault_of(command.execute(SRWithoutLock, revert))[0] == 38
    assert fault_of(command.execute(SRWithoutLock, document("sr_probe")))[0] == 38


class SRWithoutLock(SR):
    info = FileSR.info

    def vdi(self, uuid: str) -> VDI:
        return VDI()


@pytest.mark.parametrize(
    ("name", "args"), [("vdi_revert", []), ("vdi_resize", []), ("vdi_resize", ["large"])]
)
def test_missing_and_senseless_arguments(name: str, args: list[str]) -> None:
    reply = command.execute(SRWithoutLock, document(name, vdi_uuid="u", args=args))
    assert fault_of(reply)[0] == 143


def test_a_disk_command_without_a_disk() -> None:
    assert fault_of(command.execute(SRWithoutLock, document("vdi_delete")))[0] == 143


class Failing(SR):
    """A driver whose tools fail."""

    info = FileSR.info
    error: Exception = OSError(5, "Input/output error")

    def scan(self) -> None:
        raise self.error


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OSError(5, "Input/output error"), 40),
        (OSError(28, "No space left on device"), 44),
        (errors.SRUnavailable("gone"), 47),
        (ZeroDivisionError("a defect"), 1200),
    ],
)
def test_failures_of_tools_get_the_code_of_the_command(error: Exception, code: int) -> None:
    driver = type("Driver", (Failing,), {"error": error})
    assert fault_of(command.execute(driver, document("sr_scan")))[0] == code


def test_cleanup_runs_and_does_not_hide_the_failure() -> None:
    class Untidy(Failing):
        error = errors.SRNotEmpty()
        cleaned = 0

        def cleanup(self) -> None:
            type(self).cleaned += 1
            raise OSError("cannot clean up")

    assert fault_of(command.execute(Untidy, document("sr_scan")))[0] == 39
    assert Untidy.cleaned == 1


def table() -> list[type[SRError]]:
    found, queue = [], [SRError]
    while queue:
        cls = queue.pop()
        queue += cls.__subclasses__()
        if "code" in vars(cls) and cls.__module__ == "srs.errors":
            found.append(cls)
    return found


def test_the_error_table_has_each_code_once_with_a_text() -> None:
    classes = table()
    codes = [cls.code for cls in classes]
    assert len(set(codes)) == len(codes)
    assert all(cls.description for cls in classes)
    wanted = {16, 19, 24, 38, 39, 40, 42, 43, 44, 46, 47, 58, 61, 78, 79, 80, 81, 82, 90, 94}
    wanted |= {102, 104, 107, 109, 110, 143, 202, 1200}
    assert wanted <= set(codes)


def test_every_error_of_the_table_is_drawn_in_the_tree() -> None:
    drawing = errors.__doc__ or ""
    for cls in table():
        if cls is not SRError:
            assert f"{cls.__name__} {cls.code}" in drawing


def test_texts_that_clients_match_on() -> None:
    assert errors.VDISize().text == "VDI Invalid size"
    assert errors.ConfigDeviceMissing().text == "The request is missing the device parameter"
    assert Unimplemented().text == "The requested method is not supported/implemented"
    pending = "Critical journals are pending. A scan is required."
    assert errors.SRUnavailable(pending).text == f"The SR is not available [opterr={pending}]"


def test_arguments_by_place() -> None:
    request = protocol.Request("vdi_resize", args=("17",))
    assert request.int_arg(0) == 17
    assert request.arg(1, "default") == "default"
    with pytest.raises(BadRequest):
        request.arg(1)
