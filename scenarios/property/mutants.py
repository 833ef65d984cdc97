"""Wrong drivers: ours, each with one mistake that a driver's author could make.

A mutant is a text of `srs/` and what takes its place. The text must be there exactly once, so a
catalogue that no longer fits the drivers is an error, not a test that tests nothing.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from testbed.errors import TestbedError
from testbed.kernel.guestconfig import ROOT

ANY: Final = ("file", "lvhd")
FILE: Final = ("file",)
LVHD: Final = ("lvhd",)


@dataclass(frozen=True, slots=True)
class Mutant:
    """A mistake.

    Attributes:
        name: says what is wrong.
        module: path below srs/.
        old: what is there.
        new: what a mutant has instead.
        kinds: SR kinds on which it shows.
    """

    name: str
    module: str
    old: str
    new: str
    kinds: tuple[str, ...] = ANY

    def write(self, directory: Path) -> None:
        """A copy of `srs` with this mistake, below a directory.

        Raises:
            TestbedError: the catalogue does not fit the drivers.
        """
        tree = directory / "srs"
        shutil.copytree(ROOT / "srs", tree, ignore=shutil.ignore_patterns("__pycache__"))
        path = tree / self.module
        path.write_text(self.applied(path.read_text(encoding="utf-8")), encoding="utf-8")

    def applied(self, text: str) -> str:
        """The module with this mistake."""
        if (times := text.count(self.old)) != 1:
            raise TestbedError(
                f"mutant {self.name!r}: srs/{self.module} has its text {times} times",
                hint="bring the catalogue (scenarios/property/mutants.py) up to date",
            )
        return text.replace(self.old, self.new)


MUTANTS: Final = (
    # --- revert
    Mutant(
        "revert: the record keeps the old size",
        "revert.py",
        "records.refresh(sr.session, target_ref, record, new)",
        "pass",
    ),
    Mutant(
        "revert: tracking goes on as if nothing had happened",
        "revert.py",
        "sr.tracking.reverted(source.uuid, new, target_ref)",
        "pass",
    ),
    Mutant(
        "revert: what was written to the snapshot is left out",
        "revert.py",
        "    split = sr.has_data(source)\n",
        "    split = False\n",
    ),
    Mutant(
        "revert: the SR's allocation keeps the old size",
        "revert.py",
        "sr.space(), new.size - old.size)",
        "sr.space(), 0)",
    ),
    Mutant(
        "recovery: the journal entry stays",
        "recovery.py",
        "    sr.drop(entry)\n\n\ndef _tell",
        "    pass\n\n\ndef _tell",
    ),
    Mutant(
        "revert: the old image goes before the new one is there",
        "file_replace.py",
        "    with store.new_leaf(target.uuid, like):",
        '    store.remove(f"{target.uuid}.vhd")\n    with store.new_leaf(target.uuid, like):',
        FILE,
    ),
    Mutant(
        "revert: the new leaf stands on the grandparent",
        "file_replace.py",
        "    with store.new_leaf(target.uuid, like):",
        "    if like.parent and store.disk(like.parent).parent:\n"
        "        like = store.disk(store.disk(like.parent).parent)\n"
        "    with store.new_leaf(target.uuid, like):",
        FILE,
    ),
    Mutant(
        "revert: the new leaf has the old size",
        "file_replace.py",
        "    with store.new_leaf(target.uuid, like):",
        "    if not like.parent:\n"
        "        like = type(like)(like.uuid, target.size, 0)\n"
        "    with store.new_leaf(target.uuid, like):",
        FILE,
    ),
    Mutant(
        "revert: the old volume stays",
        "lvhd_replace.py",
        "for name in (layout.incoming_name(uuid), layout.old_name(uuid)):",
        "for name in (layout.incoming_name(uuid),):",
        LVHD,
    ),
    Mutant(
        "recovery of a revert: the old volume does not get its name back",
        "lvhd_replace.py",
        "        store.group.rename(old, current)",
        "        pass",
        LVHD,
    ),
    # --- snapshot and clone
    Mutant(
        "snapshot: a disk with data is taken for one without",
        "snapshot.py",
        "if not sr.has_data(disk):",
        "if True:",
    ),
    Mutant(
        "snapshot: an open disk does not hold still",
        "snapshot.py",
        "    with sr.paused(uuid, ref) as record:\n        if not",
        "    record = sr.session.vdi_record(ref)\n    if True:\n        if not",
    ),
    Mutant(
        "snapshot: the base copy is not hidden",
        "file_split.py",
        "        vhd.set_hidden(store.vhd_path(base), True)",
        "        pass",
        FILE,
    ),
    Mutant(
        "snapshot: the base copy is not hidden, on volumes",
        "lvhd_split.py",
        "vhd.set_hidden(store.path(base), True)  # the commit point",
        "pass",
        LVHD,
    ),
    Mutant(
        "snapshot: the base copy can be written",
        "lvhd_split.py",
        "    store.group.set_readonly(name, True)",
        "    pass",
        LVHD,
    ),
    Mutant(
        "snapshot: the base copy is not made known",
        "snapshot.py",
        "records.introduce(sr.session, sr.ref, split.base, BASE_COPY)",
        "pass",
    ),
    Mutant(
        "snapshot: the SR's allocation does not grow",
        "snapshot.py",
        "records.adjust_space(sr.session, sr.ref, sr.space(), leaf.size)",
        "pass",
    ),
    Mutant(
        "recovery of a split: the base copy stays",
        "file_split.py",
        "    hardlinks.take_back(leaf, below)",
        "    pass",
        FILE,
    ),
    Mutant(
        "recovery: the database is not told",
        "recovery.py",
        "            _tell(sr, uuid, entry, resume=uuid not in blocked)",
        "            pass",
    ),
    # --- resize and delete
    Mutant(
        "resize: the record keeps the old size",
        "cowvdi.py",
        "records.refresh(self.session, self.ref, record, grown)",
        "pass",
    ),
    Mutant(
        "resize: the SR's allocation does not grow",
        "cowvdi.py",
        "growth = grown.size - disk.size",
        "growth = 0",
    ),
    Mutant(
        "resize: a smaller size is taken for the same",
        "cowvdi.py",
        '            raise VDISize(f"shrinking not allowed: {disk.size} to {size} bytes")',
        "            return disk.location",
    ),
    Mutant(
        "resize: the log of changed blocks does not grow",
        "tracking.py",
        "                cbt.resize(self._logs.open(uuid), size)",
        "                pass",
    ),
    Mutant(
        "delete: the log of changed blocks stays",
        "cowvdi.py",
        "        self.sr.tracking.deleted(self.uuid)\n",
        "",
    ),
    Mutant(
        "delete: the SR's allocation does not shrink",
        "cowvdi.py",
        "            grown = -disk.size",
        "            grown = 0",
    ),
    Mutant(
        "delete: the lock stays",
        "cowvdi.py",
        "        locks.remove(self.uuid)\n",
        "",
    ),
    Mutant(
        "delete: the metadata volume still knows the disk",
        "lvhd.py",
        "        self.metadata.delete(uuid)\n\n    def descriptions",
        "        pass\n\n    def descriptions",
        LVHD,
    ),
    # --- the garbage collector
    Mutant(
        "gc: a base copy goes down into a parent that others read",
        "gc/tree.py",
        "bool(self.children(disk.uuid)) and self._is_only_child(disk)",
        "bool(self.children(disk.uuid)) and bool(disk.parent)",
    ),
    Mutant(
        "gc: a disk takes the place of a parent that others read",
        "gc/tree.py",
        "            and self._is_only_child(disk)\n            and parent is not None",
        "            and parent is not None",
    ),
    Mutant(
        "gc: one child is not linked to its new parent",
        "gc/merge.py",
        "            for child in children:\n                self.medium.relink",
        "            for child in children[:1]:\n                self.medium.relink",
    ),
    Mutant(
        "gc: a disk's data are not copied before it takes its parent's place",
        "gc/leaf.py",
        "            vhd.coalesce(medium.path(leaf), progress=_Deadline() if hurry else None)",
        "            pass",
    ),
    # --- the data path
    Mutant(
        "write: zeros are not written",
        "datapath/store.py",
        '        """Write into the top of the chain."""\n',
        "        if not any(data):\n            return\n",
    ),
    Mutant(
        "write: the last sector is not marked as held",
        "vhd/writer.py",
        "self._write(block, bitmap.span(first, stop), [(first, [piece])])",
        "self._write(block, bitmap.span(first, max(first + 1, stop - 1)), [(first, [piece])])",
    ),
    Mutant(
        "write: every block counts as full",
        "vhd/writer.py",
        "self._grown.items() if bits == bitmap.FULL)",
        "self._grown.items() if bits)",
    ),
    Mutant(
        "tracking: the last piece of a write is not marked",
        "datapath/tracker.py",
        "(offset + length - 1) // cbt.PIECE + 1):",
        "(offset + length - 1) // cbt.PIECE or 1):",
    ),
    Mutant(
        "tracking: what a snapshot knew goes with it",
        "tracking.py",
        "            cbt.coalesce(self._logs.open(uuid), path)\n",
        "",
    ),
    Mutant(
        "tracking: a snapshot that was written to is still believed",
        "tracking.py",
        "cbt.set_fields(path, consistent=0, child=_NOBODY)",
        "cbt.set_fields(path, consistent=0)",
    ),
    # --- attach and detach
    Mutant(
        "detach: the link stays",
        "cowvdi.py",
        "            self.sr.close_disk(self.uuid)\n",
        "            self.sr.close_disk(self.uuid)\n            return\n",
    ),
    Mutant(
        "detach: volumes stay active",
        "lvhd.py",
        "        self.group.deactivate(*(self.store.volume_of(each).name for each in there))",
        "        pass",
        LVHD,
    ),
    Mutant(
        "attach: the footer stays where the volume ended",
        "lvhd_store.py",
        "vhd.set_physical_size(self.group.path(volume.name), self.group.volume(volume.name).size)",
        "pass",
        LVHD,
    ),
)
