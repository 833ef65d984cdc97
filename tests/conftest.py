"""What was read by others and by us is compared, and counted for the summary."""

import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from _pytest.terminal import TerminalReporter

Compare = Callable[[str, bytes, bytes | bytearray], None]
_KEY = "compared"


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A directory in memory where there is one: nobody pulls a plug here."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as name:
        yield Path(name).resolve()


@pytest.fixture
def compare(record_property: Callable[[str, object], None]) -> Compare:
    """Call it with who read an image, what was found there, and what was expected."""

    def compared(reader: str, found: bytes, expected: bytes | bytearray) -> None:
        assert len(found) == len(expected)
        if found != expected:
            at = next(i for i, (a, b) in enumerate(zip(found, expected, strict=True)) if a != b)
            pytest.fail(f"{reader} reads byte {at} as {found[at]:#x}, not {expected[at]:#x}")
        record_property(_KEY, (reader, len(found)))

    return compared


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    """One line: how many images and bytes, by reader."""
    images: Counter[str] = Counter()
    total = 0
    for report in terminalreporter.stats.get("passed", []):
        for key, value in getattr(report, "user_properties", ()):
            if key == _KEY:
                images[value[0]] += 1
                total += value[1]
    if images:
        readers = ", ".join(f"{count} by {reader}" for reader, count in sorted(images.items()))
        terminalreporter.write_line(
            f"VHD engine beside others: {sum(images.values())} images read "
            f"({readers}), {total >> 20} MiB compared, all the same"
        )
