"""What an SR must be after each step of a program: disks as byte arrays, in one dictionary.

Before a step `refusal` tells whether it must succeed, or with which code of the XenAPI it must
be refused; `do` carries it out. What is refused changes nothing. A step that is interrupted
leaves the world as it was, or as it would have been (`outcomes`).
"""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Self, assert_never

from scenarios.oracle import Model, Span
from scenarios.property.steps import (
    Attach,
    Clone,
    Collect,
    Create,
    Destroy,
    Detach,
    MakeVM,
    Operation,
    PowerCut,
    Replug,
    Resize,
    Revert,
    RevertVM,
    Scan,
    Snapshot,
    SnapshotVM,
    Track,
    Write,
)


@dataclass(slots=True)
class Disk:
    """A disk or snapshot.

    Attributes:
        content: size and bytes.
        of: name of the disk that it is a snapshot of, which may be gone; empty for a disk.
        attached: RO, RW, or empty.
        tracked: changed block tracking; None where a crash may have ended it.
    """

    content: Model
    of: str = ""
    attached: str = ""
    tracked: bool | None = False


@dataclass(slots=True)
class VM:
    """A VM or a snapshot of one, which is `of` a VM; and its disks, by the VM's names."""

    disks: dict[str, str]
    of: str = ""


@dataclass(slots=True)
class World:
    """Everything that is there."""

    disks: dict[str, Disk] = field(default_factory=dict)
    vms: dict[str, VM] = field(default_factory=dict)

    # --- what may happen -----------------------------------------------------------------

    def makes_sense(self, step: Operation) -> bool:
        """Whether all that it names is there, and what it makes is not."""
        match step:
            case Create(name) | Snapshot(_, name) | Clone(_, name) if name in self.disks:
                return False
            case Create():
                return True
            case Write(name, offset, length):
                disk = self.disks.get(name)
                return bool(disk and disk.attached != "RO" and offset + length <= disk.content.size)
            case Attach(name, mode):
                # Two readers share a disk; a program has one VBD for each.
                disk = self.disks.get(name)
                return disk is not None and (mode, disk.attached) != ("RO", "RO")
            case Detach(name):
                return name in self.disks and bool(self.disks[name].attached)
            case Destroy(name):
                return name in self.disks and not any(
                    name in vm.disks.values() for vm in self.vms.values()
                )
            case MakeVM(name, disks):
                return name not in self.vms and all(
                    disk in self.disks and not self.disks[disk].of for disk in disks
                )
            case SnapshotVM(vm, name):
                return vm in self.vms and not self.vms[vm].of and name not in self.vms
            case RevertVM(name):
                return name in self.vms and bool(self.vms[name].of)
            case Snapshot(name) | Clone(name) | Revert(name) | Resize(name) | Track(name):
                return name in self.disks
            case Scan() | Replug() | Collect() | PowerCut():
                return True
            case _:
                assert_never(step)

    def refusal(self, step: Operation) -> str:
        """The code that it must be refused with; empty if it must succeed."""
        match step:
            case Revert(name):
                return self._refusal_of_revert(self.disks[name].of)
            case Resize(name, size):
                if self.disks[name].attached:
                    return "VDI_IN_USE"
                shrinks = size < self.disks[name].content.size
                return "SR_BACKEND_FAILURE_79" if shrinks else ""
            case Destroy(name):
                return "VDI_IN_USE" if self.disks[name].attached else ""
            case Attach(name):
                return "VDI_IN_USE" if self.disks[name].attached else ""
            case Track(name):
                return "OPERATION_NOT_ALLOWED" if self.disks[name].of else ""
            case RevertVM(name):
                targets = self.vms[self.vms[name].of].disks.values()
                in_use = any(self.disks[disk].attached for disk in targets)
                return "VDI_IN_USE" if in_use else ""
            case Replug():
                in_use = any(disk.attached for disk in self.disks.values())
                return "VDI_IN_USE" if in_use else ""
            case _:
                return ""

    def _refusal_of_revert(self, target: str) -> str:
        if not target:
            return "REVERT_ONLY_ALLOWED_ON_SNAPSHOT"
        if target not in self.disks:
            return "HANDLE_INVALID"
        return "VDI_IN_USE" if self.disks[target].attached else ""

    # --- what happens --------------------------------------------------------------------

    def do(self, step: Operation) -> None:
        """What it does when it is not refused."""
        match step:
            case Create(name, size):
                self.disks[name] = Disk(Model(size))
            case Write(name, offset):
                self.disks[name].content.write([Span(offset, step.data)])
            case Snapshot(name, made):
                self._snapshot(name, made)
            case Clone(name, made):
                self.disks[made] = Disk(self.disks[name].content.fork())
            case Revert(name):
                self._revert(name)
            case Resize(name, size):
                self.disks[name].content.grow(size)
            case Destroy(name):
                del self.disks[name]
            case Attach(name, mode):
                self.disks[name].attached = mode
            case Detach(name):
                self.disks[name].attached = ""
            case Track(name, on):
                self.disks[name].tracked = on
            case MakeVM(name, disks):
                self.vms[name] = VM({disk: disk for disk in disks})
            case SnapshotVM(vm, name):
                copies = {disk: f"{name}.{disk}" for disk in self.vms[vm].disks}
                for disk, copy in copies.items():
                    self._snapshot(disk, copy)
                self.vms[name] = VM(copies, of=vm)
            case RevertVM(name):
                for snapshot in self.vms[name].disks.values():
                    self._revert(snapshot)
            case PowerCut():
                self._lose_power()
            case Scan() | Replug() | Collect():
                pass
            case _:
                assert_never(step)

    def _snapshot(self, name: str, made: str) -> None:
        disk = self.disks[name]
        tracked = False if disk.of else disk.tracked
        self.disks[made] = Disk(disk.content.fork(), of=name, tracked=tracked)

    def _revert(self, name: str) -> None:
        snapshot = self.disks[name]
        target = self.disks[snapshot.of]
        target.content, target.tracked = snapshot.content.fork(), snapshot.tracked

    def _lose_power(self) -> None:
        for disk in self.disks.values():
            if disk.attached == "RW" and disk.tracked:
                disk.tracked = None
            disk.attached = ""

    def outcomes(self, step: Operation, *, power_cut: bool) -> Iterator[Self]:
        """What may be there after it was interrupted: that it never was, or that it was done.

        Where the disk was split and its snapshot not yet known as one, recovery knows only that
        there was to be a disk more: it is an ordinary one.
        """
        yield self._after(None, power_cut)
        yield self._after(step, power_cut)
        if isinstance(step, Snapshot):
            yield self._after(Clone(step.disk, step.name), power_cut)

    def _after(self, step: Operation | None, power_cut: bool) -> Self:
        world = deepcopy(self)
        if step is not None:
            world.do(step)
        if power_cut:
            world._lose_power()
        return world
