"""The field's commands as executables: `vhd-util`, `td-util` and `cbt-util` of this tree.

They start the interpreter and the package that wrote them, isolated (`-I`) and without site
packages (`-S`): whatever the caller's environment says, and in a fraction of the usual time.

A program of one of these names decides over disks. So nothing is written where a shell already
looks for programs, and no file that is not ours is replaced.
"""

import os
import shlex
import sys
from pathlib import Path

import srs
from testbed.errors import ToolsRefused

TOOLS = ("cbt-util", "td-util", "vhd-util")
_MARK = "# Written by `testbed tools`, which may replace it.\n"
_LONGEST_SHEBANG = 127


def write_tools(directory: Path) -> list[Path]:
    """Write the commands into ``directory``, which is made if need be; the files.

    Raises:
        ToolsRefused: the directory is in PATH, is none, cannot be written, or holds a file of
            such a name that this function did not write.
    """
    _refuse_path(directory)
    files = [directory / name for name in TOOLS]
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for path in files:
            if os.path.lexists(path) and not _ours(path):
                raise ToolsRefused(
                    f"{path} exists and is not ours", hint="name an empty or a new directory"
                )
        for path in files:
            _write(path, _script(path.name))
    except OSError as error:
        reason = f"{error.filename}: {error.strerror}"
        raise ToolsRefused(f"cannot write to {directory}: {reason}") from error
    return files


def _refuse_path(directory: Path) -> None:
    """Raise ToolsRefused if shells look for programs in ``directory``, by whatever name."""
    wanted = os.path.realpath(directory)
    for place in os.get_exec_path():
        if os.path.realpath(place) == wanted:
            raise ToolsRefused(
                f"{directory} is in PATH, where these names could be taken for the system's own",
                hint="name another directory, and put it into the PATH of what shall use them",
            )


def _ours(path: Path) -> bool:
    """True for a regular file that was written by :func:`write_tools`."""
    return path.is_file() and not path.is_symlink() and _MARK.encode() in path.read_bytes()


def _write(path: Path, text: str) -> None:
    """Put a whole executable in place at once: somebody may be starting the old one."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        new.write_text(text)
        new.chmod(0o755)
        new.rename(path)
    finally:
        new.unlink(missing_ok=True)


def _script(name: str) -> str:
    tree = str(Path(srs.__file__).parent.parent)
    return (
        f"{_start(sys.executable)}{_MARK}"
        "import sys\n"
        f"sys.path.append({tree!r})\n"
        "from srs.tools.start import start\n"
        f"start({name.replace('-', '_')!r})\n"
    )


def _start(interpreter: str) -> str:
    """The lines that lead to the interpreter; a shell helps where a first line cannot."""
    line = f"#!{interpreter} -IS\n"
    if len(line) <= _LONGEST_SHEBANG and " " not in interpreter:
        return line
    # To the shell a command, to Python a text.
    return f"#!/bin/sh\n'''exec' {shlex.quote(interpreter)} -IS \"$0\" \"$@\"\n' '''\n"
