"""`testbed bench` measures real reverts; what it counts is exact, and it can tell a slower tree."""

import json
import math
import random
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scenarios.bench import command
from scenarios.bench.cases import FULL, GIB, QUICK, SMALL, Case, acts
from scenarios.bench.compare import compare, paired, unpaired
from scenarios.bench.promises import promises
from scenarios.bench.results import BadResults, Result, Results, load, of_tree, save
from scenarios.bench.stand import Counts, Sample, Step, stand
from testbed.errors import TestbedError
from testbed.kernel.guestconfig import ROOT

COUNTS = Counts(0, 4, 5, ("vdi_revert",), 1 << 20, (Step("lvm lvcreate", 0.05, 1),))


def bench(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "testbed", "bench", *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


def result(case: Case, *seconds: float, tree: str = "", counts: Counts = COUNTS) -> Result:
    samples = [Sample(spent, spent, spent, 4096, 5) for spent in seconds]
    return Result("lvhd", case, tree, counts, samples)


# --- the arithmetic --------------------------------------------------------------------------

times = st.lists(st.floats(0.001, 10), min_size=8, max_size=30)


@given(times, st.floats(0.5, 2))
def test_a_tree_that_is_slower_by_a_factor(old: list[float], factor: float) -> None:
    found = paired(old, [spent * factor for spent in old])
    assert math.isclose(found.estimate, factor)
    assert math.isclose(found.low, factor)
    assert math.isclose(found.high, factor)


@given(times, times)
def test_the_estimate_is_in_its_interval_and_turns_round(
    old: list[float], new: list[float]
) -> None:
    there, back = unpaired(old, new), unpaired(new, old)
    assert there.low <= there.estimate <= there.high
    assert math.isclose(there.estimate * back.estimate, 1)
    assert math.isclose(there.low * back.high, 1)


def test_intervals_hold_what_they_promise() -> None:
    """Of 400 comparisons with noise of a fifth and now and then a spoilt one, 95 % hold 1.1."""
    dice = random.Random(8)

    def noisy(count: int) -> list[float]:
        return [dice.lognormvariate(0, 0.2) * dice.choice([1] * 9 + [5]) for _ in range(count)]

    for ratio in (paired, unpaired):
        held = 0
        for _ in range(400):
            found = ratio(noisy(20), [1.1 * spent for spent in noisy(20)])
            held += found.low <= 1.1 <= found.high
        assert 0.92 < held / 400 < 0.99


def test_what_is_counted_is_compared_exactly() -> None:
    case = Case("revert")
    old = result(case, 1, 1, 1, 1, 1, 1, 1, 1)
    assert not compare(old, old, in_turns=True).regressed(0)
    more = result(case, *[1.0] * 8, counts=replace(COUNTS, fsyncs=6, commits=3))
    found = compare(old, more, in_turns=True)
    assert found.more == {"fsyncs": (5, 6)}
    assert found.less == {"LVM commits": (4, 3)}
    assert found.regressed(0.5)


def test_promises() -> None:
    found = {
        (promise.what, round(promise.measured, 2), promise.kept)
        for promise in promises(
            [
                result(Case("revert"), 0.2, 0.1),
                result(Case("fallback"), 0.4),
                result(Case("revert", GIB), 0.1),
                result(Case("revert", SMALL, written=0), 0.1),
                result(Case("revert", SMALL, written=100), 0.2),
                result(Case("revert", SMALL), 0.1),
                result(Case("revert", SMALL, depth=29), 0.12),
                result(Case("revert", cbt=True), 9),
            ]
        )
    }
    assert found == {
        ("revert over clone fallback, 100 GiB", 0.25, True),
        ("flat over size", 1.0, True),
        ("flat over data", 2.0, False),
        ("flat over depth", 1.2, True),
    }


def test_no_case_is_there_twice() -> None:
    for groups in (QUICK, FULL):
        cases = [case for group in groups for case in group]
        assert len(set(cases)) == len(cases)


# --- the file --------------------------------------------------------------------------------


def test_results_survive(tmp_path: Path) -> None:
    found = Results({"machine": "2 of 486"}, [result(Case("revert", cbt=True), 0.1, 0.2)])
    save(tmp_path / "file", found)
    assert load(tmp_path / "file") == found


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": 9}', '{"format": 1}\n{}', "\0"])
def test_other_files_are_no_results(tmp_path: Path, text: str) -> None:
    (tmp_path / "file").write_text(text)
    with pytest.raises(BadResults):
        load(tmp_path / "file")


@pytest.mark.parametrize("seconds", [[], [0.0], [math.nan], [-1.0], ["a"]])
def test_results_without_times_are_none(tmp_path: Path, seconds: list[float]) -> None:
    save(tmp_path / "file", Results({}, [result(Case("revert"), *seconds)]))
    with pytest.raises(BadResults):
        load(tmp_path / "file")


@pytest.mark.parametrize("key", ["chains", "environment"])
def test_results_of_another_shape_are_none(tmp_path: Path, key: str) -> None:
    head = {"format": 1, "environment": {}, "chains": {}, key: []}
    (tmp_path / "file").write_text(json.dumps(head))
    with pytest.raises(BadResults, match="have no names"):
        load(tmp_path / "file")


# --- the command -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--sr", "floppy"], "no SR kind 'floppy'"),
        (["--operation", "dance"], "there are: create; snapshot"),
        (["--baseline", "/"], "needs two trees"),
        (["compare", "a"], "testbed bench compare OLD NEW"),
        (["compare", "/dev/null", "/dev/null"], "holds no results"),
    ],
)
def test_what_cannot_run_says_why(arguments: list[str], reason: str) -> None:
    done = bench(*arguments)
    assert done.returncode == 2
    assert reason in done.stderr
    assert "Traceback" not in done.stderr


def test_nothing_to_measure_is_no_success() -> None:
    with pytest.raises(TestbedError, match="no case is"):
        command.bench(command.Options(operations=["revert"], cases=["create, 100 GiB"]))


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on a file SR and on volumes."""
    saved = tmp_path_factory.mktemp("bench") / "results"
    chosen = [case for size in (1, 100, 2040) for case in ("--case", f"revert, {size} GiB")]
    chosen += ["--case", "fallback, 100 GiB"]
    kinds = ["--sr", "ext", "--sr", "lvhd"]
    done = bench("--quick", *kinds, *chosen, "--rounds", "1", "--json", saved)
    assert done.returncode == 0, done.stderr
    assert "revert over clone fallback" in done.stdout
    return saved


def counted(file: Path, kind: str) -> dict[Case, Result]:
    found = of_tree(load(file).results, "")
    return {case: one for (of_kind, case), one in found.items() if of_kind == kind}


def test_a_revert_on_volumes_takes_four_commits_whatever_the_disk(measured: Path) -> None:
    reverts = {
        case: found for case, found in counted(measured, "lvhd").items() if not case.fallback
    }
    assert len(reverts) == 3
    for case, found in reverts.items():
        assert (found.counts.programs, found.counts.commits) == (0, 4), case
        assert found.counts.calls == ("vdi_revert",)
        # A child with tables for 2 TiB, and each commit writes LVM's metadata in 128 KiB.
        assert found.counted["bytes"][0] <= TABLES + 4 * 2 * (128 << 10) + (64 << 10), case


TABLES = (4 << 20) + (128 << 10) + 8192
"""Bytes of the tables of a VHD of 2 TiB, and its headers."""


def test_a_revert_on_files_writes_the_metadata_of_a_fresh_child(measured: Path) -> None:
    found = counted(measured, "ext")
    large, small = found[Case("revert")], found[Case("revert", GIB)]
    assert 0 < large.counts.peak <= 1.2 * CHILD
    assert large.counted["bytes"][0] - small.counted["bytes"][0] <= 1.2 * CHILD
    # The rest is ext4's: four transactions of its journal, and the blocks that they are about.
    assert small.counted["bytes"][0] <= 60 * 4096
    assert all(one.counts.programs == 0 for one in found.values())
    assert {found[case].counts.fsyncs for case in found if not case.fallback} == {6}


CHILD = 214 << 10
"""Bytes of the metadata of a fresh child of a disk of 100 GiB."""


def test_a_revert_on_volumes_activates_two_however_deep_the_chain() -> None:
    with stand("lvhd") as one:
        made = acts(one.sr(), Case("revert", GIB, depth=5))
        counts = one.count(next(made))
        made.close()
    activations = [step.what for step in counts.steps if "lvchange -ay" in step.what]
    assert activations == ["lvm lvchange -ay of 2"]


def test_the_same_run_twice_is_no_regression_but_more_work_is(
    measured: Path, tmp_path: Path
) -> None:
    assert bench("compare", measured, measured).returncode == 0
    found = load(measured)
    worse = [
        replace(one, counts=replace(one.counts, fsyncs=one.counts.fsyncs + 1))
        for one in found.results
    ]
    save(tmp_path / "worse", Results({**found.environment, "load": "9"}, worse))
    done = bench("compare", measured, tmp_path / "worse")
    assert done.returncode == 1
    assert f"{len(worse)} regressions" in done.stdout
    assert "-> 9" in done.stdout


# --- two trees -------------------------------------------------------------------------------


def copied_tree(directory: Path, extra: str = "") -> Path:
    """Our drivers in a directory of their own, with more at the end of srs/revert.py."""
    unwanted = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "srs", directory / "srs", ignore=unwanted)
    with (directory / "srs" / "revert.py").open("a") as file:
        file.write(extra)
    return directory


SLOWER = """

import time

_quick = revert


def revert(*args):
    began = time.monotonic()
    _quick(*args)
    end = time.monotonic()
    while time.monotonic() - end < 5 * (end - began):
        pass
"""


def ratios(done: "subprocess.CompletedProcess[str]") -> str:
    return "\n".join(line for line in done.stdout.splitlines() if "revert" in line)


@pytest.mark.parametrize(("extra", "status"), [("", 0), (SLOWER, 1)])
def test_a_slower_tree_is_found_and_an_equal_one_is_not(
    tmp_path: Path, extra: str, status: int
) -> None:
    base, other = copied_tree(tmp_path / "base"), copied_tree(tmp_path / "other", extra)
    # A factor of six: two boots of one tree can differ by half on a busy machine.
    case = ("--sr", "ext", "--case", "revert, 1 GiB", "--rounds", "4", "--threshold", "100")
    done = bench("--baseline", base, "--candidate", other, *case)
    assert done.returncode == status, ratios(done) + done.stderr


def test_the_file_says_where_it_was_measured(measured: Path) -> None:
    head = json.loads(measured.read_text().splitlines()[0])["environment"]
    assert {"machine", "kernel under test", "lvm2", "sr-testbed"} <= head.keys()
