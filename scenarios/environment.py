"""What the numbers of a run depend on: machine, kernels, packages."""

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

_PACKAGES = ("user-mode-linux", "lvm2", "e2fsprogs", "nfs-kernel-server", "open-iscsi", "python3")


def environment(kernel: str) -> dict[str, str]:
    """What times depend on.

    Args:
        kernel: release of the kernel that the host ran on.
    """
    models = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    pages, page = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return {
        "machine": f"{len(os.sched_getaffinity(0))} of {models[0] if models else '?'}",
        "memory": f"{pages * page >> 20} MiB",
        "load": f"{os.getloadavg()[0]:.1f}",
        "machine's kernel": platform.release(),
        "kernel under test": kernel,
        "Python": platform.python_version(),
        "sr-testbed": metadata.version("sr-testbed"),
        **_package_versions(),
    }


def _package_versions() -> dict[str, str]:
    fields = "${Package} ${Version}\\n"
    done = subprocess.run(
        ["dpkg-query", "-W", "-f", fields, *_PACKAGES],
        capture_output=True,
        text=True,
        check=False,  # one that is not there costs a line, not the run
    )
    return dict(line.split(" ", 1) for line in done.stdout.splitlines())
