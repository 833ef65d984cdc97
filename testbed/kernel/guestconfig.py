"""The script that a guest starts with, and what it is told.

The kernel's command line cannot carry a space, so everything travels in a small Python file
in the state directory whose path has none: where the code is, and the configuration.
"""

import compileall
import importlib.util
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

from testbed.errors import DeviceRefused, PackageMissing
from testbed.run import run

#: The directory that holds the packages testbed and srs.
ROOT = Path(__file__).resolve().parents[2]

_DEBIAN_PYTHON = Path("/usr/bin/python3")

_SCRIPT = """\
import time
started = time.monotonic()
import sys
sys.path[:0] = {path!r}
from testbed.guest import boot
boot.main({config!r}, started)
"""


@lru_cache
def interpreter() -> Path:
    """The Python that guests run: Debian's own, which starts faster there than any other.

    Raises:
        PackageMissing: it is not installed.
    """
    if not _DEBIAN_PYTHON.exists():
        raise PackageMissing(str(_DEBIAN_PYTHON), "python3")
    return _DEBIAN_PYTHON.resolve()


@lru_cache
def compile_sources(tree: Path = ROOT) -> None:
    """Byte-compile what the guest imports: it cannot write, and compiling costs seconds.

    Directories that this user cannot write are left alone: they were installed compiled.

    Args:
        tree: the directory that holds the package `srs`.

    Raises:
        DeviceRefused: it holds none.
    """
    if not (tree / "srs" / "__init__.py").is_file():
        raise DeviceRefused(f"{tree} holds no package `srs`")
    directories = [str(tree / "srs"), str(ROOT / "testbed" / "guest")]
    tag = run([str(interpreter()), "-I", "-S", "-c", _SHOW_MAGIC]).strip()
    if tag == importlib.util.MAGIC_NUMBER.hex():
        for directory in filter(_writable, directories):
            compileall.compile_dir(directory, quiet=2)
        if _writable(str(ROOT / "testbed")):
            compileall.compile_file(ROOT / "testbed" / "__init__.py", quiet=2)
    else:
        run([str(interpreter()), "-I", "-m", "compileall", "-q", *filter(_writable, directories)])


_SHOW_MAGIC = "import importlib.util as u; print(u.MAGIC_NUMBER.hex())"


def _writable(directory: str) -> bool:
    return os.access(directory, os.W_OK)


def write_script(path: Path, config: dict[str, Any], tree: Path = ROOT) -> None:
    """Write the start script; `config` is read by testbed/guest/setup.py, `tree` as above."""
    places = [str(place) for place in dict.fromkeys((tree, ROOT))]
    path.write_text(_SCRIPT.format(path=places, config=config), encoding="utf-8")
