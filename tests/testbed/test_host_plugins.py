"""Host plugins: they run inside, beside the driver call that waits for them."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import XenAPI

from testbed.host import Host
from testbed.provision import provision
from testbed.sessions import close_session

#: A driver that asks the plugin, while it holds the lock of its SR.
_CURIOUS = """
import os
from srs import plugins, registry
from srs.file import FileSR
from srs.sr import DriverInfo

def fail(fn, arguments):
    raise RuntimeError("no luck")

plugins.register("process", lambda fn, arguments: f"{fn} {arguments['word']} {os.getpid()}")
plugins.register("failing", fail)

class CuriousSR(FileSR):
    info = DriverInfo("curious", "curious", "curious", FileSR.info.capabilities, {})

    def scan(self):
        arguments = (self.request.host_ref, "process", "tell", {"word": "me"})
        answer = self.session.call("host.call_plugin", *arguments)
        told = {"driver": str(os.getpid()), "plugin": answer}
        self.session.call("SR.set_other_config", self.ref, told)

registry.register(CuriousSR)
"""


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    variant = tmp_path_factory.mktemp("variants") / "curious.py"
    variant.write_text(_CURIOUS)
    with Host(seed=1, variants=[variant]) as host:
        yield host


@pytest.fixture(scope="module")
def session(host: Host) -> Iterator[Any]:
    session = host.session()
    yield session
    close_session(session)


def _failure(call: Callable[..., object], *params: object) -> list[str]:
    with pytest.raises(XenAPI.Failure) as refused:
        call(*params)
    details: list[str] = refused.value.details
    return details


def test_a_driver_reaches_a_plugin_under_its_lock(host: Host, session: Any) -> None:
    sr = provision(host, session, "file", driver="curious")
    told = session.xenapi.SR.get_other_config(sr.ref)
    assert told["plugin"].startswith("tell me ")
    assert told["plugin"].split()[-1] != told["driver"]


def test_is_open_tells_whether_the_host_has_a_data_path(host: Host, session: Any) -> None:
    api = session.xenapi
    [ref] = api.host.get_all()
    sr = provision(host, session, "file")
    names = {"SR": sr.ref, "virtual_size": str(1 << 20), "type": "user", "name_label": "disk"}
    vdi = api.VDI.create(names | {"sharable": False, "read_only": False, "other_config": {}})
    vbd = api.VBD.create(
        {
            "VM": api.host.get_control_domain(ref),
            "VDI": vdi,
            "userdevice": "autodetect",
            "bootable": False,
            "mode": "RW",
            "type": "Disk",
            "empty": False,
            "other_config": {},
            "qos_algorithm_type": "",
            "qos_algorithm_params": {},
        }
    )
    question = (ref, "on-slave", "is_open", {"srUuid": sr.uuid, "vdiUuid": api.VDI.get_uuid(vdi)})
    assert api.host.call_plugin(*question) == "False"
    api.VBD.plug(vbd)
    assert api.host.call_plugin(*question) == "True"
    api.VBD.unplug(vbd)
    assert api.host.call_plugin(*question) == "False"


def test_errors_say_what_failed(host: Host, session: Any) -> None:
    api = session.xenapi
    [ref] = api.host.get_all()
    assert _failure(api.host.call_plugin, ref, "none", "fn", {}) == [
        "XENAPI_MISSING_PLUGIN",
        "none",
    ]
    assert _failure(api.host.call_plugin, ref, "on-slave", "dance", {}) == [
        "UNKNOWN_XENAPI_PLUGIN_FUNCTION",
        "dance",
    ]
    assert _failure(api.host.call_plugin, ref, "failing", "try", {}) == [
        "XENAPI_PLUGIN_FAILURE",
        "try",
        "RuntimeError",
        "no luck",
    ]
    host.power_cut()
    for plugin in ("testbed", "on-slave"):
        arguments = (ref, plugin, "run", {"command": "true"})
        assert _failure(api.host.call_plugin, *arguments) == ["HOST_OFFLINE", ref]
