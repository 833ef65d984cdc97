"""Nothing inside can write a file of this machine outside the state directory."""

import os
from pathlib import Path

from testbed.kernel.uml import UmlKernel

_TRY = """
mount -o remount,rw / 2>/dev/null
mount -o remount,rw /run/host 2>/dev/null
for place in "" /run/host; do
    touch "$place{path}/created" 2>/dev/null
    echo changed > "$place{path}/existing" 2>/dev/null
    rm -f "$place{path}/removable" 2>/dev/null
    mkdir "$place{path}/directory" 2>/dev/null
    truncate -s 0 "$place{path}/existing" 2>/dev/null
    chmod 0777 "$place{path}/existing" 2>/dev/null
    chown 12345 "$place{path}/existing" 2>/dev/null
    touch -d 2001-01-01 "$place{path}/existing" 2>/dev/null
done
mkdir -p /run/second
mount -t hostfs -o {path} none /run/second && touch /run/second/created 2>/dev/null
cat "/run/host{path}/existing"
id -u
"""


def test_root_inside_cannot_write_outside(guest: UmlKernel, tmp_path: Path) -> None:
    """Root there, and perhaps root here, after it made its root file system writable."""
    (tmp_path / "existing").write_text("as it was\n")
    (tmp_path / "removable").write_text("still here\n")
    before = (tmp_path / "existing").stat()
    done = guest.run(["sh", "-c", _TRY.format(path=tmp_path)])
    assert done.stdout == "as it was\n0\n"
    assert sorted(os.listdir(tmp_path)) == ["existing", "removable"]
    assert (tmp_path / "existing").read_text() == "as it was\n"
    after = (tmp_path / "existing").stat()
    for what in ("st_mode", "st_uid", "st_gid", "st_size", "st_mtime_ns"):
        assert getattr(after, what) == getattr(before, what), what


def test_the_state_directory_is_the_exception(guest: UmlKernel) -> None:
    """So the refusal above is the fence's work, not an accident of the mount."""
    inside = f"/run/host{guest.state.path}/written-inside"
    done = guest.run(["sh", "-c", f"mount -o remount,rw /run/host; touch {inside}"])
    assert done.returncode == 0, done.stderr
    assert (guest.state.path / "written-inside").exists()
