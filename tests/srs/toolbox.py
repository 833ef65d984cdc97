"""The field's commands, run inside the test's process."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest

from srs.tools import vhd_util


@dataclass(frozen=True, slots=True)
class Done:
    """What a command did: exit status, and what it printed."""

    status: int
    raw: bytes
    err: str

    @property
    def out(self) -> str:
        return self.raw.decode()

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


class Tool:
    """Runs a command by its ``main``, `vhd-util` if none is named; words may be anything."""

    def __init__(
        self,
        capture: pytest.CaptureFixture[bytes],
        main: Callable[[Sequence[str]], int] = vhd_util.main,
    ) -> None:
        self._capture = capture
        self._main = main

    def __call__(self, *words: object) -> Done:
        self._capture.readouterr()
        status = self._main([str(word) for word in words])
        raw, err = self._capture.readouterr()
        return Done(status, raw, err.decode())
