"""A VM that was reverted leaves nothing behind: neither lost branches, nor what it helped with."""

from scenarios.gc.support import collect
from scenarios.machine import Machines
from scenarios.oracle import BLOCK
from scenarios.storage import Repository
from scenarios.vm.test_vm_revert import fill, must_see, spoil

_DISKS = 2


def test_reverts_of_a_vm(sr: Repository, machines: Machines) -> None:
    """Two snapshots of two disks, reverted to in turn: each pair stands on one base copy."""
    machine = machines.make(*(sr.create(4 * BLOCK, label=f"disk {n}") for n in range(_DISKS)))
    machine.start()
    first = fill(machine, "first")
    one = machine.snapshot("one")
    second = fill(machine, "second")
    two = machine.snapshot("two")
    for snapshot, models in ((one, first), (two, second), (one, first)):
        spoil(machine)
        snapshot.revert()
        collect(sr)
        must_see(machine, models)
    machine.halt()

    done = collect(sr)

    assert not done.failed
    assert len(sr.base_copies()) == _DISKS
    assert len(sr.images()) == _DISKS * (3 + 1)
    for snapshot, models in ((two, second), (one, first)):
        snapshot.revert()
        must_see(machine, models)
        machine.halt()
