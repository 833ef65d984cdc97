"""Which module files a guest must load, in which order.

`modules.dep` (see depmod(8)) lists for each module all modules it needs, last to load first.
Built-in ones are not listed, and need nothing.
"""

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from testbed.errors import TestbedError


class ModuleUnknown(TestbedError):
    """The kernel has no such module, neither built in nor as a file."""

    def __init__(self, name: str, tree: Path) -> None:
        self.name = name
        self.tree = tree
        super().__init__(f"the kernel of {tree} has no module {name!r}")


def _name(path: str) -> str:
    return path.rpartition("/")[2].partition(".ko")[0].replace("-", "_")


@lru_cache
def _read(tree: Path) -> tuple[dict[str, list[str]], set[str]]:
    """Per module name its files in load order; and the names that are built in."""
    files = {}
    for line in (tree / "modules.dep").read_text().splitlines():
        path, _, needs = line.partition(":")
        files[_name(path)] = [*reversed(needs.split()), path]
    built_in = {_name(line) for line in (tree / "modules.builtin").read_text().splitlines()}
    return files, built_in


def load_order(tree: Path, names: Iterable[str]) -> list[str]:
    """Absolute paths of the files to load for `names`, dependencies first, each once.

    Args:
        tree: the kernel's module directory, such as /lib/modules/<release>.
        names: module names; `-` and `_` mean the same.

    Raises:
        ModuleUnknown: the kernel has no such module.
    """
    files, built_in = _read(tree)
    ordered: dict[str, None] = {}
    for name in (wanted.replace("-", "_") for wanted in names):
        if name not in files and name not in built_in:
            raise ModuleUnknown(name, tree)
        ordered.update((str(tree / path), None) for path in files.get(name, ()))
    return list(ordered)
