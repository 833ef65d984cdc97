"""Xen Orchestra, CloudStack, Terraform and the PyPI module revert VMs whose disks are real."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from scenarios.oracle import BLOCK, Model, awkward_spans
from scenarios.storage import VDI, Repository
from xapi.testing import replays, xo
from xapi.testing.replays import Api, Books

SIZE = 5 * BLOCK


@dataclass(frozen=True, slots=True)
class Machine:
    """A VM with two disks, and what each of them holds."""

    sr: Repository
    ref: str
    uuid: str
    models: tuple[Model, Model]

    @property
    def disks(self) -> dict[str, VDI]:
        """By userdevice, as the XenAPI says now."""
        api = self.sr.api
        records = [api.VBD.get_record(vbd) for vbd in api.VM.get_VBDs(self.ref)]
        return {vbd["userdevice"]: VDI(self.sr, vbd["VDI"]) for vbd in records}

    @property
    def uuids(self) -> dict[str, str]:
        """VDIs by userdevice."""
        return {device: vdi.uuid for device, vdi in self.disks.items()}

    def overwrite(self) -> None:
        """Write what a revert must take away."""
        for vdi in self.disks.values():
            vdi.write(awkward_spans("lost", SIZE))

    def must_be_as_before(self) -> None:
        """Every disk holds what its model holds."""
        for device, vdi in self.disks.items():
            vdi.must_hold(self.models[int(device)])


@pytest.fixture
def machine(sr: Repository) -> Iterator[Machine]:
    """A halted VM; it is destroyed afterwards, and so are its snapshots."""
    vm = str(sr.api.VM.create({"name_label": "i-2-3-VM"}))
    made = Machine(sr, vm, sr.api.VM.get_uuid(vm), (Model(SIZE), Model(SIZE)))
    for number, model in enumerate(made.models):
        disk = sr.create(SIZE)
        spans = awkward_spans(f"disk {number}", SIZE)
        disk.write(spans)
        model.write(spans)
        sr.create_vbd(disk.ref, vm=vm, userdevice=str(number))
    yield made
    for ref in (*sr.api.VM.get_snapshots(vm), vm):
        sr.api.VM.destroy(ref)


@pytest.mark.skipif(not xo.INSTALLED, reason="ci/setup has not installed the npm client")
def test_xen_orchestra(machine: Machine) -> None:
    """It overwrites a disk over HTTP, reverts, and hears of every change by event."""
    before = machine.uuids
    report = xo.run(machine.sr.host.xapi.url, machine.uuid)
    assert report["before"] == report["after"] == before == machine.uuids
    assert report["result"] == ""
    machine.must_be_as_before()
    imported = VDI(machine.sr, machine.sr.api.VDI.get_by_uuid(report["imported"]))
    imported.must_hold(machine.models[0])


def revert(machine: Machine) -> Any:
    """What the plugin does that CloudStack puts on a host."""

    def run(api: Api, snapshot: str) -> None:
        machine.overwrite()
        api("VM.revert", snapshot)

    return run


def test_cloudstack(machine: Machine) -> None:
    """Its volumes keep their paths."""
    before = machine.uuids
    with replays.cloudstack_session(machine.sr.host.xapi.url) as api:
        books = replays.cloudstack(api, "i-2-3-VM", memory=False, revert=revert(machine))
    assert books == Books(before, machine.uuids, books.snapshot)
    assert books.before == books.after
    machine.must_be_as_before()


def test_terraform(machine: Machine) -> None:
    """Its hard drives are the same set, so its state file stays true."""
    before = machine.uuids
    with replays.terraform_session(machine.sr.host.xapi.url) as api:
        books = replays.terraform(api, machine.uuid, memory=False)
    assert books.before == books.after == before == machine.uuids
    machine.must_be_as_before()


def test_the_pypi_module(machine: Machine) -> None:
    """A script as its users write it: snapshot, damage, revert in the background."""
    api = machine.sr.api
    snapshot = api.VM.snapshot(machine.ref, "before the damage")
    machine.overwrite()
    task = api.Async.VM.revert(snapshot)
    token = ""
    while api.task.get_status(task) == "pending":
        token = api.event_from([f"task/{task}"], token, 30.0)["token"]
    assert (api.task.get_status(task), api.task.get_result(task)) == ("success", "<value></value>")
    api.task.destroy(task)
    machine.must_be_as_before()
