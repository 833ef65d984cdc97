"""Messages: what is generated from the data model, and what the dispatcher refuses."""

from __future__ import annotations

import ast
import logging
import threading
import xmlrpc.client
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import XenAPI

import xapi
from xapi.datamodel import CLASSES
from xapi.errors import CODES, XenAPIError
from xapi.fields import Qualifier
from xapi.testing import Rig, UnixTransport, serve

NULL = "OpaqueRef:NULL"


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    plugins = {"echo": lambda fn, args: f"{fn} {args['what']}", "broken": lambda fn, args: args[fn]}
    with serve(tmp_path_factory.mktemp("dispatch"), plugins=plugins) as rig:
        yield rig


def failure(rig: Rig, method: str, *params: object) -> list[str]:
    call: Any = rig.api
    for part in method.split("."):
        call = getattr(call, part)
    with pytest.raises(XenAPI.Failure) as error:
        call(*params)
    details: list[str] = error.value.details
    return details


def raw(rig: Rig, method: str, *params: object, local: bool = False) -> dict[str, Any]:
    transport = UnixTransport(rig.host.socket) if local else None
    with xmlrpc.client.ServerProxy(rig.server.url, transport) as proxy:
        reply: Any = getattr(proxy, method)(*params)
    assert isinstance(reply, dict)
    return reply


# -- sessions


def test_nothing_but_login_goes_without_a_session(rig: Rig) -> None:
    for message in raw_methods(rig):
        if not message.startswith(("system.", "session.login", "session.slave_local_login")):
            reply = raw(rig, message, "OpaqueRef:none")
            assert reply["Status"] == "Failure", message
            code = reply["ErrorDescription"][0]
            assert code in ("SESSION_INVALID", "MESSAGE_PARAMETER_COUNT_MISMATCH"), message


def test_a_session_is_a_string(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever else comes first, of thousands of levels even, is refused with few words."""
    nested: list[object] = []
    for _ in range(100_000):
        nested = [nested]
    for first in (nested, {"a": "x" * 100_000}, 5, None):
        with pytest.raises(XenAPIError) as error:
            rig.server.dispatcher.call("pool.get_all", [first], local=False)
        assert error.value.description == ["SESSION_INVALID", "a value that is no string"]
    assert caplog.records == []


def raw_methods(rig: Rig) -> list[str]:
    with xmlrpc.client.ServerProxy(rig.server.url) as proxy:
        methods: Any = proxy.system.listMethods()
    assert isinstance(methods, list)
    return methods


def test_api_version_of_the_client_module(rig: Rig) -> None:
    session = XenAPI.Session(rig.server.url)
    session.login_with_password("root", "testbed")
    assert session.API_version == "2.23"
    session.logout()
    session("close")()


# -- refusals


def test_unknown_message(rig: Rig) -> None:
    assert failure(rig, "VDI.fly") == ["MESSAGE_METHOD_UNKNOWN", "VDI.fly"]
    assert failure(rig, "Async.VDI.fly") == ["MESSAGE_METHOD_UNKNOWN", "Async.VDI.fly"]


def test_underscore_instead_of_a_dot(rig: Rig) -> None:
    [session] = {rig.server.xapi.db.refs("session")[0]}
    assert raw(rig, "pool_get_all", session)["Status"] == "Success"


@pytest.mark.parametrize(
    ("method", "given", "expected"),
    [
        ("VDI.revert", 0, ["VDI.revert", "2", "0"]),
        ("VDI.revert", 3, ["VDI.revert", "2", "3"]),
        ("VDI.get_uuid", 0, ["VDI.get_uuid", "1", "0"]),
        ("VDI.get_uuid", 2, ["VDI.get_uuid", "1", "2"]),
        ("pool.get_all", 1, ["pool.get_all", "0", "1"]),
        ("VDI.db_introduce", 8, ["VDI.db_introduce", "19", "8"]),
        ("VDI.db_introduce", 20, ["VDI.db_introduce", "19", "20"]),
    ],
)
def test_parameter_counts(rig: Rig, method: str, given: int, expected: list[str]) -> None:
    assert failure(rig, method, *["x"] * given) == ["MESSAGE_PARAMETER_COUNT_MISMATCH", *expected]


def test_no_session_argument_at_all(rig: Rig) -> None:
    description = raw(rig, "VDI.get_uuid")["ErrorDescription"]
    assert description == ["MESSAGE_PARAMETER_COUNT_MISMATCH", "VDI.get_uuid", "1", "0"]


def test_login_counts_every_argument(rig: Rig) -> None:
    description = raw(rig, "session.login_with_password", "root")["ErrorDescription"]
    assert description[1:] == ["session.login_with_password", "4", "1"]


def test_types(rig: Rig) -> None:
    assert failure(rig, "VDI.get_uuid", 5) == ["FIELD_TYPE_ERROR", "self"]
    assert failure(rig, "VDI.revert", "OpaqueRef:x", ["no", "map"]) == [
        "FIELD_TYPE_ERROR",
        "driver_params",
    ]


def test_constructors_need_their_fields(rig: Rig) -> None:
    code, text = failure(rig, "VDI.create", {"SR": NULL})
    assert code == "INTERNAL_ERROR"
    assert "virtual_size" in text
    whole = {"SR": NULL, "virtual_size": "big", "type": "user", "sharable": False}
    assert failure(rig, "VDI.create", whole) == ["FIELD_TYPE_ERROR", "virtual_size"]


@pytest.mark.parametrize("cls", sorted(CLASSES))
def test_what_is_not_there(rig: Rig, cls: str) -> None:
    assert failure(rig, f"{cls}.get_record", NULL) == ["HANDLE_INVALID", cls, NULL]
    assert failure(rig, f"{cls}.get_uuid", "OpaqueRef:x") == ["HANDLE_INVALID", cls, "OpaqueRef:x"]
    assert failure(rig, f"{cls}.get_by_uuid", "nope") == ["UUID_INVALID", cls, "nope"]


def test_an_unexpected_failure_is_logged_and_told(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    host = rig.api.host.get_all()[0]
    with caplog.at_level(logging.ERROR):
        code, text = failure(rig, "host.call_plugin", host, "broken", "fn", {})
    assert (code, text) == ("INTERNAL_ERROR", "KeyError: 'fn'")
    assert "host.call_plugin failed unexpectedly" in caplog.text
    assert "Traceback" in caplog.text


def test_plugins(rig: Rig) -> None:
    host = rig.api.host.get_all()[0]
    assert rig.api.host.call_plugin(host, "echo", "say", {"what": "this"}) == "say this"
    assert failure(rig, "host.call_plugin", host, "none", "say", {}) == [
        "XENAPI_MISSING_PLUGIN",
        "none",
    ]


# -- generated messages


def test_every_class_has_its_generated_messages(rig: Rig) -> None:
    methods = set(raw_methods(rig))
    for cls in CLASSES.values():
        assert f"{cls.name}.get_record" in methods
        assert (f"{cls.name}.get_all_records_where" in methods) is cls.listed
        for field in cls.fields:
            internal = field.qualifier is Qualifier.INTERNAL
            assert (f"{cls.name}.get_{field.name}" in methods) is not internal
            if field.settable:
                assert f"{cls.name}.set_{field.name}" in methods
            elif field.qualifier is Qualifier.DYNAMIC_RO and cls.name in ("pool", "host", "VM"):
                assert f"{cls.name}.set_{field.name}" not in methods


def test_records_hold_what_getters_give(rig: Rig) -> None:
    rig.vdi(rig.sr())
    for cls in CLASSES.values():
        if not cls.listed:
            continue
        proxy = getattr(rig.api, cls.name)
        for ref, record in proxy.get_all_records().items():
            assert record == proxy.get_record(ref)
            assert set(record) == {field.name for field in cls.public}
            for field, value in record.items():
                assert getattr(proxy, f"get_{field}")(ref) == value
            assert proxy.get_by_uuid(record["uuid"]) == ref


def test_maps(rig: Rig) -> None:
    [pool] = rig.api.pool.get_all()
    rig.api.pool.add_to_other_config(pool, "a", "1")
    rig.api.pool.add_to_other_config(pool, "b", "2")
    assert failure(rig, "pool.add_to_other_config", pool, "a", "3") == [
        "MAP_DUPLICATE_KEY",
        "pool",
        "other_config",
        pool,
        "a",
    ]
    rig.api.pool.remove_from_other_config(pool, "a")
    rig.api.pool.remove_from_other_config(pool, "a")
    assert rig.api.pool.get_other_config(pool) == {"b": "2"}
    rig.api.pool.set_other_config(pool, {})


def test_sets(rig: Rig) -> None:
    [pool] = rig.api.pool.get_all()
    rig.api.pool.add_tags(pool, "x")
    rig.api.pool.add_tags(pool, "y")
    rig.api.pool.add_tags(pool, "x")
    rig.api.pool.remove_tags(pool, "z")
    assert rig.api.pool.get_tags(pool) == ["x", "y"]
    rig.api.pool.remove_tags(pool, "x")
    assert rig.api.pool.get_tags(pool) == ["y"]


def test_server_owned_fields_have_no_setter(rig: Rig) -> None:
    [pool] = rig.api.pool.get_all()
    assert failure(rig, "pool.set_master", pool, NULL) == [
        "MESSAGE_METHOD_UNKNOWN",
        "pool.set_master",
    ]


def test_where(rig: Rig) -> None:
    found = rig.api.VM.get_all_records_where('field "is_control_domain" = "true"')
    assert list(found) == [rig.server.xapi.dom0]
    assert rig.api.VM.get_all_where("not true") == []
    assert failure(rig, "VM.get_all_where", "nonsense")[0] == "INVALID_VALUE"


def test_by_name_label(rig: Rig) -> None:
    assert rig.api.host.get_by_name_label("testhost") == [rig.server.xapi.host]
    assert rig.api.host.get_by_name_label("else") == []


# -- the table of errors


def sources() -> Iterator[tuple[str, ast.AST]]:
    for path in Path(xapi.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            yield path.name, node


def test_every_code_that_is_raised_has_a_text() -> None:
    raised = {
        node.args[0].value
        for _, node in sources()
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        if node.func.id in ("XenAPIError", "BackendError")
        if isinstance(node.args[0], ast.Constant)
    }
    assert len(raised) > 50
    assert raised <= CODES.keys()


def test_every_code_of_the_table_is_raised() -> None:
    said = [
        node.value
        for _, node in sources()
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    # Once as the key of the table, once where it is raised.
    assert [code for code in CODES if said.count(code) < 2] == []


def test_errors_say_what_to_do() -> None:
    error = XenAPIError("SR_HAS_PBD", ("OpaqueRef:1",))
    assert str(error) == "SR_HAS_PBD [OpaqueRef:1]: Unplug its PBDs first."
    assert XenAPIError("SR_BACKEND_FAILURE_44").hint == ""


# -- many at once


def test_calls_that_wait_do_not_keep_others_from_being_answered(tmp_path: Path) -> None:
    with serve(tmp_path) as rig:
        sr = rig.sr()
        rig.host.gates["sr_scan"] = threading.Event()
        scans = [threading.Thread(target=rig.login().SR.scan, args=(sr,)) for _ in range(20)]
        for scan in scans:
            scan.start()
        assert rig.host.reached.wait(10)
        for _ in range(20):
            assert rig.login().SR.get_type(sr) == "mem"
        rig.host.gates["sr_scan"].set()
        for scan in scans:
            scan.join(10)
        assert rig.host.commands().count("sr_scan") == 21
