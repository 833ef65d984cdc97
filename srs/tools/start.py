"""Starting a command in half of the time that imports would take.

A driver runs a command for each question, and waits. Two things are put off:

- `inspect`, which `dataclasses` imports for classes without a docstring, and which itself imports a
  parser, a disassembler and a tokenizer;
- `srs.vhd`, whose ``__init__`` imports the whole engine for the convenience of programs. Commands
  name the modules that they need (a test sees to that), so its place is taken by a package that is
  only the directory.
"""

import sys
from types import ModuleType


class _Later(ModuleType):
    """Stands for a module until its first attribute is asked for."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)  # The import system asks whether it is being imported.
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        module = __import__(self.__name__)
        self.__dict__.update(module.__dict__)
        return getattr(module, name)


def put_off(name: str) -> None:
    """Import the top-level module ``name`` later, unless that has happened already."""
    sys.modules.setdefault(name, _Later(name))


def without_init(name: str) -> None:
    """Let modules of the package ``name`` be imported without its ``__init__``.

    The package that it is in has been imported; if it has been itself, nothing happens.
    """
    parent, _, last = name.rpartition(".")
    package = ModuleType(name)
    package.__path__ = [f"{place}/{last}" for place in sys.modules[parent].__path__]
    sys.modules.setdefault(name, package)


def start(module: str) -> None:
    """Be the command whose ``main`` is in ``srs.tools.<module>``."""
    put_off("inspect")
    without_init("srs.vhd")
    from srs.tools.frame import program

    program(__import__(f"srs.tools.{module}", fromlist=["main"]).main)
