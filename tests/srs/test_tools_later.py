"""Putting off an import: what nobody uses is not loaded, what is used is the real module."""

import subprocess
import sys
from pathlib import Path

TREE = Path(__file__).parents[2]


def python(program: str) -> str:
    begin = f"import sys; sys.path.append({str(TREE)!r}); from srs.tools.later import put_off; "
    done = subprocess.run(
        [sys.executable, "-IS", "-c", begin + program],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_dataclasses_do_without_inspect() -> None:
    program = (
        "put_off('inspect'); from srs import vhd; from srs.tools import vhd_util;"
        " print(vhd_util.main(['query', '-n', '/nowhere', '-v']), 'ast' in sys.modules)"
    )
    assert python(program).splitlines() == ["error opening /nowhere: -2", "2 False"]


def test_module_that_is_used() -> None:
    program = (
        "put_off('inspect'); import inspect, dataclasses;"
        " A = dataclasses.make_dataclass('A', ['x']);"
        " print(A.__doc__, inspect.isclass(A), inspect.unwrap is sys.modules['inspect'].unwrap)"
    )
    assert python(program) == "A(x: 'typing.Any') True True"


def test_name_that_is_not_in_it() -> None:
    program = "put_off('inspect'); import inspect; print(hasattr(inspect, 'nonsense'))"
    assert python(program) == "False"


def test_module_that_is_there_stays() -> None:
    assert python("import os; put_off('os'); print(sys.modules['os'] is os, os.sep)") == "True /"
