"""What a file system can do is found out once, by whichever host comes first."""

import os
from pathlib import Path

import pytest

from srs import hardlinks


def test_two_hosts_find_out_at_the_same_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second one does all of it while the first one's answer is not yet in place."""
    fsync, directory = os.fsync, str(tmp_path)

    def meanwhile(fd: int) -> None:
        monkeypatch.undo()
        assert hardlinks.detect(directory, "second.new")
        fsync(fd)

    monkeypatch.setattr(os, "fsync", meanwhile)
    assert hardlinks.detect(directory, "first.new")
    assert os.listdir(directory) == ["sm-hardlink.conf"]
    assert hardlinks.detect(directory, "first.new") is None
