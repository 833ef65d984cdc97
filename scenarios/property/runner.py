"""Carries out a program on an SR, and holds every step against the model.

After each step: the answer (done, or refused with the code that the model says), and the
records of all disks: which there are, identity, size, links, tracking. After an interrupted
step, and at the end: every byte of every disk.
"""

import time
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import XenAPI

from scenarios.invariants import check
from scenarios.machine import Machine, Machines
from scenarios.oracle import Model
from scenarios.property.bed import TROUBLE, Bed
from scenarios.property.model import World
from scenarios.property.sight import contents
from scenarios.property.steps import (
    Attach,
    Clone,
    Collect,
    Crash,
    Create,
    Destroy,
    Detach,
    MakeVM,
    Operation,
    PowerCut,
    Program,
    Replug,
    Resize,
    Revert,
    RevertVM,
    Scan,
    Snapshot,
    SnapshotVM,
    Step,
    Track,
    Write,
)
from scenarios.storage import VDI, Repository
from testbed.errors import TestbedError
from testbed.fist import POWER_CUT
from xapi.backend import HostError

#: What no operation but destroying a disk may change.
_IDENTITY: Final = ("uuid", "location", "name_label", "type", "SR", "sharable", "read_only")
#: Bytes that a bit of a list of changed blocks stands for.
PIECE: Final = 64 << 10
#: What VDI.list_changed_blocks answers where it does not know.
_NO_LIST: Final = ("SR_BACKEND_FAILURE_460", "SR_BACKEND_FAILURE_459")
_NULL: Final = "OpaqueRef:NULL"


class Wrong(AssertionError):
    """Something is not as the model says.

    Attributes:
        step: number of the step after which it was seen.
        spoilt: the SR could not be cleared afterwards: nothing can be run on it any more.
    """

    def __init__(self, step: int, what: Sequence[str], *, spoilt: bool = False) -> None:
        self.step = step
        self.spoilt = spoilt
        super().__init__("; ".join(what))


@dataclass(slots=True)
class Tally:
    """What was done so far."""

    programs: int = 0
    steps: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        rate = self.steps / max(self.seconds, 0.001)
        return f"{self.programs} programs, {self.steps} steps, {rate:.1f} a second"


@dataclass(slots=True)
class Runner:
    """Runs programs, one after the other, each on an SR without disks.

    Attributes:
        bed: where.
        world: what must be.
        tally: what was done.
    """

    bed: Bed
    world: World = field(default_factory=World)
    tally: Tally = field(default_factory=Tally)
    _refs: dict[str, str] = field(default_factory=dict)
    _vbds: dict[str, str] = field(default_factory=dict)
    _vms: dict[str, Machine] = field(default_factory=dict)
    _identities: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    def run(self, program: Program) -> None:
        """Carry it out.

        Raises:
            Wrong: a step did not end as it must, or left something that must not be.
        """
        begun = time.perf_counter()
        wrong, doubtful, spoilt = None, True, ""
        try:
            self._carry_out(program)
            doubtful = False
        except Wrong as error:
            wrong = error
        finally:
            self.tally.programs += 1
            try:
                self.bed.clear(self._vms.values(), doubtful=doubtful)
            except TROUBLE as error:
                spoilt = f"the SR cannot be cleared afterwards: {error}"
            self._forget()
            self.tally.seconds += time.perf_counter() - begun
        if spoilt:  # by what was wrong, which is what counts
            step, what = (wrong.step, [str(wrong)]) if wrong else (len(program), [])
            raise Wrong(step, [*what, spoilt], spoilt=True) from wrong
        if wrong:
            raise wrong

    def _carry_out(self, program: Program) -> None:
        number = 0
        try:
            for number, step in enumerate(program):
                self._step(number, step)
            self._end(len(program))
        except (XenAPI.Failure, TestbedError, HostError, OSError) as error:
            raise Wrong(number, [f"{type(error).__name__}: {error}"]) from error
        finally:
            self.tally.steps += number + 1

    def _forget(self) -> None:
        self.world = World()
        for kept in (self._refs, self._vbds, self._vms, self._identities):
            kept.clear()

    @property
    def sr(self) -> Repository:
        """The SR that is used now."""
        return self.bed.sr

    # --- one step ------------------------------------------------------------------------

    def _step(self, number: int, step: Step) -> None:
        if isinstance(step, Crash):
            if self.world.makes_sense(step.step) and not self.world.refusal(step.step):
                self._interrupted(number, step)
            return
        if not self.world.makes_sense(step):
            return
        expected = self.world.refusal(step)
        code = self._code(step)
        if code != expected:
            raise Wrong(number, [f"{step}: {_told(code)}, expected: {_told(expected)}"])
        if not code:
            self.world.do(step)
        self._must_hold(number, self._differences())

    def _code(self, step: Operation) -> str:
        try:
            self._act(step)
        except XenAPI.Failure as failure:
            return str(failure.details[0])
        return ""

    def _interrupted(self, number: int, crash: Crash) -> None:
        """A step that may die in the middle: it happened, or it did not."""
        step = crash.step
        failed = False
        with self.sr.host.fist(crash.point, crash.action) as fist:
            try:
                self._act(step)
            except (XenAPI.Failure, TestbedError, HostError):
                failed = True
        if failed and not fist.reached:
            raise Wrong(number, [f"{step} failed, and had not come by {crash.point}"])
        if fist.reached and crash.action == POWER_CUT:
            self._vbds.clear()
            self.bed.restart()
        elif failed:
            self.sr.api.SR.update(self.sr.ref)  # any call that works with disks recovers
        cut = fist.reached and crash.action == POWER_CUT
        outcomes = list(self.world.outcomes(step, power_cut=cut))
        self._adopt(step)
        found = []
        for world in outcomes if failed else outcomes[1:2]:
            self.world = world
            found.append(self._differences() or self._content_differences())
            if not found[-1]:
                return
        told = [f"{'; or '.join('; '.join(what) for what in found)}"]
        raise Wrong(number, [f"after {crash}", *told])

    def _adopt(self, step: Operation) -> None:
        """What an interrupted step has made is found among the records."""
        match step:
            case Snapshot(_, name) | Clone(_, name) if name not in self._refs:
                fresh = self._visible().keys() - set(self._refs.values())
                if len(fresh) == 1:
                    self._refs[name] = fresh.pop()

    # --- doing it ------------------------------------------------------------------------

    def _vdi(self, name: str) -> VDI:
        return VDI(self.sr, self._refs[name])

    def _act(self, step: Operation) -> None:
        match step:
            case Create(name, size):
                self._refs[name] = self.sr.create(size, label=name).ref
            case Write():
                self._write(step)
            case Snapshot(name, made):
                self._refs[made] = self._vdi(name).snapshot().ref
            case Clone(name, made):
                self._refs[made] = self._vdi(name).clone().ref
            case Revert(name):
                self._vdi(name).revert_live_disk()
            case Resize(name, size):
                self._vdi(name).resize(size)
            case Destroy(name):
                self._vdi(name).destroy()
                del self._refs[name]
            case Attach(name, mode):
                self._attach(name, mode)
            case Detach(name):
                self._detach(name)
            case Track(name, on):
                change = self.sr.api.VDI.enable_cbt if on else self.sr.api.VDI.disable_cbt
                change(self._refs[name])
            case MakeVM(name, disks):
                made_vm = Machines(self.sr).make(*(self._vdi(disk) for disk in disks))
                self._vms[name] = made_vm
            case SnapshotVM(vm, name):
                self._snapshot_vm(vm, name)
            case RevertVM(name):
                self._vms[name].revert()
            case Scan():
                self.sr.scan()
            case Replug():
                self.sr.replug()
            case Collect():
                self.sr.collect()
            case PowerCut():
                self._vbds.clear()
                self.sr.host.power_cut()
                self.bed.restart()

    def _write(self, step: Write) -> None:
        vbd = self._vbds.get(step.disk)
        if vbd is None:
            with self._vdi(step.disk).plugged() as device:
                self.sr.host.write(device, (step.offset, step.data))
        else:
            self.sr.host.write(self._device(vbd), (step.offset, step.data))

    def _device(self, vbd: str) -> str:
        return f"/dev/{self.sr.api.VBD.get_device(vbd)}"

    def _attach(self, name: str, mode: str) -> None:
        vbd = self.sr.create_vbd(self._refs[name], mode)
        try:
            self.sr.api.VBD.plug(vbd)
        except XenAPI.Failure:
            self.sr.api.VBD.destroy(vbd)
            raise
        self._vbds[name] = vbd

    def _detach(self, name: str) -> None:
        vbd = self._vbds.pop(name)
        self.sr.api.VBD.unplug(vbd)
        self.sr.api.VBD.destroy(vbd)

    def _snapshot_vm(self, vm: str, name: str) -> None:
        made = self._vms[vm].snapshot(name)
        self._vms[name] = made
        names = {self._refs[disk]: disk for disk in self.world.vms[vm].disks}
        for ref in made.disks().values():
            self._refs[f"{name}.{names[VDI(self.sr, ref).snapshot_of]}"] = ref

    # --- looking at it -------------------------------------------------------------------

    def _visible(self) -> dict[str, Mapping[str, Any]]:
        """Records of all disks that users see.

        From the toolstack's own tables: over the wire, where `check` reads them in the end, they
        take as long as a snapshot.
        """
        rows = self.sr.host.xapi.xapi.db.copy(["VDI"])
        return {
            key.ref: row for key, row in rows.items() if row["SR"] == self.sr.ref and row["managed"]
        }

    def _differences(self) -> list[str]:
        """Between the records and the world."""
        records = self._visible()
        names = {self._refs.get(name): name for name in self.world.disks}
        found = [f"{name} is gone" for ref, name in names.items() if ref not in records]
        found += [f"a disk too many: {records[ref]['uuid']}" for ref in records if ref not in names]
        for ref in records.keys() & names.keys():
            found += self._about(names[ref], records[ref])
        allocated = self.sr.host.xapi.xapi.db.get("SR", self.sr.ref, "virtual_allocation")
        expected = sum(disk.content.size for disk in self.world.disks.values())
        if allocated != expected:
            found.append(f"virtual_allocation is {allocated}, expected {expected}")
        return found

    def _about(self, name: str, record: Mapping[str, Any]) -> list[str]:
        disk = self.world.disks[name]
        facts: dict[str, tuple[object, object]] = {
            "virtual_size": (int(record["virtual_size"]), disk.content.size),
            "is_a_snapshot": (record["is_a_snapshot"], bool(disk.of)),
        }
        if not disk.of or disk.of in self.world.disks:
            of = self._refs[disk.of] if disk.of else _NULL
            facts["snapshot_of"] = (record["snapshot_of"], of)
        if disk.tracked is not None:
            facts["cbt_enabled"] = (record["cbt_enabled"], disk.tracked)
        identity = {key: record[key] for key in _IDENTITY}
        known = self._identities.setdefault(self._refs[name], identity)
        facts |= {key: (identity[key], known[key]) for key in _IDENTITY}
        return [
            f"{key} of {name} is {there!r}, expected {expected!r}"
            for key, (there, expected) in facts.items()
            if there != expected
        ]

    def _content_differences(self) -> list[str]:
        """Between every byte and the world. Open disks are read through their devices."""
        closed = [name for name, disk in self.world.disks.items() if not disk.attached]
        uuids = {name: self._identities[self._refs[name]]["uuid"] for name in closed}
        try:
            seen = contents(self.sr, uuids.values())
        except KeyError as error:
            return [f"an image cannot be read: {error}"]
        found = [self._difference(name, seen[uuid]) for name, uuid in uuids.items()]
        for name, vbd in self._vbds.items():
            size = self.world.disks[name].content.size
            found.append(self._difference(name, self.sr.host.read(self._device(vbd), 0, size)))
        return [text for text in found if text]

    def _difference(self, name: str, seen: bytes) -> str:
        model = self.world.disks[name].content
        expected = model.piece(0, model.size)
        if seen == expected:
            return ""
        pairs = enumerate(zip(seen, expected, strict=False))
        where = next((at for at, (a, b) in pairs if a != b), min(len(seen), len(expected)))
        return f"{name} has other content than it must have, from byte {where} on"

    def _untold_changes(self) -> Iterator[str]:
        """Where a backup that trusts a list of changed blocks would be wrong."""
        for name, disk in self.world.disks.items():
            target = self.world.disks.get(disk.of)
            if target is None or not (disk.tracked and target.tracked):
                continue
            try:
                listed = self.sr.api.VDI.list_changed_blocks(self._refs[name], self._refs[disk.of])
            except XenAPI.Failure as failure:
                if failure.details[0] not in _NO_LIST:
                    raise
                continue  # no list makes a backup a full copy
            yield from untold(name, disk.of, b64decode(listed), disk.content, target.content)

    def _must_hold(self, number: int, found: Sequence[str]) -> None:
        if found:
            raise Wrong(number, found)

    def _end(self, number: int) -> None:
        """Everything, at rest; what an open disk shows is compared before it is closed."""
        for name in list(self._vbds):
            self._must_hold(number, self._content_differences())
            self._detach(name)
            self.world.do(Detach(name))
        self._must_hold(number, self._differences() or self._content_differences())
        for name in list(self.world.disks)[-1:]:
            with self._vdi(name).plugged("RO") as device:
                seen = self.sr.host.read(device, 0, self.world.disks[name].content.size)
            self._must_hold(number, [text for text in [self._difference(name, seen)] if text])
        self._must_hold(number, list(self._untold_changes()))
        try:
            check(self.sr)
        except AssertionError as error:
            raise Wrong(number, [str(error)]) from error


def run(sr: Repository, restart: Callable[[], None], program: Program) -> None:
    """Carry out one program on an SR that somebody else has lent.

    Args:
        sr: it has no disk, and is left without one.
        restart: boots the host after a power cut, and plugs its SRs.
        program: see Runner.run.
    """
    Runner(Bed(sr, restart)).run(program)


def untold(old: str, new: str, listed: bytes, before: Model, after: Model) -> Iterator[str]:
    """Pieces that differ and are not in a bitmap, whose first piece is the highest bit.

    A bitmap that ends too early lists nothing of what follows.
    """
    for piece in range(-(-after.size // PIECE)):
        at = piece * PIECE
        differs = before.piece(at, PIECE).ljust(PIECE, b"\0") != after.piece(at, PIECE)
        if differs and not int.from_bytes(listed[piece // 8 :][:1]) & 0x80 >> piece % 8:
            yield f"the changes from {old} to {new} leave out byte {at} and what follows"


def _told(code: str) -> str:
    return f"refused with {code}" if code else "done"
