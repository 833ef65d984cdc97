r"""Reference counts of active volumes: files that live as long as the host runs.

    Exception
    └── LVMRefCount (104, srs.errors)     a file that cannot be kept

`/run/sm/refcount/lvm-<SR uuid>/<VDI uuid>` holds `"<normal> <binary>\n"` (reference: the
format of XenServer's storage manager). binary is 1 while the disk itself is attached here;
normal counts the attached disks that read through the volume as one of their ancestors. A
volume may be deactivated when the file is gone. Whoever changes counts holds the SR's lock.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from srs import paths
from srs.errors import LVMRefCount


@dataclass(frozen=True, slots=True)
class Count:
    """Users of a volume on this host."""

    normal: int = 0
    binary: int = 0

    @property
    def used(self) -> bool:
        """Whether the volume must stay active."""
        return self.normal > 0 or self.binary > 0


class RefCounts:
    """The counts of an SR's volumes.

    Args:
        namespace: `lvm-<SR uuid>`.
        root: directory of all namespaces, for tests.
    """

    def __init__(self, namespace: str, root: str = paths.REFCOUNTS) -> None:
        self._directory = os.path.join(root, namespace)

    def get(self, vdi: str) -> Count:
        """The count of a volume; zero where there is no file.

        Raises:
            LVMRefCount: the file does not hold a count.
        """
        path = os.path.join(self._directory, vdi)
        try:
            with open(path, encoding="ascii") as file:
                normal, binary = map(int, file.read().split())
        except FileNotFoundError:
            return Count()
        except ValueError as error:
            raise LVMRefCount(f"{path}: {error}") from error
        return Count(normal, binary)

    def set(self, vdi: str, count: Count) -> None:
        """Write a count; a count of zero removes the file.

        Raises:
            LVMRefCount: negative, or the file cannot be written.
        """
        path = os.path.join(self._directory, vdi)
        if count.normal < 0 or count.binary not in (0, 1):
            raise LVMRefCount(f"{path}: {count.normal} {count.binary}")
        try:
            if not count.used:
                self._remove(path)
                return
            os.makedirs(self._directory, exist_ok=True)
            # Renamed into place, so that a reader never sees half a count.
            with open(path + ".new", "w", encoding="ascii") as file:
                file.write(f"{count.normal} {count.binary}\n")
            os.rename(path + ".new", path)
        except OSError as error:
            raise LVMRefCount(f"{path}: {error.strerror}") from error

    @staticmethod
    def _remove(path: str) -> None:
        try:
            os.unlink(path)
        except FileNotFoundError:
            return

    def attached(self) -> list[str]:
        """The disks that are attached here."""
        return [vdi for vdi in self._names() if self.get(vdi).binary]

    def recount(self, chains: Iterable[Sequence[str]]) -> None:
        """Make the counts what the attached disks need: each chain is a disk and its ancestors.

        Computed afresh rather than changed by one, so that it can be repeated after a crash.
        """
        wanted: dict[str, Count] = {}
        for leaf, *ancestors in chains:
            wanted[leaf] = Count(wanted.get(leaf, Count()).normal, 1)
            for ancestor in ancestors:
                count = wanted.get(ancestor, Count())
                wanted[ancestor] = Count(count.normal + 1, count.binary)
        for vdi in {*self._names(), *wanted}:
            self.set(vdi, wanted.get(vdi, Count()))

    def reset(self) -> None:
        """Forget all counts: nothing can be attached before the SR is."""
        self.recount([])

    def _names(self) -> list[str]:
        try:
            return [name for name in os.listdir(self._directory) if not name.endswith(".new")]
        except FileNotFoundError:
            return []
