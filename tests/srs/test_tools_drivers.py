"""Sequences of commands as storage drivers give them: a file SR by real executables, LVM by calls.

They look at nothing but stdout and exit status, as drivers do.
"""

import os
import random
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from readers import by_us

from srs import vhd
from srs.tools import vhd_util

MIB = 1 << 20
TREE = Path(__file__).parents[2]
START = """\
import sys
sys.path.append({tree!r})
from srs.tools.start import start
start({module!r})
"""


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., str]:
    """Run a command in the SR's directory; its stdout. It must not fail."""

    def call(name: str, *words: object, status: int = 0) -> str:
        start = START.format(tree=str(TREE), module=name.replace("-", "_"))
        done = subprocess.run(
            [sys.executable, "-IS", "-c", start, *map(str, words)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, bool(done.stderr)) == (status, status != 0), done.stderr
        return done.stdout

    return call


def write(path: Path, offset: int, data: bytes) -> None:
    with vhd.open_chain(path, writable=True) as disk:
        disk.write(offset, data)


def test_file_driver(tmp_path: Path, run: Callable[..., str]) -> None:
    """Create, snapshot, resize, scan, delete the snapshot's child, coalesce, scan."""
    a, base = tmp_path / "a.vhd", tmp_path / "base.vhd"
    run("td-util", "create", "vhd", 19, a)
    assert run("td-util", "query", "vhd", "-vpf", a).splitlines() == [
        "20",
        f"{a} has no parent",
        "hidden: 0",
    ]
    model = bytearray(20 * MIB)
    model[MIB : 5 * MIB] = random.Random(1).randbytes(4 * MIB)
    write(a, 0, bytes(model))

    # Snapshot: the disk becomes the base copy, two children take its place.
    assert run("vhd-util", "query", "-d", "-n", a) == "chain depth: 1\n"
    os.link(a, base)
    run("td-util", "snapshot", "vhd", "a.vhd.new", "base.vhd")
    os.rename(f"{a}.new", a)
    run("td-util", "snapshot", "vhd", "s.vhd", "base.vhd")
    run("vhd-util", "set", "-n", base, "-f", "hidden", "-v", 1)
    for child in (a, tmp_path / "s.vhd"):
        assert run("td-util", "query", "vhd", "-p", child) == f"{base}\n"
    assert run("td-util", "query", "vhd", "-vpf", base).splitlines()[2].split()[1] == "1"

    # The disk grows; its table has no room for that.
    run("vhd-util", "resize", "-s", 400, "-n", a, "-j", tmp_path / ".journal-a")
    assert not (tmp_path / ".journal-a").exists()
    assert run("td-util", "query", "vhd", "-v", a) == "400\n"
    model += bytes(4 * MIB)
    write(a, 20 * MIB - 512, b"n" * 1024)
    model[20 * MIB - 512 : 20 * MIB + 512] = b"n" * 1024

    # A scan, as one line for each disk; then what the lines are looked at for.
    names = {}
    for line in run("vhd-util", "scan", "-f", "-m", tmp_path / "*.vhd").splitlines():
        fields = dict(re.findall(r"(\S+?)=(\S+)", line))
        assert "scan-error" not in fields
        names[fields["vhd"]] = fields
    assert {name: fields["parent"] for name, fields in names.items()} == {
        "a.vhd": "base.vhd",
        "s.vhd": "base.vhd",
        "base.vhd": "none",
    }
    assert {name: fields["hidden"] for name, fields in names.items()} == {
        "a.vhd": "0",
        "s.vhd": "0",
        "base.vhd": "1",
    }
    assert names["a.vhd"]["capacity"] == str(400 * MIB)
    assert names["a.vhd"]["size"] == str(a.stat().st_size)
    assert run("vhd-util", "key", "-p", "-n", a) == "none\n"

    # The snapshot goes. A second one, then the middle of the chain is coalesced into the base.
    (tmp_path / "s.vhd").unlink()
    middle = tmp_path / "middle.vhd"
    os.link(a, middle)
    run("td-util", "snapshot", "vhd", "a.vhd.new", "middle.vhd")
    os.rename(f"{a}.new", a)
    run("vhd-util", "set", "-n", middle, "-f", "hidden", "-v", 1)
    assert run("vhd-util", "check", "-n", middle) == f"{middle} is valid\n"
    assert run("vhd-util", "check", "-B", "-n", base) == f"{base} is valid\n"
    assert run("vhd-util", "query", "-n", base, "-v") == "20\n"
    run("vhd-util", "coalesce", "-n", middle, status=34)
    run("vhd-util", "resize", "-s", 400, "-n", base, "-j", tmp_path / ".journal-base")
    merged = run("vhd-util", "coalesce", "--debug", "-n", middle)
    assert re.fullmatch(r"Coalesced (\d+) sectors", merged)
    assert run("vhd-util", "check", "-B", "-n", base) == f"{base} is valid\n"
    run("vhd-util", "modify", "-n", a, "-p", base)
    middle.unlink()
    physical = str(a.stat().st_size)
    lines = ["400", physical, str(base), "hidden: 0", "chain depth: 2"]
    assert run("vhd-util", "query", "-n", a, "-vsfpd").splitlines() == lines
    assert run("vhd-util", "check", "-p", "-n", a).count(" is valid\n") == 2
    with vhd.open_chain(a) as disk:
        assert disk.read(0, len(model)) == model


def test_file_driver_when_nothing_was_written(tmp_path: Path, run: Callable[..., str]) -> None:
    """The children of an empty disk are linked past it, so its base copy is not needed."""
    run("td-util", "create", "vhd", 20, "root.vhd")
    run("td-util", "snapshot", "vhd", "a.vhd", "root.vhd")
    os.link(tmp_path / "a.vhd", tmp_path / "base.vhd")
    run("td-util", "snapshot", "vhd", "a.vhd.new", "base.vhd")
    os.rename(tmp_path / "a.vhd.new", tmp_path / "a.vhd")
    assert run("td-util", "query", "vhd", "-p", "a.vhd") == f"{tmp_path}/root.vhd\n"


def test_td_util_refuses(tmp_path: Path, run: Callable[..., str]) -> None:
    for words in (
        ("create", "aio", 20, "a"),
        ("create", "vhd", 20),
        ("create", "vhd", 20, "a", "b"),
        ("create", "vhd", "x", "a"),
        ("create",),
        ("set", "vhd", "a", "hidden"),
        ("query", "vhd", "-a", "x"),
        ("resize", "vhd", "x"),
    ):
        run("td-util", *words, status=22)
    assert os.listdir(tmp_path) == []
    assert run("td-util", "query", "vhd", "-v", "gone", status=2) == "error opening gone: -2\n"


def test_td_util_believes_the_backup_footer_when_told(
    tmp_path: Path, run: Callable[..., str]
) -> None:
    run("td-util", "create", "vhd", 20, "a.vhd")
    run("td-util", "set", "vhd", "a.vhd", "hidden", 1)
    with (tmp_path / "a.vhd").open("r+b") as file:
        file.seek(0)
        backup = bytearray(file.read(512))
        backup[85], backup[64:68] = 0, bytes(4)
        backup[64:68] = (~sum(backup) & 0xFFFFFFFF).to_bytes(4, "big")
        file.seek(0)
        file.write(backup)
    assert run("td-util", "query", "vhd", "-f", "a.vhd") == "hidden: 1\n"
    assert run("td-util", "query", "vhd", "-fb", "a.vhd") == "hidden: 0\n"


class Volume:
    """A loop device that grows and shrinks like a logical volume, with stale bytes in it."""

    def __init__(self, file: Path, size: int) -> None:
        self.file = file
        file.write_bytes(random.Random(str(file)).randbytes(1 << 20) * (size >> 20))
        self.path = self._losetup("--find", "--show", str(file))

    @staticmethod
    def _losetup(*words: str) -> str:
        done = subprocess.run(["losetup", *words], check=True, capture_output=True, text=True)
        return done.stdout.strip()

    @property
    def size(self) -> int:
        return self.file.stat().st_size

    def resize(self, size: int) -> None:
        old = self.size
        with self.file.open("r+b") as file:
            file.truncate(size)
            if size > old:
                file.seek(old)
                file.write(random.Random(size).randbytes(1 << 20) * ((size - old) >> 20))
        self._losetup("--set-capacity", self.path)

    def close(self) -> None:
        self._losetup("--detach", self.path)


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Callable[[str, int], Volume]]:
    if os.geteuid() or not os.path.exists("/dev/loop-control"):
        pytest.skip("loop devices need root and the loop driver")
    made: list[Volume] = []

    def make(name: str, size: int) -> Volume:
        made.append(Volume(tmp_path / name, size))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def util(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run `vhd-util` in this process; its stdout. It must not fail."""

    def call(*words: object, status: int = 0) -> str:
        capsys.readouterr()
        assert vhd_util.main([str(word) for word in words]) == status
        return capsys.readouterr().out

    return call


def grown(size: int) -> int:
    """A volume for a whole disk of ``size`` bytes: data, bitmaps, metadata of 2 TiB."""
    needed = size + 4329472 + 4096 * (size >> 21)
    return -(-needed // (4 * MIB)) * 4 * MIB


def test_lvm_driver(
    volume: Callable[[str, int], Volume], util: Callable[..., str], tmp_path: Path
) -> None:
    """Create, write, snapshot with deflate, inflate, resize, coalesce, all on devices."""
    thin = 8 * MIB
    size = 12 * MIB
    base = volume("base", grown(size))
    util("create", "-n", base.path, "-s", 12, "-S", 2097152)
    assert util("query", "-n", base.path, "-vsaf").splitlines() == [
        "12",
        "4327936",
        "hidden: 0",
        "0",
    ]
    model = bytearray(size)
    model[0 : 3 * MIB] = random.Random(2).randbytes(3 * MIB)
    write(Path(base.path), 0, bytes(model[: 3 * MIB]))

    # Snapshot: the base is cut to what it holds, two children are made, then it is hidden.
    needed = int(util("query", "-n", base.path, "-s"))
    deflated = -(-needed // (4 * MIB)) * 4 * MIB
    assert needed <= deflated < base.size
    util("modify", "-n", base.path, "-s", deflated)
    base.resize(deflated)
    leaf, other = volume("leaf", grown(size)), volume("other", thin)
    for child in (leaf, other):
        util("snapshot", "-n", child.path, "-p", base.path, "-S", 2097152)
        assert util("query", "-n", child.path, "-p") == f"{base.path}\n"
    util("set", "-n", base.path, "-f", "hidden", "-v", 1)
    assert util("query", "-n", base.path, "-vsf").splitlines() == ["12", str(needed), "hidden: 1"]

    # The thin child becomes a whole one: the volume grows, its end is zeroed, the footer moves.
    other.resize(grown(size))
    with open(other.path, "r+b") as file:
        file.seek(-512, os.SEEK_END)
        file.write(bytes(512))
    util("modify", "-n", other.path, "-s", other.size)
    assert util("check", "-n", other.path) == f"{other.path} is valid\n"

    # A fast resize; then the leaf's data go down into the base, which is grown for it.
    leaf.resize(grown(2 * size))
    util("modify", "-n", leaf.path, "-s", leaf.size)
    util("resize", "-f", "-s", 24, "-n", leaf.path)
    model += bytes(size)
    model[2 * MIB : 2 * MIB + 512] = b"x" * 512
    model[-512:] = b"y" * 512
    write(Path(leaf.path), 2 * MIB, b"x" * 512)
    write(Path(leaf.path), 2 * size - 512, b"y" * 512)
    assert by_us(Path(leaf.path)) == model
    assert util("check", "-n", leaf.path, "-i") == f"{leaf.path} is valid\n"
    util("coalesce", "-n", leaf.path, status=34)
    base.resize(grown(2 * size))
    util("modify", "-n", base.path, "-s", base.size)
    util("resize", "-f", "-s", 24, "-n", base.path)
    assert util("coalesce", "-n", leaf.path) == "Coalesced 2 sectors"
    assert util("check", "-B", "-n", base.path) == f"{base.path} is valid\n"
    assert by_us(Path(base.path)) == model

    # What the leaf holds can be dropped now; it reads the same through its parent.
    util("modify", "-n", leaf.path, "-z")
    assert util("query", "-n", leaf.path, "-sa").splitlines() == ["4329472", "0"]
    assert by_us(Path(leaf.path)) == model
    util("create", "-n", volume("small", 4 * MIB).path, "-s", 2, "-S", 2097152, status=28)
