"""Types of the arguments of commands: what cannot work is refused before anything begins."""

from argparse import ArgumentTypeError
from pathlib import Path


def positive(text: str) -> int:
    """A number of things, one at least."""
    if not text.isdecimal() or not int(text):
        raise ArgumentTypeError(f"{text!r} is no number above 0")
    return int(text)


def output_file(text: str) -> Path:
    """Where a file can be written: nobody wants to hear after minutes that it cannot."""
    path = Path(text)
    if path.is_dir():
        raise ArgumentTypeError(f"{text} is a directory")
    if not path.parent.is_dir():
        raise ArgumentTypeError(f"there is no directory {path.parent}")
    return path
