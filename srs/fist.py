"""FIST points: places in the drivers where a test makes something happen.

    Exception
    └── FistPoint (203, srs.errors)     the call ends here, as if its process had died

A point is switched on by a file, `/tmp/fist_<name>`, whose content says what happens there:

    (nothing)     wait for 30 seconds; with a file /tmp/fist_LVHDRT_exit: error. A few points
                  have a failure of their own instead, see `point`
    error         FistPoint; nothing that the driver has begun is undone
    sleep N       wait for N seconds
    hold          wait until the point is switched off
    kill          SIGKILL for the process of the call
    power-cut     tell the host, and stand still until it cuts the power

Names, the empty file and LVHDRT_exit are those of XenServer's storage manager, whose tests so
work here too; while a point is waited at, SR.other_config says `<name>` = `active`. A host
that wants to know makes the pipe `/tmp/fist_<name>.reached`: the first call to reach the
point opens it.

A point that is not switched on costs one look for a file.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import Final, NoReturn

from srs import paths
from srs.errors import FistPoint
from srs.session import Session

#: All points. Those of the collector and of its leaf-coalesce are in srs.gc.
NAMES: Final = frozenset(
    """
    LVHDRT_clone_vdi_after_create_journal LVHDRT_clone_vdi_after_shrink_parent
    LVHDRT_clone_vdi_after_lvcreate LVHDRT_clone_vdi_after_first_snap
    LVHDRT_clone_vdi_after_second_snap LVHDRT_clone_vdi_after_parent_hidden
    LVHDRT_clone_vdi_after_parent_ro LVHDRT_clone_vdi_before_remove_journal
    LVHDRT_clone_vdi_before_undo_clone LVHDRT_clone_vdi_after_undo_clone

    LVHDRT_inflate_after_create_journal LVHDRT_inflate_after_setSize
    LVHDRT_inflate_after_zeroOut LVHDRT_inflate_after_setSizePhys

    FileSR_fail_snap1 FileSR_fail_snap2 FileSR_fail_hardlink

    FileSR_revert_create_insert FileSR_revert_create_src FileSR_revert_create_dest
    LVM_revert_create_insert LVM_revert_create_src LVM_revert_create_dest
    FileSR_clone_after_create_journal FileSR_clone_after_commit
    FileSR_revert_committed FileSR_revert_before_remove_journal
    LVM_revert_renamed LVM_revert_committed LVM_revert_before_remove_journal
    resize_after_create_journal resize_after_grow lvhd_thin_detach_paused LVM_zero_after_setSize
    vdi_deactivate_prepared

    LVHDRT_finding_a_suitable_pair LVHDRT_coalescing_before_inflate_grandparent
    LVHDRT_inflating_the_parent LVHDRT_coalescing_VHD_data
    LVHDRT_before_create_relink_journal LVHDRT_relinking_grandchildren
    LVHDRT_resizing_while_vdis_are_paused
    cleanup_coalesceVHD_inject_failure cleanup_tracker_no_progress GCLoop_no_pause

    LVHDRT_coaleaf_delay_1 LVHDRT_coaleaf_delay_2 LVHDRT_coaleaf_delay_3
    LVHDRT_coaleaf_before_coalesce LVHDRT_coaleaf_after_coalesce
    LVHDRT_coaleaf_one_renamed LVHDRT_coaleaf_both_renamed LVHDRT_coaleaf_after_vdirec
    LVHDRT_coaleaf_before_delete LVHDRT_coaleaf_after_delete LVHDRT_coaleaf_before_remove_j
    LVHDRT_coaleaf_undo_after_rename LVHDRT_coaleaf_undo_after_rename2
    LVHDRT_coaleaf_undo_after_refcount LVHDRT_coaleaf_undo_after_deflate
    LVHDRT_coaleaf_undo_end LVHDRT_coaleaf_stop_after_recovery
    LVHDRT_coaleaf_finish_after_inflate LVHDRT_coaleaf_finish_end

    LVM_journaler_exists LVM_journaler_none LVM_journaler_badname
    LVM_journaler_readfail LVM_journaler_writefail

    blktap_activate_inject_failure blktap_activate_error_handling
    """.split()  # noqa: SIM905  # one name after the other is easier to read
)

EXIT: Final = "LVHDRT_exit"
_SECONDS: Final = 30.0
#: Seconds between two looks whether a call that is held may go on.
_LOOK: Final = 0.01

_sr: ContextVar[tuple[Session, str] | None] = ContextVar("sr", default=None)


@contextmanager
def serving(session: Session, sr_ref: str) -> Iterator[None]:
    """Points that are reached in this block belong to a call, or collector, of this SR."""
    token = _sr.set((session, sr_ref))
    try:
        yield
    finally:
        _sr.reset(token)


def point(name: str, failure: Callable[[], NoReturn] | None = None) -> None:
    """Here a test may make something happen.

    Args:
        name: one of NAMES.
        failure: what an empty file means at this point.

    Raises:
        FistPoint: asked for. No code of a driver may take it for a failure to be undone.
        Exception: what `failure` raises.
    """
    if os.access(paths.FIST + name, os.F_OK):
        _reached(name, failure)


def _reached(name: str, failure: Callable[[], NoReturn] | None) -> None:
    with open(paths.FIST + name, encoding="ascii") as file:
        words = file.read().split()
    waits = words[:1] == ["sleep"] or not (words or failure)
    with _announced(name) if waits else nullcontext():
        _tell(name)
        match words:
            case ["kill"]:
                os.kill(os.getpid(), signal.SIGKILL)
            case ["power-cut"]:
                while True:
                    signal.pause()
            case ["hold"]:
                while os.access(paths.FIST + name, os.F_OK):
                    time.sleep(_LOOK)
            case ["sleep", seconds]:
                time.sleep(float(seconds))
            case [] if failure:
                failure()
            case [] if not os.access(paths.FIST + EXIT, os.F_OK):
                time.sleep(_SECONDS)
            case _:
                raise FistPoint(name)


def _tell(name: str) -> None:
    """Open the pipe of a host that waits for this, if there is one, for the last time."""
    pipe = f"{paths.FIST}{name}.reached"
    if os.access(pipe, os.F_OK):
        fd = os.open(pipe, os.O_WRONLY | os.O_CLOEXEC)
        os.unlink(pipe)
        os.write(fd, b"reached")
        os.close(fd)


@contextmanager
def _announced(name: str) -> Iterator[None]:
    serving = _sr.get()
    if serving is None:
        yield
        return
    session, ref = serving
    session.call("SR.remove_from_other_config", ref, name)
    session.call("SR.add_to_other_config", ref, name, "active")
    try:
        yield
    finally:
        session.call("SR.remove_from_other_config", ref, name)


@contextmanager
def undone_by(undo: Callable[[], object]) -> Iterator[None]:
    """What this block has done is undone when it fails; a FIST point leaves it as it is."""
    try:
        yield
    except FistPoint:
        raise
    except BaseException:
        undo()
        raise
