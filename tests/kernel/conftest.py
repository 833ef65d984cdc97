"""Kernels for the tests of this directory."""

from collections.abc import Callable, Iterator

import pytest

from testbed.kernel.uml import UmlKernel
from testbed.state import StateDirectory, base

Boot = Callable[[], UmlKernel]


@pytest.fixture
def boot() -> Iterator[Boot]:
    """Boots as many guests as a test wants; afterwards all are gone."""
    made: list[tuple[UmlKernel, StateDirectory]] = []

    def one() -> UmlKernel:
        state = StateDirectory(base(), "test")
        kernel = UmlKernel(state, "test")
        made.append((kernel, state))
        kernel.boot()
        return kernel

    yield one
    for kernel, state in made:
        kernel.power_cut()
        state.close()


@pytest.fixture(scope="module")
def guest() -> Iterator[UmlKernel]:
    """One guest for the tests of a module that leave it as it was."""
    state = StateDirectory(base(), "test")
    kernel = UmlKernel(state, "shared")
    try:
        kernel.boot()
        yield kernel
    finally:
        kernel.power_off()
        state.close()
