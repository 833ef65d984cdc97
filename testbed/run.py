"""The one place of this room that runs programs of this machine and waits for them.

(The kernel itself is not waited for: testbed/kernel/process.py starts that.)
"""

from collections.abc import Sequence

import sh

from testbed.errors import CommandFailed, PackageMissing

#: Debian packages, by the program that they bring.
PACKAGES = {
    "e2fsck": "e2fsprogs",
    "linux.uml": "user-mode-linux",
    "lvm": "lvm2",
    "mkfs.ext4": "e2fsprogs",
    "qemu-img": "qemu-utils",
}


def run(argv: Sequence[str]) -> str:
    """Run a program and return what it printed on stdout.

    Standard input is empty, the locale is C, both outputs are captured.

    Raises:
        CommandFailed: it exited with another status than 0; the error can be pasted.
        PackageMissing: there is no such program.
    """
    program, *arguments = argv
    try:
        return str(
            sh.Command(program)(
                *arguments, _env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
            )
        )
    except sh.CommandNotFound as error:
        raise PackageMissing(program, PACKAGES.get(program, "(unknown)")) from error
    except sh.ErrorReturnCode as error:
        output = (error.stdout + error.stderr).decode(errors="replace")
        raise CommandFailed(argv, error.exit_code, output) from error
