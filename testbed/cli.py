"""The command `testbed`: run scenarios, serve a host, open a shell in one, write out the tools.

Exit status: 0 all passed · 1 something failed · 2 it could not run.
"""

import argparse
import shlex
import signal
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import XenAPI

from testbed.errors import TestbedError

if TYPE_CHECKING:
    from testbed.host import Host

PASSED, FAILED, COULD_NOT_RUN = 0, 1, 2
_KERNELS = ("auto", "uml", "local")


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["xe"]:
        from xapi.xe import main as xe

        return xe(arguments[1:])
    options = _parser().parse_args(arguments)
    try:
        return int(options.work(options))
    except (TestbedError, XenAPI.Failure) as error:
        print(f"testbed: {error}", file=sys.stderr)
        return COULD_NOT_RUN
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="testbed",
        description="A whole XenServer storage host in one throwaway Linux kernel.",
        epilog="testbed xe ...: the xe command, see `testbed xe help`.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    kernel = argparse.ArgumentParser(add_help=False)
    kernel.add_argument(
        "--kernel",
        choices=_KERNELS,
        default="auto",
        help="auto takes uml where it is installed, else local, else says what to install",
    )
    _add_run(commands.add_parser("run", parents=[kernel], help="run scenarios, print a table"))
    up = commands.add_parser("up", parents=[kernel], help="serve the XenAPI until Ctrl-C")
    up.add_argument("--sr", action="append", metavar="KIND", help="also make an SR of this kind")
    up.set_defaults(work=_up)
    shell = commands.add_parser("shell", parents=[kernel], help="a shell in a booted host")
    shell.add_argument("--sr", action="append", metavar="KIND", help="also make an SR of this kind")
    shell.add_argument("program", nargs="*", help="instead of a login shell")
    shell.set_defaults(work=_shell)
    tools = commands.add_parser("tools", help="write vhd-util, td-util and cbt-util into DIR")
    tools.add_argument("directory", metavar="DIR", type=Path, help="made if it is not there")
    tools.set_defaults(work=_tools)
    return parser


def _add_run(run: argparse.ArgumentParser) -> None:
    run.add_argument(
        "scenario",
        nargs="*",
        help="a group (revert), a file, or a test id below scenarios/; all when none is given",
    )
    run.add_argument("--sr", action="append", metavar="KIND", help="SR kind; several are fine")
    run.add_argument("-n", dest="workers", default="auto", help="hosts side by side (auto: cores)")
    run.add_argument("-k", dest="expression", help="only scenarios that match, as in pytest")
    run.add_argument("-x", dest="first", action="store_true", help="stop at the first failure")
    run.add_argument("--keep", action="store_true", help="leave the disks of a failed scenario")
    run.add_argument("--junit", metavar="FILE", help="write a junit file")
    run.set_defaults(work=_run)


def _scenario_directory() -> Path:
    spec = find_spec("scenarios")
    if spec is None or spec.origin is None:
        raise TestbedError(
            "the package `scenarios` is not installed", hint="pip install sr-testbed"
        )
    return Path(spec.origin).parent


def _run(options: argparse.Namespace) -> int:
    """A front to pytest: selection, distribution and junit are pytest's and xdist's."""
    import pytest

    _try_to_boot(options.kernel)
    directory = _scenario_directory()
    # pytest gives the whole file for a test id whose file exists not: check it here.
    chosen = [str(directory / name) for name in options.scenario] or [str(directory)]
    for path in chosen:
        if not Path(path.partition("::")[0]).exists():
            raise TestbedError(f"no scenario {path}", hint=f"groups: {_groups(directory)}")
    argv = [
        *chosen,
        "--rootdir", str(directory),
        "-c", str(directory / "pytest.ini"),
        "-p", "scenarios.report",
        "-p", "no:cacheprovider",
        "--kernel", options.kernel,
        *[word for kind in options.sr or [] for word in ("--sr", kind)],
        *(["-k", options.expression] if options.expression else []),
        *(["-x"] if options.first else []),
        *(["--keep"] if options.keep else []),
        *(["--junit-xml", options.junit] if options.junit else []),
        *(["-n", options.workers] if options.workers not in ("0", "1") else []),
    ]  # fmt: skip
    status = pytest.main(argv)
    return {pytest.ExitCode.OK: PASSED, pytest.ExitCode.TESTS_FAILED: FAILED}.get(
        pytest.ExitCode(status), COULD_NOT_RUN
    )


def _try_to_boot(kernel: str) -> None:
    """Say once what is missing or broken, not for every scenario. Costs half a second."""
    from testbed.kernel import choose
    from testbed.state import StateDirectory, base

    state = StateDirectory(base(), "trial")
    trial = choose(kernel)(state, "trial", ())
    try:
        trial.boot()
    finally:
        trial.power_cut()
        state.close()


def _groups(directory: Path) -> str:
    return ", ".join(sorted({path.parent.name for path in directory.glob("*/test_*.py")}))


def _provision(host: "Host", kinds: Sequence[str]) -> None:
    """SRs to play with."""
    from testbed.provision import provision
    from testbed.sessions import close_session

    session = host.session()
    for kind in kinds:
        sr = provision(host, session, kind)
        print(f"SR {sr.uuid} ({kind})")
    close_session(session)


def _up(options: argparse.Namespace) -> int:
    from testbed.host import PASSWORD, Host

    with Host(kernel=options.kernel) as host:
        print(f"XenAPI at {host.xapi.url}, user root, password {PASSWORD}")
        _provision(host, options.sr or [])
        port = host.xapi.url.rpartition(":")[2]
        print(f"try: xe -s 127.0.0.1 -p {port} -u root -pw {PASSWORD} sr-list")
        print("Ctrl-C ends it", flush=True)
        signal.sigwait({signal.SIGINT, signal.SIGTERM})
    return PASSED


def _shell(options: argparse.Namespace) -> int:
    from testbed.host import Host
    from testbed.shell import converse

    with Host(kernel=options.kernel) as host:
        _provision(host, options.sr or [])
        return converse(host.kernel, options.program or ["/bin/bash", "-i"])


def _tools(options: argparse.Namespace) -> int:
    from testbed.tools import write_tools

    for path in write_tools(options.directory):
        print(path)
    print(f"try: PATH={shlex.quote(str(options.directory.absolute()))}:$PATH vhd-util -h")
    return PASSED
