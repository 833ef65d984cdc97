"""Parts of the testbed that need no kernel."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from testbed import cli
from testbed.devices.disk import TiB, create_file
from testbed.errors import CommandFailed, DeviceRefused, KernelUnavailable, PackageMissing
from testbed.host import seeded_uuids
from testbed.kernel import choose
from testbed.kernel.base import Kernel
from testbed.kernel.console import Console
from testbed.kernel.local import LocalKernel
from testbed.kernel.modules import ModuleUnknown, load_order
from testbed.kernel.uml import UmlKernel
from testbed.run import run
from testbed.state import StateDirectory, sweep


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A module directory: c needs b, b needs a; d is built in."""
    (tmp_path / "modules.dep").write_text(
        "kernel/a.ko:\nkernel/dm-b.ko: kernel/a.ko\nkernel/c.ko: kernel/dm-b.ko kernel/a.ko\n"
    )
    (tmp_path / "modules.builtin").write_text("kernel/fs/d.ko\n")
    return tmp_path


def test_modules_load_after_what_they_need(tree: Path) -> None:
    names = [Path(path).name for path in load_order(tree, ["c", "dm-b", "d"])]
    assert names == ["a.ko", "dm-b.ko", "c.ko"]
    with pytest.raises(ModuleUnknown, match="'e'"):
        load_order(tree, ["e"])


def test_a_state_directory_goes_with_its_owner(tmp_path: Path) -> None:
    parent = tmp_path / "states"
    state = StateDirectory(parent, "one")
    (state.path / "file").touch()
    assert sweep(parent) == []
    state.close()
    state.close()
    assert not parent.exists()


def test_a_kept_state_directory_stays(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path / "states", "one")
    (state.path / "file").touch()
    state.keep = True
    state.close()
    StateDirectory(tmp_path / "states", "two").close()
    assert (state.path / "file").exists()


def test_what_a_killed_owner_left_is_swept(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from testbed.state import StateDirectory\n"
        "print(StateDirectory(Path(sys.argv[1]), 'dead').path, flush=True); os._exit(1)"
    )
    argv = [sys.executable, "-c", code, str(tmp_path / "states")]
    done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=False)
    left = Path(done.stdout.strip())
    assert left.exists()
    StateDirectory(tmp_path / "states", "next").close()
    assert not left.exists()


def test_the_console_is_bounded_and_hides_noise() -> None:
    console = Console()
    for number in range(5000):
        os.write(console.write_end, b"line %d\n" % number)
    os.write(console.write_end, b"[    0.4] [<6067bb96>] ? dump_stack\nlast words")
    console.started()
    console.finish(10)
    assert console.tail(3) == "line 4998\nline 4999\nlast words"
    assert len(console.tail(10_000).splitlines()) <= 2001


def test_a_failing_program_can_be_pasted() -> None:
    with pytest.raises(CommandFailed) as caught:
        run(["sh", "-c", "echo why it failed >&2; exit 7"])
    assert caught.value.returncode == 7
    assert "$ sh -c 'echo why it failed >&2; exit 7'" in str(caught.value)
    assert "| why it failed" in str(caught.value)
    with pytest.raises(PackageMissing, match="no-such-program is missing"):
        run(["no-such-program"])


def test_disks_of_any_size_cost_nothing(tmp_path: Path) -> None:
    path = create_file(tmp_path / "huge", 2 * TiB)
    assert path.stat().st_size == 2 * TiB
    assert path.stat().st_blocks == 0
    with pytest.raises(DeviceRefused):
        create_file(tmp_path / "none", 0)


def test_seeded_uuids_replay() -> None:
    first, again, other = seeded_uuids(7), seeded_uuids(7), seeded_uuids(8)
    sequence = [first() for _ in range(5)]
    assert sequence == [again() for _ in range(5)]
    assert len(set(sequence)) == 5
    assert other() not in sequence


def test_auto_takes_the_first_kernel_that_can_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(kind: type[Kernel], reason: str) -> None:
        monkeypatch.setattr(kind, "missing", classmethod(lambda cls: reason))

    answer(UmlKernel, "")
    answer(LocalKernel, "")
    assert choose("auto") is UmlKernel
    answer(UmlKernel, "no linux.uml")
    assert choose("auto") is LocalKernel
    answer(LocalKernel, "needs root")
    with pytest.raises(KernelUnavailable) as caught:
        choose("auto")
    assert "uml: no linux.uml; local: needs root" in str(caught.value)
    assert "apt-get install user-mode-linux" in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "no-such-group"], ["no scenario", "groups:", "revert"]),
        (["run", "--sr", "no-such-kind", "revert"], ["no such SR kind", "lvhd"]),
        (["run", "--html", "/no/such/place/x.html"], ["--html: there is no directory"]),
        (["mutants", "--jobs", "0"], ["--jobs: '0' is no number above 0"]),
        (["crash", "--random", "-1"], ["--random: '-1' is no number above 0"]),
        (["crash", "--states", "few"], ["--states: 'few' is no number above 0"]),
        (["crash", "--fist", "--html", "x.html"], ["not with --replay, --random or --fist"]),
        (["crash", "--html", "/"], ["--html: / is a directory"]),
        (["bench", "--rounds", "-1"], ["--rounds: '-1' is no number above 0"]),
        (["bench", "--json", "/no/such/place/x"], ["--json: there is no directory"]),
    ],
)
def test_bad_arguments_could_not_run(
    arguments: list[str], words: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    """Status 2, a sentence, no traceback."""
    argv = [sys.executable, "-m", "testbed", *arguments]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == cli.COULD_NOT_RUN
    said = done.stdout + done.stderr
    assert all(word in said for word in words)
    assert "Traceback" not in said
