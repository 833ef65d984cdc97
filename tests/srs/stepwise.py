"""Crashes: a child process that ends at the n-th change it is about to make."""

import os
import traceback
from collections.abc import Callable, Sequence
from typing import Any

#: (module or class, name of a function of it): what counts as a change.
Changes = Sequence[tuple[Any, str]]


def dies_at(step: int, action: Callable[[], object], changes: Changes) -> bool:
    """Run the action in a child that ends before its `step`-th change; False if it got through."""
    child = os.fork()
    if child == 0:
        try:
            _arm(step, changes)
            action()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, 9), "the action failed"
    return status == 9


def _arm(step: int, changes: Changes) -> None:
    left = step

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal left
            if left == 0:
                os._exit(9)
            left -= 1
            return function(*args, **kwargs)

        return call

    for module, name in changes:
        setattr(module, name, counted(getattr(module, name)))
