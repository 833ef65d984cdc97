"""Starting fast: what nobody uses is not loaded, and what is used is the real module."""

import ast
import subprocess
import sys
from pathlib import Path

from srs import vhd

TREE = Path(__file__).parents[2]


def python(program: str) -> str:
    begin = f"import sys; sys.path.append({str(TREE)!r}); from srs.tools.start import *; "
    done = subprocess.run(
        [sys.executable, "-IS", "-c", begin + program],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
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


def test_modules_that_are_there_stay() -> None:
    assert python("import os; put_off('os'); print(sys.modules['os'] is os, os.sep)") == "True /"
    assert python("from srs import vhd; without_init('srs.vhd'); print(vhd.query.__name__)") == (
        "query"
    )


def test_every_command_names_the_modules_that_it_needs() -> None:
    """None of them would be found through a package that is only its directory."""
    program = (
        "put_off('inspect'); without_init('srs.vhd');"
        " from srs.tools import cbt_util, td_util, vhd_util;"
        " [command.load() for each in (cbt_util, td_util, vhd_util)"
        " for command in each.COMMANDS.values()];"
        " print(hasattr(sys.modules['srs.vhd'], 'MAX_SIZE'))"
    )
    assert python(program) == "False"


def test_no_module_takes_a_name_from_the_package_itself() -> None:
    """That holds also for imports within functions, which the test above does not reach."""
    modules = {path.stem for path in (TREE / "srs/vhd").glob("*.py")} - set(vhd.__all__)
    taken = [
        (path.name, name.name)
        for part in ("srs/tools", "srs/vhd")
        for path in (TREE / part).glob("*.py")
        if path != TREE / "srs/vhd/__init__.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module in ("srs.vhd", "srs")
        for name in node.names
        if node.module == "srs" or name.name not in modules
    ]
    assert taken == []
