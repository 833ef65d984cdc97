"""The data model: what a fresh host shows, what a constructor takes, how columns are spelled."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import XenAPI

from xapi.datamodel import CLASSES
from xapi.datatypes import MapOf, SetOf
from xapi.testing import Rig, serve

NULL = "OpaqueRef:NULL"


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with serve(tmp_path_factory.mktemp("datamodel")) as rig:
        yield rig


@pytest.mark.parametrize(
    ("cls", "field", "column"),
    [
        ("VM", "name_label", "name__label"),
        ("VM", "memory_static_max", "memory__static_max"),
        ("VM", "HVM_boot_policy", "HVM__boot_policy"),
        ("VM", "PV_legacy_args", "PV__legacy_args"),
        ("VM", "VCPUs_at_startup", "VCPUs__at_startup"),
        ("VM", "actions_after_crash", "actions__after_crash"),
        ("VM", "snapshot_of", "snapshot_of"),
        ("VM_guest_metrics", "PV_drivers_version", "PV_drivers_version"),
        ("VBD", "qos_algorithm_type", "qos__algorithm_type"),
        ("host", "API_version_vendor_implementation", "API_version__vendor_implementation"),
    ],
)
def test_columns(cls: str, field: str, column: str) -> None:
    assert CLASSES[cls].by_name[field].column == column


def test_inverse_fields_point_back() -> None:
    for cls in CLASSES.values():
        for field in cls.fields:
            if field.inverse:
                other, back = field.inverse
                assert CLASSES[other].by_name[back].stored


def test_a_fresh_host(rig: Rig) -> None:
    [host] = rig.api.host.get_all()
    [pool] = rig.api.pool.get_all_records().values()
    assert (pool["master"], pool["name_label"], pool["coordinator_bias"]) == (host, "", True)
    assert rig.api.host_metrics.get_live(rig.api.host.get_metrics(host)) is True
    [management] = rig.api.PIF.get_all_records_where('field "management" = "true"').values()
    assert (management["host"], management["IP"]) == (host, rig.api.host.get_address(host))
    assert rig.api.network.get_bridge(management["network"]) == "xenbr0"
    dom0 = rig.api.VM.get_record(rig.api.host.get_control_domain(host))
    assert (dom0["domid"], dom0["power_state"], dom0["resident_on"]) == ("0", "Running", host)
    assert rig.api.VM_metrics.get_memory_actual(dom0["metrics"]) == dom0["memory_static_max"]
    assert dom0["guest_metrics"] == NULL


def test_defaults_have_the_type_of_their_field() -> None:
    for cls in CLASSES.values():
        for field in cls.fields:
            assert isinstance(field.initial, tuple) is isinstance(field.type, SetOf)
            assert isinstance(field.initial, dict) is isinstance(field.type, MapOf)


def test_generated_constructors(rig: Rig) -> None:
    fields = {"value": "word", "uuid": "ignored", "colour": "red"}
    secret = rig.api.secret.create(fields)
    assert rig.api.secret.get_value(secret) == "word"
    assert rig.api.secret.get_uuid(secret) != "ignored"
    with pytest.raises(XenAPI.Failure) as error:
        rig.api.secret.create({})
    assert error.value.details[0] == "INTERNAL_ERROR"
    assert "value" in error.value.details[1]
    rig.api.secret.destroy(secret)
    assert rig.api.secret.get_all() == []


def test_maps_of_a_vm_that_have_mutators(rig: Rig) -> None:
    [dom0] = rig.api.VM.get_all()
    rig.api.VM.add_to_other_config(dom0, "a", "b")
    assert rig.api.VM.get_other_config(dom0) == {"a": "b"}
    rig.api.VM.remove_from_other_config(dom0, "a")
    rig.api.VM.add_to_blocked_operations(dom0, "start", "a reason")
    assert rig.api.VM.get_blocked_operations(dom0) == {"start": "a reason"}
    rig.api.VM.set_blocked_operations(dom0, {})
