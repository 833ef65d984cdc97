"""Events: what each answer holds, when it comes, and who gets it."""

from __future__ import annotations

import threading
import xmlrpc.client
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from xapi.datamodel import CLASSES
from xapi.testing import Rig, failure, serve

NULL = "OpaqueRef:NULL"
LONG = 30.0


def events_of(api: Any, classes: list[str], token: str, timeout: float = 0.0) -> dict[str, Any]:
    answer: dict[str, Any] = getattr(api.event, "from")(classes, token, timeout)
    return answer


def here(api: Any) -> str:
    """A token of this moment."""
    return str(events_of(api, ["pool"], "")["token"])


def seen(answer: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [(event["class"], event["operation"], event["ref"]) for event in answer["events"]]


class Waiters:
    """Calls that wait, each with a session and a thread of its own."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._pool = ThreadPoolExecutor(200)
        self.sessions: list[Any] = []

    def submit(self, call: Callable[[Any], Any]) -> Future[Any]:
        """Begin a call; it waits when this returns, or soon after."""
        session = self._rig.login()
        self.sessions.append(session)
        return self._pool.submit(call, session)

    def close(self) -> None:
        self._pool.shutdown()


@pytest.fixture
def waiters(rig: Rig) -> Iterator[Waiters]:
    waiters = Waiters(rig)
    yield waiters
    waiters.close()


# -- event.from


def test_from_the_beginning(rig: Rig) -> None:
    answer = events_of(rig.api, ["*"], "")
    assert set(answer) == {"events", "valid_ref_counts", "token"}
    assert {event["operation"] for event in answer["events"]} == {"add"}
    for event in answer["events"]:
        assert set(event) == {"id", "timestamp", "class", "operation", "ref", "snapshot"}
        assert event["class"] == event["class"].lower()
        assert event["timestamp"] == "0.0"
        assert int(event["id"]) > 0
    [pool] = [event for event in answer["events"] if event["class"] == "pool"]
    assert pool["snapshot"] == rig.api.pool.get_record(pool["ref"])
    evented = [cls.name for cls in CLASSES.values() if cls.evented]
    counts = {name.lower(): len(getattr(rig.api, name).get_all()) for name in evented}
    assert answer["valid_ref_counts"] == counts
    assert all(type(count) is int for count in answer["valid_ref_counts"].values())
    assert "session" not in counts


def test_the_token_has_the_shape_of_the_field(rig: Rig) -> None:
    token = here(rig.api)
    first, second = token.split(",")
    assert (len(first), len(second)) == (20, 20)
    assert int(first) == int(rig.api.event.get_current_id())


def test_add_mod_del(rig: Rig) -> None:
    start = here(rig.api)
    network = rig.api.network.create({"name_label": "a network"})
    added = events_of(rig.api, ["network"], start, LONG)
    assert seen(added) == [("network", "add", network)]
    assert added["events"][0]["snapshot"] == rig.api.network.get_record(network)
    rig.api.network.set_name_label(network, "another")
    modified = events_of(rig.api, ["network"], added["token"], LONG)
    assert seen(modified) == [("network", "mod", network)]
    rig.api.network.destroy(network)
    deleted = events_of(rig.api, ["network"], modified["token"], LONG)
    assert seen(deleted) == [("network", "del", network)]
    assert "snapshot" not in deleted["events"][0]
    assert deleted["valid_ref_counts"] == {"network": 2}
    assert seen(events_of(rig.api, ["network"], start)) == []


def test_an_object_is_in_a_batch_once(rig: Rig) -> None:
    """Q43, and the order of a batch: messages first, then adds, mods, dels."""
    old = rig.api.network.create({"name_label": "old"})
    kept = rig.api.network.create({"name_label": "kept"})
    start = here(rig.api)
    rig.api.network.destroy(old)
    rig.api.network.set_name_label(kept, "1")
    rig.api.network.set_name_label(kept, "2")
    fresh = rig.api.network.create({})
    rig.api.network.set_name_label(fresh, "fresh")
    message = rig.api.message.create("NAME", "3", "SR", "uuid", "")
    answer = events_of(rig.api, ["network", "message"], start)
    assert seen(answer) == [
        ("message", "add", message),
        ("network", "add", fresh),
        ("network", "mod", kept),
        ("network", "del", old),
    ]
    assert answer["events"][1]["snapshot"]["name_label"] == "fresh"
    assert answer["events"][2]["snapshot"]["name_label"] == "2"


def test_messages_come_and_go(rig: Rig) -> None:
    """Q41."""
    start = here(rig.api)
    message = rig.api.message.create("NAME", "3", "SR", "uuid", "")
    added = events_of(rig.api, ["message"], start)
    assert seen(added) == [("message", "add", message)]
    rig.api.message.destroy(message)
    assert seen(events_of(rig.api, ["message"], added["token"])) == [("message", "del", message)]


@pytest.mark.parametrize("name", ["network", "Network", "NETWORK"])
def test_classes_in_any_letter_case(rig: Rig, name: str) -> None:
    start = here(rig.api)
    network = rig.api.network.create({})
    rig.api.message.create("NAME", "3", "SR", "uuid", "")
    answer = events_of(rig.api, [name], start)
    assert seen(answer) == [("network", "add", network)]
    assert set(answer["valid_ref_counts"]) == {"network"}


def test_one_object(rig: Rig) -> None:
    """Q40."""
    one, other = (rig.api.network.create({}) for _ in range(2))
    start = here(rig.api)
    rig.api.network.set_name_label(other, "changed")
    assert seen(events_of(rig.api, [f"network/{one}"], start)) == []
    rig.api.network.set_name_label(one, "changed")
    answer = events_of(rig.api, [f"network/{one}"], start)
    assert seen(answer) == [("network", "mod", one)]
    assert answer["valid_ref_counts"] == {"network": 4}


def test_a_class_that_nobody_knows(rig: Rig) -> None:
    answer = events_of(rig.api, ["unicorn", "unicorn/OpaqueRef:x"], "")
    assert (answer["events"], answer["valid_ref_counts"]) == ([], {})


@pytest.mark.parametrize("text", ["", "a/b/c", "/x", "x/", "**", "*/x"])
def test_subscriptions_that_are_none(rig: Rig, text: str) -> None:
    expected = ["EVENT_SUBSCRIPTION_PARSE_FAILURE", text]
    assert failure(events_of, rig.api, ["vm", text], "") == expected
    assert failure(rig.api.event.register, [text]) == expected


@pytest.mark.parametrize("token", ["0", "x", f"{1:020}", f"{1:020},1", f"-{1:019},{1:020}"])
def test_tokens_that_are_none(rig: Rig, token: str) -> None:
    expected = ["EVENT_FROM_TOKEN_PARSE_FAILURE", token]
    assert failure(events_of, rig.api, ["*"], token) == expected


def test_tokens_of_another_server(rig: Rig) -> None:
    generation = int(rig.api.event.get_current_id()) + 1000
    token = f"{generation:020},{generation:020}"
    assert failure(events_of, rig.api, ["*"], token) == ["EVENTS_LOST"]


@pytest.mark.parametrize("timeout", [0.0, -1.0, 0.05])
def test_nothing_happens(rig: Rig, timeout: float) -> None:
    token = here(rig.api)
    rig.api.network.create({})
    answer = events_of(rig.api, ["console"], token, timeout)
    assert answer["events"] == []
    assert answer["token"] > token
    assert answer["valid_ref_counts"] == {"console": 0}


def test_inject(rig: Rig) -> None:
    """Q42: exactly one mod; this is how a client asks for its first token."""
    [pool] = rig.api.pool.get_all()
    token = rig.api.event.inject("pool", pool)
    assert seen(events_of(rig.api, ["*"], token)) == [("pool", "mod", pool)]
    assert failure(rig.api.event.inject, "pool", NULL) == ["HANDLE_INVALID", "pool", NULL]
    assert failure(rig.api.event.inject, "unicorn", NULL) == ["HANDLE_INVALID", "unicorn", NULL]


def test_operations_show_while_they_run(rig: Rig) -> None:
    """S13: the marks of an operation, on SR and VDI, and what it forbids meanwhile."""
    vdi = rig.vdi(rig.sr())
    rig.host.gates["vdi_clone"] = threading.Event()
    start = here(rig.api)
    task = rig.api.Async.VDI.clone(vdi)
    assert rig.host.reached.wait(10)
    answer = events_of(rig.api, [f"vdi/{vdi}", "task"], start)
    [started, record] = [event["snapshot"] for event in answer["events"]]
    assert started["status"] == "pending"
    assert record["current_operations"] == {task: "clone"}
    assert "destroy" not in record["allowed_operations"]
    rig.host.gates["vdi_clone"].set()
    while started["status"] == "pending":
        answer = events_of(rig.api, [f"task/{task}"], answer["token"], LONG)
        [started] = [event["snapshot"] for event in answer["events"]]
    assert started["status"] == "success"
    answer = events_of(rig.api, [f"vdi/{vdi}"], start)
    [record] = [event["snapshot"] for event in answer["events"]]
    assert record["current_operations"] == {}
    assert "destroy" in record["allowed_operations"]


def test_a_plugged_vbd_changes_its_vdi_and_vm(rig: Rig) -> None:
    vdi = rig.vdi(rig.sr())
    vbd = rig.vbd(vdi)
    start = here(rig.api)
    rig.api.VBD.plug(vbd)
    records = {
        event["ref"]: event["snapshot"] for event in events_of(rig.api, ["*"], start)["events"]
    }
    assert records[vdi]["allowed_operations"] == rig.api.VDI.get_allowed_operations(vdi)
    assert "destroy" not in records[vdi]["allowed_operations"]
    assert records[vbd]["currently_attached"] is True
    rig.api.VBD.unplug(vbd)


def test_another_version_of_a_driver(rig: Rig) -> None:
    """What SRs and VDIs allow changes with what their driver can do."""
    sr = rig.sr()
    vdi = rig.vdi(sr)
    start = here(rig.api)
    rig.host.capabilities["mem"] = ("VDI_CREATE",)
    rig.server.discover_drivers()
    answer = events_of(rig.api, ["sr", "vdi"], start)
    assert set(seen(answer)) == {("sr", "mod", sr), ("vdi", "mod", vdi)}
    for event in answer["events"]:
        assert "vdi_snapshot" not in event["snapshot"]["allowed_operations"]
        assert "snapshot" not in event["snapshot"]["allowed_operations"]


# -- waiting


def test_a_change_ends_the_waiting(rig: Rig, waiters: Waiters) -> None:
    """Q38 and Q39: several callers, one change, each gets it."""
    token = here(rig.api)
    futures = [
        waiters.submit(lambda api: events_of(api, ["network"], token, LONG)) for _ in range(5)
    ]
    rig.api.message.create("NAME", "3", "SR", "uuid", "not for them")
    network = rig.api.network.create({})
    for future in futures:
        assert seen(future.result(10)) == [("network", "add", network)]


def test_a_hundred_wait_and_others_are_answered(rig: Rig, waiters: Waiters) -> None:
    token = here(rig.api)
    futures = [waiters.submit(lambda api: events_of(api, ["*"], token, LONG)) for _ in range(100)]
    for _ in range(10):
        assert rig.login().pool.get_all()
    [pool] = rig.api.pool.get_all()
    rig.api.pool.set_name_label(pool, "changed")
    for future in futures:
        [event] = future.result(20)["events"]
        assert (event["ref"], event["snapshot"]["name_label"]) == (pool, "changed")


def until_waiting(rig: Rig, count: int) -> None:
    """So many calls wait."""
    while rig.server.xapi.events.waiting < count:
        threading.Event().wait(0.001)


class Raw:
    """A session whose client does not log in again by itself."""

    def __init__(self, rig: Rig) -> None:
        self.url = rig.server.url
        self.session = str(self("session.login_with_password", "root", "testbed")["Value"])

    def __call__(self, method: str, *params: object) -> dict[str, Any]:
        with xmlrpc.client.ServerProxy(self.url) as proxy:
            reply: Any = getattr(proxy, method)(*params)
        assert isinstance(reply, dict)
        return reply

    def event(self, name: str, *params: object) -> dict[str, Any]:
        return self(f"event.{name}", self.session, *params)


def test_logging_out_ends_the_waiting(rig: Rig) -> None:
    """Q36, for both ways to wait."""
    token = here(rig.api)
    modern, legacy = Raw(rig), Raw(rig)
    legacy.event("register", ["network"])
    with ThreadPoolExecutor() as pool:
        answers = [
            pool.submit(modern.event, "from", ["network"], token, LONG),
            pool.submit(legacy.event, "next"),
        ]
        until_waiting(rig, 2)
        for client, answer in zip((modern, legacy), answers, strict=True):
            client("session.logout", client.session)
            expected = ["SESSION_INVALID", client.session]
            assert answer.result(10)["ErrorDescription"] == expected


def test_the_end_of_the_server_ends_the_waiting(tmp_path: Path) -> None:
    with ThreadPoolExecutor() as pool:
        with serve(tmp_path) as rig:
            token = here(rig.api)
            modern, legacy = Raw(rig), Raw(rig)
            legacy.event("register", ["network"])
            answers = [
                pool.submit(modern.event, "from", ["network"], token, LONG),
                pool.submit(legacy.event, "next"),
            ]
            until_waiting(rig, 2)
        assert answers[0].result(10)["Value"]["events"] == []
        assert answers[1].result(10)["Value"] == []


def test_what_comes_and_goes_meanwhile_does_not_end_the_waiting(rig: Rig) -> None:
    token = here(rig.api)
    client = Raw(rig)
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(client.event, "from", ["network"], token, LONG)
        until_waiting(rig, 1)
        db = rig.server.xapi.db
        with db.lock:
            db.destroy("network", db.create("network"))
        network = rig.api.network.create({})
        [event] = answer.result(10)["Value"]["events"]
        assert event["ref"] == network


# -- event.register and event.next


def test_next(rig: Rig) -> None:
    """Q37."""
    rig.api.event.register(["network"])
    network = rig.api.network.create({"name_label": "1"})
    [event] = rig.api.event.next()
    assert (event["class"], event["operation"], event["ref"]) == ("network", "add", network)
    assert event["snapshot"] == rig.api.network.get_record(network)
    rig.api.event.register(["Message"])
    rig.api.network.set_name_label(network, "2")
    message = rig.api.message.create("NAME", "3", "SR", "uuid", "")
    assert [event["ref"] for event in rig.api.event.next()] == [message, network]
    rig.api.event.unregister(["NETWORK"])
    rig.api.network.destroy(network)
    rig.api.message.destroy(message)
    assert [event["ref"] for event in rig.api.event.next()] == [message]


def test_next_without_registering(rig: Rig) -> None:
    client = Raw(rig)
    expected = ["SESSION_NOT_REGISTERED", client.session]
    assert client.event("next")["ErrorDescription"] == expected
    assert client.event("unregister", ["vm"])["ErrorDescription"] == expected
    client.event("register", ["vm"])
    client.event("unregister", ["vm"])
    assert client.event("next")["ErrorDescription"] == expected


def test_unregistering_ends_the_waiting(rig: Rig) -> None:
    client = Raw(rig)
    client.event("register", ["vm"])
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(client.event, "next")
        until_waiting(rig, 1)
        client.event("unregister", ["vm"])
        expected = ["SESSION_NOT_REGISTERED", client.session]
        assert answer.result(10)["ErrorDescription"] == expected


def test_too_far_behind(rig: Rig) -> None:
    token = here(rig.api)
    rig.api.event.register(["*"])
    db = rig.server.xapi.db
    for _ in range(10_001):
        db.destroy("network", db.create("network"))
    assert failure(events_of, rig.api, ["*"], token) == ["EVENTS_LOST"]
    assert failure(rig.api.event.next) == ["EVENTS_LOST"]
    assert failure(rig.api.event.next)[0] == "SESSION_NOT_REGISTERED"
    rig.api.event.register(["network"])
    network = rig.api.network.create({})
    assert [event["ref"] for event in rig.api.event.next()] == [network]
