"""Modules that are imported when something of them is used, to start in less time.

Every command stands on `dataclasses`, which imports `inspect` for classes without a docstring,
and that a parser, a disassembler and a tokenizer: together a third of the time to start.
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
    """Import the module ``name`` later, unless that has happened already."""
    sys.modules.setdefault(name, _Later(name))
