"""The pytest plugin: hosts, SRs and VDIs as fixtures, and the options that choose them.

    host      a booted host; one per worker, shared by the scenarios that run there
    pool      with --pool N a booted pool of N hosts, of which `host` is the last: what changes
              an SR is then done on the master, and disks are opened on a slave
    xenapi    a session of the XenAPI client from PyPI on that host
    sr        an SR; a scenario that takes it runs once per `--sr` kind. Afterwards every
              VDI is destroyed, and the host must hold nothing that it did not hold before
    vdi       a VDI of eight blocks on `sr`, zeros all over
    machines  makes simulated VMs, and removes them before `sr` looks for what was left

Loaded through the entry point `pytest11`, so they work in anybody's tests. What is heavy is
imported where it is used: other test suites load this module too.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from scenarios.machine import Machines
    from scenarios.storage import VDI, Repository
    from testbed.member import Member
    from testbed.pool import Pool
    from testbed.provision import ProvisionedSR

DEFAULT_KINDS = ("file", "ext", "nfs", "lvhd", "lvhdoiscsi", "lvhdohba")
_DEFAULT_KINDS_OF_POOLS = ("lvhd",)

#: Drivers that lack the revert, or say that they do: for the clone fallback.
_VARIANTS = Path(__file__).parent / "fallback" / "variants.py"

_hosts: list[Member] = []


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of the testbed."""
    group = parser.getgroup("sr-testbed", "storage testbed")
    group.addoption(
        "--sr",
        action="append",
        metavar="KIND",
        help=f"SR kind to run on; may be given several times (default: {' '.join(DEFAULT_KINDS)})",
    )
    group.addoption(
        "--pool",
        type=int,
        default=0,
        metavar="N",
        help="let scenarios run on a pool of N hosts that share their SR",
    )
    group.addoption(
        "--kernel",
        default="auto",
        choices=("auto", "uml", "local"),
        help="kernel that hosts boot (default: auto)",
    )
    group.addoption(
        "--profile",
        default="quick",
        choices=("quick", "nightly", "deep"),
        help="how long random programs are tried (default: quick)",
    )
    group.addoption(
        "--examples",
        metavar="DIR",
        help="where programs that failed are remembered; machines may share it",
    )
    group.addoption(
        "--driver",
        type=Path,
        metavar="DIR",
        help="directory whose package `srs` holds the drivers, in place of ours",
    )
    group.addoption(
        "--keep",
        action="store_true",
        help="leave the state directory (disks, console) of a host whose scenario failed",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Check the kinds before anything boots, and make the fixture for them."""
    of_pool = config.getoption("--pool") > 0
    if of_pool and config.getoption("--kernel") == "local":
        raise pytest.UsageError("--pool: hosts have kernels of their own; not with --kernel local")
    if of_pool and config.getoption("--driver"):
        raise pytest.UsageError("--driver: hosts of a pool have our drivers; not with --pool")
    if config.getoption("--sr"):
        _check_kinds(config.getoption("--sr"), of_pool=of_pool)
    config.pluginmanager.register(_sr_fixture(_kinds(config)), "sr-testbed-fixtures")


def _kinds(config: pytest.Config) -> Sequence[str]:
    """The kinds of SR of this run."""
    usual = _DEFAULT_KINDS_OF_POOLS if config.getoption("--pool") else DEFAULT_KINDS
    return tuple(config.getoption("--sr") or usual)


def _check_kinds(kinds: Sequence[str], *, of_pool: bool) -> None:
    from testbed.provision import RECIPES
    from testbed.sharing import KINDS

    known: Collection[str] = KINDS if of_pool else RECIPES
    for kind in kinds:
        if kind not in known:
            where = " that a pool can share" if of_pool else ""
            names = ", ".join(known)
            raise pytest.UsageError(f"--sr {kind}: no such SR kind{where}; there are: {names}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """On a failure, say what the kernel said last, and keep the disks if asked to."""
    report: pytest.TestReport = yield
    for host in _hosts if report.failed else ():
        report.sections.append((f"last lines of {host.hostname}", host.kernel.console()))
        if item.config.getoption("--keep"):
            report.sections.append(("state directory, kept", str(host.keep())))
        else:
            report.sections.append(("state directory", "gone with the host; --keep leaves it"))
    return report


@pytest.fixture(scope="session")
def pool(request: pytest.FixtureRequest) -> Iterator[Pool]:
    """Several booted hosts with one xapi in front."""
    from testbed.pool import Pool

    hosts = request.config.getoption("--pool")
    if not hosts:
        pytest.skip("for a pool: --pool N")
    with Pool(hosts, name=f"{_worker()}-", variants=[_VARIANTS], storage=True) as booted:
        _hosts.extend(booted.hosts)
        yield booted
        _hosts.clear()


@pytest.fixture(scope="session")
def host(request: pytest.FixtureRequest) -> Iterator[Member]:
    """A booted host with a xapi in front."""
    from testbed.host import Host
    from testbed.provision import RECIPES

    if request.config.getoption("--pool"):
        yield request.getfixturevalue("pool").hosts[-1]
        return
    booted = Host(
        kernel=request.config.getoption("--kernel"),
        name=f"host-{_worker()}",
        variants=[_VARIANTS],
        tree=request.config.getoption("--driver"),
        extra_memory=sum(RECIPES[kind].memory for kind in set(_kinds(request.config))),
        gc_pause=None,
    )
    with booted:
        _hosts.append(booted)
        yield booted
        _hosts.clear()


def _worker() -> str:
    return os.environ.get("PYTEST_XDIST_WORKER", "main")


@pytest.fixture(scope="session")
def xenapi(host: Member) -> Iterator[Any]:
    """A session of the XenAPI client."""
    from testbed.sessions import close_session

    session = host.session()
    yield session
    close_session(session)


@pytest.fixture(scope="session")
def repositories(request: pytest.FixtureRequest, host: Member, xenapi: Any) -> RepositoryCache:
    """SRs by kind and driver, made when they are first wanted."""
    from testbed.provision import provision, retire
    from testbed.sharing import provision_shared

    if not request.config.getoption("--pool"):
        make, end = partial(provision, host, xenapi), partial(retire, host, xenapi)
        return RepositoryCache(host, (host,), xenapi, make, end)
    pool = request.getfixturevalue("pool")
    make = partial(provision_shared, pool, xenapi)
    return RepositoryCache(host, pool.hosts, xenapi, make)


class RepositoryCache:
    """Makes an SR once per worker: what a scenario tests is not the making.

    Args:
        host: where disks are opened.
        hosts: all that have the SRs plugged in.
        session: a XenAPI session.
        make: makes an SR of a kind.
        retire: ends one, where that can be done. A host has slots for 15 disks, and memory for
            less, while six kinds with three variants each make 24 SRs: those that nobody has
            borrowed for the longest time go.
    """

    _MOST = 8

    def __init__(
        self,
        host: Member,
        hosts: Sequence[Member],
        session: Any,
        make: Callable[..., ProvisionedSR],
        retire: Callable[[ProvisionedSR], None] | None = None,
    ) -> None:
        self._host = host
        self._hosts = hosts
        self._session = session
        self._make = make
        self._retire = retire
        #: Those that were borrowed last are at the end.
        self._made: dict[tuple[str, str, bool], Repository] = {}
        self._lent: Counter[tuple[str, str, bool]] = Counter()
        #: What the SRs themselves add to the host; a scenario may be the first to want one.
        self._standing: dict[tuple[str, str, bool], set[tuple[str, ...]]] = {}

    def cut_the_power(self) -> None:
        """Cut the power of the host, boot it again, and plug its SRs."""
        self._host.power_cut()
        self.restart()

    def restart(self) -> None:
        """Boot the host, whose power was cut, and plug its SRs."""
        self._host.restart()
        for repository in self._made.values():
            for pbd in repository.api.SR.get_PBDs(repository.ref):
                repository.api.PBD.plug(pbd)

    @contextmanager
    def lend(self, kind: str, driver: str = "", *, layered: bool = False) -> Iterator[Repository]:
        """Lend an SR to a scenario; take its disks away, and look for what it leaked.

        With `layered` its device can be given faults (`Repository.faults`).
        """
        from scenarios.invariants import check

        before = footprint(*self._hosts)
        repository = self.get(kind, driver, layered=layered)
        key = (kind, driver, layered)
        self._lent[key] += 1
        try:
            yield repository
            repository.detach()
            check(repository.on(self._hosts[0]))  # the master knows what it has deleted
        finally:
            self._lent[key] -= 1
            repository.clear()
        leaked = footprint(*self._hosts) - before.union(*self._standing.values())
        if leaked:
            pytest.fail(f"the scenario left behind: {sorted(leaked)}")

    def get(self, kind: str, driver: str = "", *, layered: bool = False) -> Repository:
        """A plugged SR of a kind without a visible disk; `driver` names a variant of its driver."""
        from scenarios.storage import Repository

        key = (kind, driver, layered)
        if key in self._made:
            self._made[key] = self._made.pop(key)
        else:
            self._make_room()
            before = footprint(*self._hosts)
            made = self._make(kind, driver=driver, layered=layered)
            self._made[key] = Repository(self._host, self._session, made)
            self._standing[key] = footprint(*self._hosts) - before
        return self._made[key]

    def _make_room(self) -> None:
        idle = [key for key in self._made if not self._lent[key]]
        if self._retire and idle and len(self._made) >= self._MOST:
            self._retire(self._made.pop(idle[0]).provisioned)
            del self._standing[idle[0]]


def _sr_fixture(kinds: Sequence[str]) -> ModuleType:
    """The fixture `sr`, with the kinds of this run for parameters.

    In a plugin of its own, so that a test suite that has an `sr` of another meaning, and this
    plugin installed, keeps its own.
    """

    @pytest.fixture(params=list(dict.fromkeys(kinds)))
    def sr(request: pytest.FixtureRequest, repositories: RepositoryCache) -> Iterator[Repository]:
        """An SR of the kind that the scenario runs on, without a visible disk."""
        with repositories.lend(request.param) as repository:
            yield repository

    module = ModuleType("sr_testbed_fixtures", "See scenarios/plugin.py.")
    module.__dict__["sr"] = sr
    return module


def footprint(*hosts: Member) -> set[tuple[str, ...]]:
    """What no scenario may add to."""
    kinds = ("mounts", "loops", "nbds", "mapped", "units", "sessions", "processes")
    return {
        (host.hostname, kind, name)
        for host in hosts
        for census in [host.census()]
        for kind in kinds
        for name in census[kind]
    }


@pytest.fixture
def vdi(sr: Repository) -> VDI:
    """A disk of eight blocks (16 MiB)."""
    from scenarios.oracle import BLOCK

    return sr.create(8 * BLOCK)


@pytest.fixture
def machines(sr: Repository) -> Iterator[Machines]:
    """Makes simulated VMs."""
    from scenarios.machine import Machines

    made = Machines(sr)
    try:
        yield made
    finally:
        made.clear()
