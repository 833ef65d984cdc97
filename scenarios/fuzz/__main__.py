"""Damaged disks by the million, made with atheris, for the VHD engine to refuse.

Give seconds (60), or inputs that an earlier run saved. Exit status: 0 nothing was found · 1 a
promise was broken, the input is saved · 2 it could not run.
"""

import argparse
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

FOUND, COULD_NOT_RUN = 1, 2
_MEMORY = Path("/dev/shm")


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="ci/fuzz", description=__doc__)
    parser.add_argument("what", nargs="*", default=["60"], metavar="SECONDS | INPUT")
    parser.add_argument("--seed", type=int, default=1, help="the same seed, the same inputs")
    parser.add_argument("--found", type=Path, default=Path("build/fuzz"), help="where to save")
    options = parser.parse_args()
    if find_spec("atheris") is None:
        print("ci/fuzz: atheris is not installed: pip install '.[fuzz]'", file=sys.stderr)
        return COULD_NOT_RUN
    options.found.mkdir(parents=True, exist_ok=True)
    flags = [f"-seed={options.seed}", f"-artifact_prefix={options.found}/"]
    flags += ["-timeout=20", "-print_final_stats=1"]
    home = _MEMORY if _MEMORY.is_dir() else None
    # In a process of its own, because the fuzzer ends its process without cleaning up.
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=home) as directory:
        if options.what[0].isdigit():
            Path(directory, "corpus").mkdir()
            flags.append(f"-max_total_time={options.what[0]}")
        else:
            flags += options.what
        target = [sys.executable, "-m", "scenarios.fuzz.target", directory, *flags]
        status = subprocess.run(target, check=False).returncode
    return FOUND if status else 0


if __name__ == "__main__":
    sys.exit(main())
