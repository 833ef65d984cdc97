"""The command `testbed`: run scenarios, serve a host, open a shell in one, write out the tools.

Exit status: 0 all passed · 1 something failed · 2 it could not run.
"""

import argparse
import os
import shlex
import shutil
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import XenAPI

from testbed.arguments import output_file, positive
from testbed.errors import TestbedError
from testbed.status import Status

if TYPE_CHECKING:
    from testbed.host import Host
    from testbed.pool import Pool

PASSED, FAILED, COULD_NOT_RUN = Status
_PROFILES = ("quick", "nightly", "deep")
_KERNELS = ("auto", "uml", "local")
#: What `testbed run` runs: the groups that the project is about, in a minute or two.
_DEFAULT_GROUPS = ("revert", "fallback", "idempotence", "faults")
#: And what it runs on a pool.
_POOL_GROUPS = ("pool", "revert", "fallback", "idempotence")
#: The key of SR.other_config that tells of which kind `--sr` an SR is.
_KIND = "sr-testbed:kind"


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
    replay = commands.add_parser("replay", parents=[kernel], help="repeat programs that failed")
    _add_replay(replay)
    _add_mutants(commands.add_parser("mutants", help="try random programs on wrong drivers"))
    _add_crash(commands.add_parser("crash", help="cut the power everywhere in an operation"))
    _add_bench(commands.add_parser("bench", parents=[kernel], help="what operations cost"))
    hosts = [kernel, _host_options()]
    up = commands.add_parser("up", parents=hosts, help="serve the XenAPI until Ctrl-C")
    up.add_argument("--port", type=int, default=0, help="where to listen on loopback")
    up.add_argument(
        "--pool", type=int, default=0, metavar="N", help="N hosts, and a kernel that serves storage"
    )
    up.set_defaults(work=_up)
    shell = commands.add_parser("shell", parents=hosts, help="a shell in a booted host")
    shell.add_argument("program", nargs="*", help="instead of a login shell")
    shell.set_defaults(work=_shell)
    gc = commands.add_parser("gc", parents=[kernel], help="collect garbage, shorten chains")
    gc.add_argument("uuid", nargs="*", help="of SRs; all when none is given")
    which = gc.add_mutually_exclusive_group(required=True)
    which.add_argument("--port", type=int, help="of a host that `testbed up` serves")
    which.add_argument("--state", metavar="DIRECTORY", type=Path, help="of a host, up or not")
    gc.set_defaults(work=_gc, sr=[])
    tools = commands.add_parser("tools", help="write vhd-util, td-util and cbt-util into DIR")
    tools.add_argument("directory", metavar="DIR", type=Path, help="made if it is not there")
    tools.set_defaults(work=_tools)
    return parser


def _host_options() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument("--sr", action="append", metavar="KIND", help="also make an SR of it")
    options.add_argument(
        "--state",
        metavar="DIRECTORY",
        type=Path,
        help="keep disks and SRs there, and take up what an earlier host has kept there",
    )
    return options


def _add_run(run: argparse.ArgumentParser) -> None:
    run.add_argument(
        "scenario",
        nargs="*",
        metavar="SCENARIO",
        help="a group (revert), a file, a test id below scenarios/, or: all; "
        f"without one: {' '.join(_DEFAULT_GROUPS)}",
    )
    run.add_argument("--sr", action="append", metavar="KIND", help="SR kind; several are fine")
    run.add_argument(
        "--pool",
        type=int,
        default=0,
        metavar="N",
        help="on N hosts that share the SR; without a scenario: pool",
    )
    run.add_argument("-n", dest="workers", default="auto", help="hosts side by side (auto: cores)")
    run.add_argument("-k", dest="expression", help="only scenarios that match, as in pytest")
    run.add_argument("-x", dest="first", action="store_true", help="stop at the first failure")
    run.add_argument("--keep", action="store_true", help="leave the disks of a failed scenario")
    run.add_argument("--junit", metavar="FILE", help="write a junit file")
    run.add_argument(
        "--html", type=output_file, metavar="FILE", help="write a page with everything on it"
    )
    run.add_argument(
        "--profile",
        choices=_PROFILES,
        default="quick",
        help="how long random programs are tried",
    )
    run.add_argument(
        "--examples",
        metavar="DIR",
        help="remember random programs that failed, and begin with them",
    )
    _add_driver(run)
    run.set_defaults(work=_run)


def _add_driver(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--driver",
        type=Path,
        metavar="DIR",
        help="directory whose package `srs` holds the drivers, in place of ours",
    )


def _add_replay(replay: argparse.ArgumentParser) -> None:
    replay.add_argument(
        "file", nargs="+", metavar="FILE", type=Path, help="what `testbed run property` printed"
    )
    replay.add_argument("--sr", action="append", metavar="KIND", help="SR kind; several are fine")
    _add_driver(replay)
    replay.add_argument("--keep", action="store_true", help="leave the disks of one that fails")
    replay.set_defaults(
        work=_replay, pool=0, workers="1", expression=None, first=False, junit=None, html=None,
        profile="quick", examples=None,
    )  # fmt: skip


def _add_mutants(mutants: argparse.ArgumentParser) -> None:
    mutants.add_argument("name", nargs="*", metavar="NAME", help="a part of a mutant's name")
    mutants.add_argument("--sr", action="append", metavar="KIND", help="SR kind: file or lvhd")
    mutants.add_argument("--profile", choices=_PROFILES, default="quick", help="how long to look")
    mutants.add_argument(
        "--jobs", type=positive, default=os.cpu_count() or 1, help="hosts side by side"
    )
    mutants.set_defaults(work=_mutants)


def _mutants(options: argparse.Namespace) -> int:
    _scenario_directory()
    command = import_module("scenarios.property.command")
    asked = command.Options(options.name, options.sr or (), options.profile, options.jobs)
    return int(command.mutants(asked))


def _add_crash(crash: argparse.ArgumentParser) -> None:
    crash.add_argument("--sr", action="append", metavar="KIND", help="SR kind; several are fine")
    crash.add_argument("--operation", action="append", metavar="NAME", help="several are fine")
    crash.add_argument(
        "--states", type=positive, default=400, help="of each operation, at most about"
    )
    crash.add_argument("--seed", type=int, default=1, help="what is lost at a cut depends on it")
    crash.add_argument(
        "--jobs", type=positive, default=os.cpu_count() or 1, help="hosts side by side"
    )
    crash.add_argument(
        "--keep", type=Path, default=Path("crashes"), help="where failures are kept (crashes)"
    )
    crash.add_argument("--html", type=output_file, metavar="FILE", help="write a page, too")
    instead = crash.add_mutually_exclusive_group()
    instead.add_argument("--replay", type=Path, metavar="FILE", help="repeat a failure")
    instead.add_argument("--random", type=positive, metavar="N", help="cut a working host N times")
    instead.add_argument("--fist", action="store_true", help="cut one at each FIST point")
    crash.set_defaults(work=_crash)


def _add_bench(bench: argparse.ArgumentParser) -> None:
    bench.add_argument(
        "compare", nargs="*", metavar="compare OLD NEW", help="instead: two files of --json"
    )
    bench.add_argument("--sr", action="append", metavar="KIND", help="SR kind; several are fine")
    bench.add_argument("--operation", action="append", metavar="NAME", help="several are fine")
    bench.add_argument("--case", action="append", metavar="CASE", help="one row of the table")
    bench.add_argument("--quick", action="store_true", help="fewer cases and turns: 3 minutes")
    bench.add_argument("--rounds", type=positive, default=0, help="turns that each case gets")
    bench.add_argument(
        "--jobs", type=positive, default=os.cpu_count() or 1, help="hosts side by side"
    )
    bench.add_argument(
        "--json", type=output_file, metavar="FILE", help="write every measurement down"
    )
    bench.add_argument(
        "--html", type=output_file, metavar="FILE", help="write a page with pictures"
    )
    trees = {"baseline": "compare the drivers of DIR/srs ...", "candidate": "... with these"}
    for name, text in trees.items():
        bench.add_argument(f"--{name}", type=Path, metavar="DIR", help=text)
    bench.add_argument(
        "--threshold", type=float, default=5.0, metavar="PERCENT", help="slower by more fails (5)"
    )
    bench.set_defaults(work=_bench)


def _bench(options: argparse.Namespace) -> int:
    _scenario_directory()
    command = import_module("scenarios.bench.command")
    if options.compare:
        if len(options.compare) != 3 or options.compare[0] != "compare":
            raise TestbedError("two files are compared", hint="testbed bench compare OLD NEW")
        old, new = map(Path, options.compare[1:])
        return int(command.compare_files(old, new, options.threshold / 100))
    trees = {name: vars(options)[name] for name in ("baseline", "candidate")}
    if (options.baseline is None) != (options.candidate is None):
        raise TestbedError("a comparison needs two trees", hint="--baseline DIR --candidate DIR")
    _try_to_boot(options.kernel)
    asked = command.Options(
        kinds=options.sr or (),
        operations=options.operation or (),
        cases=options.case or (),
        quick=options.quick,
        rounds=options.rounds,
        jobs=options.jobs,
        trees=trees if options.baseline else None,
        threshold=options.threshold / 100,
        kernel=options.kernel,
        json=options.json,
        html=options.html,
    )
    return int(command.bench(asked))


def _crash(options: argparse.Namespace) -> int:
    _scenario_directory()
    command = import_module("scenarios.crash.command")
    if options.html and (options.replay or options.random or options.fist):
        raise TestbedError("--html is a page about states: not with --replay, --random or --fist")
    if options.replay is not None:
        return PASSED if command.replay(options.replay) else FAILED
    asked = command.Options(
        kinds=options.sr or (),
        cases=options.operation or (),
        states=options.states,
        seed=options.seed,
        jobs=options.jobs,
        keep=options.keep,
        html=options.html,
    )
    if options.random or options.fist:
        return int(command.cut(asked, options.random or 0))
    return int(command.explore(asked))


def _scenario_directory() -> Path:
    spec = find_spec("scenarios")
    if spec is None or spec.origin is None:
        raise TestbedError(
            "the package `scenarios` is not installed", hint="pip install sr-testbed"
        )
    return Path(spec.origin).parent


def _run(options: argparse.Namespace) -> int:
    """A front to pytest: selection, distribution and junit are pytest's and xdist's."""
    directory = _scenario_directory()
    # pytest gives the whole file for a test id whose file exists not: check it here.
    names = options.scenario or (_POOL_GROUPS if options.pool else _DEFAULT_GROUPS)
    chosen = [str(directory)] if "all" in names else [str(directory / name) for name in names]
    for path in chosen:
        if not Path(path.partition("::")[0]).exists():
            raise TestbedError(f"no scenario {path}", hint=f"groups: {_groups(directory)}")
    return _pytest(options, directory, chosen)


def _replay(options: argparse.Namespace) -> int:
    for file in options.file:
        if not file.is_file():
            raise TestbedError(f"there is no file {file}")
    files = [str(file.resolve()) for file in options.file]
    return _pytest(options, _scenario_directory(), files)


def _pytest(options: argparse.Namespace, directory: Path, chosen: Sequence[str]) -> int:
    import pytest

    _try_to_boot(options.kernel)
    argv = [
        *chosen,
        "--rootdir", str(directory),
        "-c", str(directory / "pytest.ini"),
        "-p", "scenarios.report",
        "-p", "no:cacheprovider",
        "--kernel", options.kernel,
        *[word for kind in options.sr or [] for word in ("--sr", kind)],
        *(["--pool", str(options.pool)] if options.pool else []),
        *(["-k", options.expression] if options.expression else []),
        *(["-x"] if options.first else []),
        *(["--keep"] if options.keep else []),
        "--profile", options.profile,
        *(["--examples", options.examples] if options.examples else []),
        *(["--driver", str(options.driver.resolve())] if options.driver else []),
        *(["--junit-xml", options.junit] if options.junit else []),
        *(["--testbed-html", str(options.html)] if options.html else []),
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


@contextmanager
def _host(options: argparse.Namespace, port: int = 0) -> Iterator["Host"]:
    """A host with the SRs that the options ask for, and those that it had before."""
    from testbed.host import Host
    from testbed.lasting import plug_all, put_away
    from testbed.sessions import close_session

    with Host(kernel=options.kernel, directory=options.state, port=port) as host:
        session = host.session()
        for uuid, failure in plug_all(session):
            print(f"SR {uuid} could not be plugged in: {failure}", file=sys.stderr)
        _provision(host, session, options.sr or [])
        try:
            yield host
        finally:
            if options.state is not None and host.kernel.running:
                put_away(session)
            close_session(session)


@contextmanager
def _pool(options: argparse.Namespace, port: int) -> Iterator["Pool"]:
    """A pool with the SRs that the options ask for, on every host."""
    from testbed.pool import Pool
    from testbed.sessions import close_session
    from testbed.sharing import provision_shared

    if options.state is not None or options.kernel == "local":
        raise TestbedError(
            "hosts of a pool have kernels of their own, and do not last",
            hint="without --state and --kernel local",
        )
    with Pool(options.pool, storage=True, gc_pause=5.0, port=port) as pool:
        session = pool.session()
        for kind in options.sr or []:
            sr = provision_shared(pool, session, kind)
            print(f"SR {sr.uuid} ({kind})", flush=True)
        close_session(session)
        yield pool


def _provision(host: "Host", session: Any, kinds: Sequence[str]) -> None:
    """SRs to play with; one that an earlier start has made is taken for a new one."""
    from testbed.provision import provision

    api = session.xenapi
    there = {sr["other_config"].get(_KIND): sr["uuid"] for sr in api.SR.get_all_records().values()}
    for kind in kinds:
        uuid = there.pop(kind, None)
        if uuid is None:
            sr = provision(host, session, kind)
            api.SR.add_to_other_config(sr.ref, _KIND, kind)
            uuid = sr.uuid
        print(f"SR {uuid} ({kind})", flush=True)


def _up(options: argparse.Namespace) -> int:
    from testbed.member import PASSWORD

    # SIGINT too: a shell that starts us in the background has it ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    with (_pool if options.pool else _host)(options, options.port) as served:
        address, _, port = served.xapi.url.removeprefix("http://").partition(":")
        print(f"XenAPI at {served.xapi.url}, user root, password {PASSWORD}")
        print(f"export XE_EXTRA_ARGS=server={address},port={port},password={PASSWORD}")
        print("Ctrl-C ends it", flush=True)
        with suppress(KeyboardInterrupt):
            _wait_for_a_signal()
    return PASSED


def _wait_for_a_signal() -> None:
    """Until a handler raises. The pipe wakes us even if the signal came just before we wait."""
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    signal.set_wakeup_fd(write_end)
    while True:
        os.read(read_end, 1)


def _shell(options: argparse.Namespace) -> int:
    from testbed.shell import converse

    with _host(options) as host:
        return converse(host.kernel, options.program or ["/bin/bash", "-i"])


def _gc(options: argparse.Namespace) -> int:
    from testbed.collecting import Collected, collect_all

    done, missing = PASSED, set(options.uuid)
    with _session(options) as session:
        for uuid, result in collect_all(session, options.uuid or None):
            print(f"SR {uuid}: {result}", flush=True)
            missing.discard(uuid)
            if not isinstance(result, Collected) or result.failed:
                done = FAILED
    if missing:
        raise TestbedError(f"no such SR is plugged in: {', '.join(sorted(missing))}")
    return done


@contextmanager
def _session(options: argparse.Namespace) -> Iterator[Any]:
    """A session of the host that runs on a port or a directory, or is booted for this."""
    from testbed.member import PASSWORD
    from testbed.sessions import close_session, open_local_session, open_session

    if options.port is not None:
        try:
            session = open_session(f"http://127.0.0.1:{options.port}", "root", PASSWORD)
        except OSError as error:
            raise TestbedError(f"no host answers on port {options.port}: {error}") from error
    else:
        try:
            session = open_local_session(options.state / "xapi.sock")
        except (FileNotFoundError, ConnectionRefusedError):
            with _host(options) as host:
                session = host.session()
                yield session
                close_session(session)
            return
    yield session
    close_session(session)


def _tools(options: argparse.Namespace) -> int:
    from testbed.tools import write_tools

    for path in write_tools(options.directory):
        print(path)
        if other := shutil.which(path.name):
            print(f"note: there is {other}, too; the one that comes first in PATH is used")
    print(f"try: PATH={shlex.quote(str(options.directory.absolute()))}:$PATH vhd-util -h")
    return PASSED
