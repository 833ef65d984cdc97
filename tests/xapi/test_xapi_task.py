"""Tasks: calls in the background, their outcome, cancelling; and messages."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from xapi import task as tasks
from xapi.errors import XenAPIError
from xapi.message import now
from xapi.testing import Fault, Rig, failure, serve
from xapi.testing.rig import MIB


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with serve(tmp_path, plugins={"broken": lambda fn, args: args[fn]}) as rig:
        yield rig


# -- Async


def test_a_call_in_the_background(rig: Rig) -> None:
    vdi = rig.vdi(rig.sr())
    rig.host.gates["vdi_clone"] = threading.Event()
    task = rig.api.Async.VDI.clone(vdi)
    assert rig.host.reached.wait(10)
    running = rig.api.task.get_record(task)
    assert (running["name_label"], running["status"]) == ("Async.VDI.clone", "pending")
    assert (running["progress"], running["result"], running["error_info"]) == (0.0, "", [])
    assert running["allowed_operations"] == ["cancel"]
    assert running["resident_on"] == rig.server.xapi.host
    assert rig.api.VDI.get_current_operations(vdi) == {task: "clone"}
    rig.host.gates["vdi_clone"].set()
    ended = rig.until_ended(task)
    assert (ended["status"], ended["progress"], ended["error_info"]) == ("success", 1.0, [])
    assert ended["allowed_operations"] == []
    assert ended["finished"] >= ended["created"]
    [clone] = set(rig.api.VDI.get_all()) - {vdi}
    assert ended["result"] == f"<value>{clone}</value>"
    assert rig.api.VDI.get_current_operations(vdi) == {}


def test_nothing_to_return(rig: Rig) -> None:
    vdi = rig.vdi(rig.sr())
    task = rig.until_ended(rig.api.Async.VDI.resize(vdi, str(2 * MIB)))
    assert (task["status"], task["result"]) == ("success", "<value></value>")


def test_an_expected_failure(rig: Rig) -> None:
    vdi = rig.vdi(rig.sr())
    rig.host.faults["vdi_clone"] = Fault(44, "There is insufficient space")
    task = rig.until_ended(rig.api.Async.VDI.clone(vdi))
    assert (task["status"], task["result"]) == ("failure", "")
    assert task["error_info"][0] == "SR_BACKEND_FAILURE_44"


def test_a_failure_that_nobody_expected(rig: Rig) -> None:
    host = rig.server.xapi.host
    task = rig.until_ended(rig.api.Async.host.call_plugin(host, "broken", "fn", {}))
    assert (task["status"], task["error_info"]) == ("failure", ["INTERNAL_ERROR", "KeyError: 'fn'"])


def test_what_is_wrong_with_the_call_itself_is_said_at_once(rig: Rig) -> None:
    clone = rig.api.Async.VDI.clone
    assert failure(clone) == ["MESSAGE_PARAMETER_COUNT_MISMATCH", "VDI.clone", "2", "0"]
    assert failure(clone, 5) == ["FIELD_TYPE_ERROR", "vdi"]
    assert rig.api.task.get_all() == []


@pytest.mark.parametrize(
    "method",
    ["VDI.get_uuid", "VDI.set_tags", "VM.get_all_records", "task.create", "session.logout"],
)
def test_messages_without_an_asynchronous_form(rig: Rig, method: str) -> None:
    call: Any = rig.api.Async
    for part in method.split("."):
        call = getattr(call, part)
    assert failure(call, "x") == ["MESSAGE_METHOD_UNKNOWN", f"Async.{method}"]


def test_generated_constructors_have_one(rig: Rig) -> None:
    task = rig.until_ended(rig.api.Async.secret.create({"value": "made"}))
    [secret] = rig.api.secret.get_all()
    assert task["result"] == f"<value>{secret}</value>"


def test_the_end_of_the_server_waits_for_what_runs(tmp_path: Path) -> None:
    with serve(tmp_path) as rig:
        vdi = rig.vdi(rig.sr())
        db = rig.server.xapi.db
        running = [rig.api.Async.VDI.clone(vdi) for _ in range(5)]
    ended = {db.get("task", task, "status") for task in running}
    assert ended <= {"success", "failure"}


# -- cancel and destroy


def test_a_cancelled_task_stops_to_wait_for_others(rig: Rig) -> None:
    vdi = rig.vdi(rig.sr())
    rig.host.gates["vdi_clone"] = threading.Event()
    working = rig.api.Async.VDI.clone(vdi)
    assert rig.host.reached.wait(10)
    waiting = rig.api.Async.VDI.destroy(vdi)
    rig.api.task.cancel(waiting)
    ended = rig.until_ended(waiting)
    assert (ended["status"], ended["error_info"]) == ("cancelled", ["TASK_CANCELLED", waiting])
    rig.host.gates["vdi_clone"].set()
    assert rig.until_ended(working)["status"] == "success"
    assert vdi in rig.api.VDI.get_all()


def test_work_that_was_done_before_it_saw_the_cancelling(rig: Rig) -> None:
    vdi = rig.vdi(rig.sr())
    rig.host.gates["vdi_clone"] = threading.Event()
    task = rig.api.Async.VDI.clone(vdi)
    assert rig.host.reached.wait(10)
    rig.api.task.cancel(task)
    assert rig.api.task.get_status(task) == "cancelling"
    assert failure(rig.api.task.cancel, task)[0] == "OPERATION_NOT_ALLOWED"
    rig.host.gates["vdi_clone"].set()
    assert rig.until_ended(task)["status"] == "success"
    assert failure(rig.api.task.cancel, task)[0] == "OPERATION_NOT_ALLOWED"


def test_a_task_that_runs_is_removed_when_it_has_ended(rig: Rig) -> None:
    vdi = rig.vdi(rig.sr())
    rig.host.gates["vdi_clone"] = threading.Event()
    task = rig.api.Async.VDI.clone(vdi)
    assert rig.host.reached.wait(10)
    rig.api.task.destroy(task)
    assert rig.api.task.get_status(task) == "pending"
    rig.host.gates["vdi_clone"].set()
    db = rig.server.xapi.db
    with db.changed:
        assert db.changed.wait_for(lambda: not db.exists("task", task), 10)
    assert len(rig.api.VDI.get_all()) == 2


# -- for whoever does the work


def test_work_may_be_given_up_until_it_is_insisted_on(rig: Rig) -> None:
    db = rig.server.xapi.db
    task = tasks.begin(db, rig.server.xapi.host, "work", served=True)
    tasks.check_cancelled(db, task)
    tasks.report(db, task, 0.5)
    assert rig.api.task.get_progress(task) == 0.5
    tasks.insist(db, task)
    assert failure(rig.api.task.cancel, task)[0] == "OPERATION_NOT_ALLOWED"
    tasks.succeed(db, task, 7)
    assert rig.api.task.get_result(task) == "<value>7</value>"


def test_cancelled_just_before_it_is_insisted_on(rig: Rig) -> None:
    db = rig.server.xapi.db
    task = tasks.begin(db, rig.server.xapi.host, "work", served=True)
    rig.api.task.cancel(task)
    with pytest.raises(XenAPIError, match="TASK_CANCELLED"):
        tasks.insist(db, task)


def test_old_tasks_are_collected(rig: Rig) -> None:
    db, host = rig.server.xapi.db, rig.server.xapi.host
    served = tasks.begin(db, host, "served", served=True)
    reported = tasks.begin(db, host, "reported", served=False)
    ended = tasks.begin(db, host, "ended", served=True)
    tasks.succeed(db, ended, "")
    tasks.collect(db, now() + timedelta(minutes=64))
    assert rig.api.task.get_all() == [served, reported, ended]
    tasks.collect(db, now() + timedelta(minutes=66))
    assert rig.api.task.get_all() == [served, reported]
    tasks.collect(db, now() + timedelta(hours=25))
    assert rig.api.task.get_all() == [served]


def test_many_ended_tasks(rig: Rig) -> None:
    db, host = rig.server.xapi.db, rig.server.xapi.host
    for number in range(250):
        tasks.succeed(db, tasks.begin(db, host, str(number), served=True), "")
    tasks.collect(db, now())
    kept = [rig.api.task.get_name_label(task) for task in rig.api.task.get_all()]
    assert kept == [str(number) for number in range(50, 250)]


# -- tasks of clients, and messages


def test_tasks_of_clients(rig: Rig) -> None:
    task = rig.api.task.create("label", "text")
    assert rig.api.task.get_status(task) == "pending"
    rig.api.task.set_progress(task, 0.5)
    assert rig.api.task.get_progress(task) == 0.5
    rig.api.task.set_other_config(task, {"a": "b"})
    rig.api.task.cancel(task)
    assert rig.api.task.get_status(task) == "cancelling"
    assert failure(rig.api.task.cancel, task)[0] == "OPERATION_NOT_ALLOWED"
    rig.api.task.set_status(task, "success")
    assert str(rig.api.task.get_finished(task)) > "2020"
    assert failure(rig.api.task.set_status, task, "great") == ["FIELD_TYPE_ERROR", "value"]
    rig.api.task.destroy(task)
    assert failure(rig.api.task.get_status, task) == ["HANDLE_INVALID", "task", task]
    assert failure(rig.api.task.set_status, task, "failure") == ["HANDLE_INVALID", "task", task]


@pytest.mark.parametrize("value", ["success", "failure", "cancelled", "cancelling", "pending"])
def test_a_client_does_not_end_what_the_server_works_on(rig: Rig, value: str) -> None:
    vdi = rig.vdi(rig.sr())
    rig.host.gates["vdi_snapshot"] = gate = threading.Event()
    task = rig.api.Async.VDI.snapshot(vdi)
    assert rig.host.reached.wait(10)
    assert failure(rig.api.task.set_status, task, value)[0] == "OPERATION_NOT_ALLOWED"
    assert rig.api.task.get_status(task) == "pending"
    gate.set()
    assert rig.until_ended(task)["status"] == "success"


def test_messages(rig: Rig) -> None:
    message = rig.api.message.create("NAME", "3", "SR", "uuid", "body")
    record = rig.api.message.get_record(message)
    assert (record["name"], record["priority"], record["cls"]) == ("NAME", "3", "SR")
    other = rig.api.message.create("NAME", "3", "VM", "uuid", "body")
    long_ago = datetime(2020, 1, 1, tzinfo=UTC)
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    assert list(rig.api.message.get("SR", "uuid", long_ago)) == [message]
    assert set(rig.api.message.get_since(long_ago)) == {message, other}
    assert rig.api.message.get_since(tomorrow) == {}
    rig.api.message.destroy(message)
    rig.api.message.destroy_many([other])
    assert rig.api.message.get_all() == []
