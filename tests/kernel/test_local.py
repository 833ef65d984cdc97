"""The `local` kernel, tried on a kernel that may be spoiled: inside a guest.

In there this test is root, and device-mapper, loop and nbd exist: what a VM of a user has.
"""

import sys
from pathlib import Path

import pytest

from testbed.guest.setup import HOST_ROOT
from testbed.kernel.guestconfig import ROOT
from testbed.kernel.uml import UmlKernel
from testbed.state import StateDirectory, base

#: A checkout below /tmp is hidden in there, and has another name.
_INSIDE = {
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONPATH": f"{HOST_ROOT}{ROOT}",
    "COLUMNS": "120",
}


def python(guest: UmlKernel, *arguments: str) -> str:
    """Run this environment's Python in a guest; its status must be 0."""
    interpreter = HOST_ROOT + str(Path(sys.executable).absolute())
    done = guest.run([interpreter, *arguments], _INSIDE)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("kind", ["file", "lvhd"])
def test_a_revert_on_the_machine_s_own_kernel(kind: str) -> None:
    """A scenario passes, and every device, mount and process is given back."""
    state = StateDirectory(base(), "local")
    guest = UmlKernel(state, "machine", memory=768 << 20)
    try:
        guest.boot()
        before = guest.call("census", roots=["/tmp", "/dev/shm"])
        argv = ["-m", "testbed", "run", "-n", "1", "--kernel", "local", "--sr", kind]
        output = python(guest, *argv, "revert/test_revert.py", "-k", "identity")
        assert "1 passed" in output
        assert guest.call("census", roots=["/tmp", "/dev/shm"]) == before
    finally:
        guest.power_off()
        state.close()


def test_why_it_cannot_run_is_said(guest: UmlKernel) -> None:
    """An ordinary user, and a kernel without the drivers."""
    code = (
        "import os; from testbed.kernel.local import LocalKernel\n"
        "os.unlink('/dev/nbd0'); print(LocalKernel.missing())\n"
        "os.setuid(1000); print(LocalKernel.missing())"
    )
    said = python(guest, "-c", code).splitlines()
    assert said == ["this machine's kernel has no nbd", "needs root"]
