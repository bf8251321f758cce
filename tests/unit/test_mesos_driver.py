"""The driver: what pymesos would do wrong, and does not here; what it tells and calls. Against a master that obeys."""

from __future__ import annotations

import base64
import json
import queue
import random
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest

from retz.engine.base import Task
from retz.engine.mesos import calls, detector, events, stream, subscription
from retz.engine.mesos.address import parse_master
from retz.engine.mesos.driver import Worker
from retz.engine.mesos.stream import Stream
from retz.engine.mesos.subscription import Driver
from retz.engine.mesos.tasks import task_info
from retz.engine.mesos.wire import (
    ITEMS,
    Accept,
    Accepted,
    Ack,
    Acknowledge,
    AgentLost,
    Connect,
    Decline,
    Disconnected,
    Entry,
    Kill,
    Launch,
    Malformed,
    MesosOffer,
    Message,
    NotAccepted,
    Offers,
    Reconcile,
    Refused,
    Rescinded,
    Revive,
    Status,
    Statuses,
    Stop,
    Subscribed,
    Suppress,
    TaskRef,
)
from retz.model.resources import Resources
from tests.conformance.recording import Kind, load, names
from tests.doubles.scripted_master import (
    FRAMEWORK,
    LAST,
    PATIENCE_S,
    STREAM,
    SUBSCRIBED,
    Request,
    ScriptedMaster,
    chunk,
    record,
    subscribe,
    text,
)

M = TypeVar("M")
process = stream.process  # type: ignore[attr-defined]  # pymesos, with its needs replaced
INFO = {"name": "retz", "user": "root", "roles": ["a"], "capabilities": [{"type": "PARTITION_AWARE"}]}
HEARTBEAT = {"type": "HEARTBEAT"}


class Heard:
    """What the server would hear."""

    def __init__(self) -> None:
        self.all: list[Message] = []
        self._news: queue.SimpleQueue[Message] = queue.SimpleQueue()

    def emit(self, messages: Sequence[Message]) -> None:
        for message in messages:
            self.all.append(message)
            self._news.put(message)

    def next(self, kind: type[M]) -> M:
        """The next of a kind, leaving out others before it."""
        while True:
            message = self._news.get(timeout=PATIENCE_S)
            if isinstance(message, kind):
                return message


class Rig:
    """A driver's worker in this thread, a master in others."""

    def __init__(self) -> None:
        self.heard = Heard()
        self.worker = Worker(self.heard.emit)

    def tell(self, *messages: Any) -> None:
        """As the server does; returns when it is done."""
        for message in messages:
            self.worker.inbox.put(message)
        worker = self.worker
        while worker._todo or worker._acks or not worker.inbox.empty():
            worker.step()

    def connect(self, address: str, **more: Any) -> None:
        self.tell(Connect(address, INFO, **more))

    @property
    def driver(self) -> Driver:
        assert self.worker.driver is not None
        return self.worker.driver


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    monkeypatch.setattr(subscription, "PAUSE_S", 0.001)
    monkeypatch.setattr(subscription, "MAX_PAUSE_S", 0.01)
    monkeypatch.setattr(process, "SELECT_TIMEOUT", 0.05)
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in the child: pymesos interrupts the main thread
    rig = Rig()
    yield rig
    signal.signal(signal.SIGINT, handler)
    if rig.worker.driver is not None:
        rig.tell(Stop())
    assert rig.worker.driver is None


@pytest.fixture
def master() -> Iterator[ScriptedMaster]:
    with ScriptedMaster() as master:
        yield master
        assert "TEARDOWN" not in master.types()


def until(condition: Callable[[], bool]) -> None:
    """Wait for it."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        threading.Event().wait(0.002)


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


# -- registration ----------------------------------------------------------------------------------------------


def test_it_registers_as_told(rig: Rig, master: ScriptedMaster) -> None:
    rig.connect(master.address)
    assert rig.heard.next(Subscribed) == Subscribed(FRAMEWORK, master.address, "1.12.0")
    call = master.wait_for("SUBSCRIBE")
    # Nothing added or taken away: pymesos adds GPU_RESOURCES and a time-out of its own.
    assert call.body == {"type": "SUBSCRIBE", "subscribe": {"framework_info": INFO}}
    assert len(master.requests) == 1, "no GET /version, which would block"


def test_it_comes_back_under_its_id(rig: Rig, master: ScriptedMaster) -> None:
    rig.connect(master.address)
    rig.heard.next(Subscribed)
    first = master.wait_for("SUBSCRIBE")
    first.send(LAST)
    assert "ended the stream" in rig.heard.next(Disconnected).why
    rig.heard.next(Subscribed)
    again = master.wait_for("SUBSCRIBE")
    assert again.body["framework_id"] == {"value": FRAMEWORK}
    assert again.body["subscribe"]["framework_info"]["id"] == {"value": FRAMEWORK}


def test_credentials_may_be_any_text(rig: Rig, master: ScriptedMaster) -> None:
    rig.connect(master.address, principal="rétz", secret="ключ")
    rig.heard.next(Subscribed)
    rig.tell(Revive())
    expected = "Authorization: Basic " + base64.b64encode("rétz:ключ".encode()).decode()
    assert expected in master.wait_for("SUBSCRIBE").head
    assert expected in master.wait_for("REVIVE").head


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("m:5050", "m:5050"),
        ("m", "m:5050"),
        ("http://m:5060/", "m:5060"),
        ("[::1]:5050", "[::1]:5050"),
        ("zk://a:2181,b:2181/mesos", "zk://a:2181,b:2181/mesos"),
    ],
)
def test_masters_as_people_write_them(written: str, meant: str) -> None:
    assert parse_master(written) == meant


@pytest.mark.parametrize("written", ["", "https://m:5050", "m:0", "m/x:5050", ":5050", "m:99999"])
def test_masters_that_cannot_be(rig: Rig, written: str) -> None:
    rig.connect(written)
    refused = rig.heard.next(Refused)
    assert refused.kind == "other" and ("plain HTTP" if "https" in written else "write host:port") in refused.why


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (text("401 Unauthorized", "401 Unauthorized."), "set retz.mesos.principal and retz.mesos.secret-file"),
        (text("403 Forbidden", "not you"), r"does not permit retz.mesos.principal.*not you"),
        (text("404 Not Found", "404 Not Found."), "is not a Mesos master.*check retz.mesos.master"),
        (text("400 Bad Request", "principal differs"), "refused the subscription .HTTP 400: principal differs"),
        (text("200 OK", "<html>"), "is not a Mesos master"),
    ],
)
def test_refusals_are_told_once_and_tried_again(
    rig: Rig, master: ScriptedMaster, answer: bytes, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    master.on_subscribe = lambda request: request.send(answer)
    rig.connect(master.address)
    for _ in range(5):
        master.wait_for("SUBSCRIBE")
    master.on_subscribe = subscribe
    rig.heard.next(Subscribed)
    refused = [message for message in rig.heard.all if isinstance(message, Refused)]
    assert len(refused) == 1 and refused[0].kind == "other"
    with pytest.raises(AssertionError, match=why):
        raise AssertionError(refused[0].why)


def test_a_wrong_secret(rig: Rig, master: ScriptedMaster) -> None:
    master.on_subscribe = lambda request: request.send(text("401 Unauthorized", "401 Unauthorized."))
    rig.connect(master.address, principal="p", secret="s")
    assert "does not accept retz.mesos.principal with the secret" in rig.heard.next(Refused).why


# -- a master that is away, or odd -----------------------------------------------------------------------------


def test_a_master_away_for_days(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour passes with every attempt; 1 100 of them are more than pymesos's arithmetic survives."""
    now = [1e9]
    slept: list[float] = []

    def hour() -> float:
        now[0] += 3600.0
        return now[0]

    clock = SimpleNamespace(time=hour, sleep=slept.append, strftime=time.strftime, localtime=time.localtime)
    monkeypatch.setattr(process, "time", clock)
    monkeypatch.setattr(subscription, "MAX_PAUSE_S", 0.0)
    port = closed_port()
    rig.connect(f"127.0.0.1:{port}")
    until(lambda: len(slept) > 1100)
    assert now[0] > 1e9 + 86400 * 30
    assert set(slept) == {0.0}, "nobody sleeps where news would not wake him"
    with ScriptedMaster(port=port) as master:
        assert rig.heard.next(Subscribed).master == master.address
        away = [message.why for message in list(rig.heard.all) if isinstance(message, Disconnected)]
    assert away[0] == f"cannot connect to the Mesos master at 127.0.0.1:{port}: Connection refused"
    assert len(away) <= 2, "told once, not with every attempt"


def test_a_name_that_does_not_resolve(rig: Rig) -> None:
    rig.connect("no-such-host.invalid:5050")
    assert "cannot connect to the Mesos master at no-such-host.invalid:5050" in rig.heard.next(Disconnected).why
    assert not rig.driver.died


def test_attempts_that_fail_are_spaced(rig: Rig, master: ScriptedMaster, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(subscription, "PAUSE_S", 0.2)
    monkeypatch.setattr(subscription, "MAX_PAUSE_S", 5.0)
    monkeypatch.setattr(Driver, "_sleep", lambda _, seconds: pauses.append(seconds))
    master.on_subscribe = lambda request: request.send(
        text("503 Service Unavailable", "Master has not finished recovery")
    )
    rig.connect(master.address)
    for _ in range(12):
        master.wait_for("SUBSCRIBE")
    assert pauses[0] <= 0.2 and all(2.5 <= pause <= 5.0 for pause in pauses[6:10])
    assert "Master has not finished recovery" in rig.heard.next(Disconnected).why


def test_a_master_that_says_error_and_closes_is_not_asked_without_pause(
    rig: Rig, master: ScriptedMaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(Driver, "_sleep", lambda _, seconds: pauses.append(seconds))
    error = {"type": "ERROR", "error": {"message": "'FrameworkInfo.roles' contains duplicate items: { a }"}}
    master.on_subscribe = lambda request: request.send(STREAM + record(error) + LAST)
    rig.connect(master.address)
    for _ in range(4):
        master.wait_for("SUBSCRIBE")
    refused = rig.heard.next(Refused)
    assert (refused.kind, refused.why) == ("other", "'FrameworkInfo.roles' contains duplicate items: { a }")
    until(lambda: len(pauses) >= 3)
    assert sum(isinstance(message, Refused) for message in rig.heard.all) == 1


def test_a_redirect_is_followed(rig: Rig, master: ScriptedMaster) -> None:
    location = f"Location: //{master.address}/master/api/v1/scheduler\r\n"
    follower = ScriptedMaster(lambda request: request.send(text("307 Temporary Redirect", "see there", location)))
    with follower:
        rig.connect(follower.address)
        assert rig.heard.next(Subscribed).master == master.address
        assert follower.types() == ["SUBSCRIBE"]
        rig.tell(Suppress())
        master.wait_for("SUPPRESS")


def test_a_dead_leader_is_not_believed_in_for_ever(rig: Rig, master: ScriptedMaster) -> None:
    """The configured master goes on naming the dead one for ten seconds, then leads itself."""
    location = f"Location: //127.0.0.1:{closed_port()}/master/api/v1/scheduler\r\n"
    master.on_subscribe = lambda request: request.send(text("307 Temporary Redirect", "", location))
    rig.connect(master.address)
    for _ in range(5):
        master.wait_for("SUBSCRIBE")
    master.on_subscribe = subscribe
    assert rig.heard.next(Subscribed).master == master.address


def test_masters_that_send_us_round(rig: Rig, master: ScriptedMaster, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(Driver, "_sleep", lambda _, seconds: pauses.append(seconds))
    with ScriptedMaster() as other:
        there, back = (f"Location: //{to.address}/x\r\n" for to in (other, master))
        master.on_subscribe = lambda request: request.send(text("307 Temporary Redirect", "", there))
        other.on_subscribe = lambda request: request.send(text("307 Temporary Redirect", "", back))
        rig.connect(master.address)
        until(lambda: len(pauses) > 3)
        other.on_subscribe = subscribe
        assert rig.heard.next(Subscribed).master == other.address


def test_a_silent_stream_is_left(rig: Rig, master: ScriptedMaster) -> None:
    quick = json.loads(json.dumps(SUBSCRIBED))
    quick["subscribed"]["heartbeat_interval_seconds"] = 0.01
    master.on_subscribe = lambda request: request.send(STREAM + record(quick))
    rig.connect(master.address)
    rig.heard.next(Subscribed)
    assert "said nothing for" in rig.heard.next(Disconnected).why
    rig.heard.next(Subscribed)


def test_a_master_that_never_answers(rig: Rig, master: ScriptedMaster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "ANSWER_WITHIN_S", 0.05)
    master.on_subscribe = lambda request: None
    rig.connect(master.address)
    assert "said nothing for" in rig.heard.next(Disconnected).why
    master.on_subscribe = subscribe
    rig.heard.next(Subscribed)


@pytest.mark.parametrize(
    ("kind", "message"), [("superseded", "Framework failed over"), ("removed", "Framework has been removed")]
)
def test_told_to_go_it_stays_away(rig: Rig, master: ScriptedMaster, kind: str, message: str) -> None:
    """Two servers of one id would throw each other out for ever."""
    master.on_subscribe = lambda request: request.send(
        STREAM + record({"type": "ERROR", "error": {"message": message}}) + LAST
    )
    rig.connect(master.address)
    assert rig.heard.next(Refused) == Refused(kind, message)
    rig.heard.next(Disconnected)
    master.on_subscribe = subscribe
    until(lambda: rig.driver.master is None and rig.driver.stream is None)
    rig.driver.elected(master.address)  # not even for ZooKeeper
    assert rig.driver._new_master is None and not rig.driver.died
    rig.tell(Accept(1, ["o"], []))
    assert rig.heard.next(NotAccepted).certain
    rig.connect(master.address)
    rig.heard.next(Subscribed)


def test_a_leader_by_zookeeper(rig: Rig, master: ScriptedMaster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detector.Detector, "start", lambda _: None)
    rig.connect("zk://127.0.0.1:1/mesos")
    rig.driver._zookeeper_away("ZooKeeper (127.0.0.1:1/mesos) does not answer: refused")
    assert "does not answer" in rig.heard.next(Disconnected).why
    rig.driver.elected(None)
    assert "no leading Mesos master" in rig.heard.next(Disconnected).why
    rig.driver.elected(master.address)
    rig.heard.next(Subscribed)
    rig.driver._zookeeper_away("gone")  # who leads is known: the stream stays
    with ScriptedMaster() as successor:
        rig.driver.elected(successor.address)
        assert rig.heard.next(Subscribed).master == successor.address
        assert "gone" not in [message.why for message in rig.heard.all if isinstance(message, Disconnected)]


def test_masters_nodes_in_zookeeper() -> None:
    assert detector.leaders(["log_replicas", "json.info_0000000012", "info_1", "json.info_0000000009"]) == [
        "json.info_0000000009",
        "json.info_0000000012",
    ]
    data = b'{"address":{"hostname":"127.0.0.1","ip":"127.0.0.1","port":5060},"hostname":"127.0.0.1"}'
    assert detector.address(data) == "127.0.0.1:5060"
    assert detector.address(b'{"address":{"hostname":"m","port":5060}}') == "m:5060"
    for odd in (None, b"", b"\xff", b"[]", b'{"address":{}}', b'{"address":{"ip":"m","port":"x"}}', b"1"):
        assert detector.address(odd) is None


# -- events ----------------------------------------------------------------------------------------------------


def test_no_callback_ends_the_stream(rig: Rig, master: ScriptedMaster, monkeypatch: pytest.MonkeyPatch) -> None:
    """pymesos would tear down and interrupt the main thread."""
    rig.connect(master.address)
    rig.heard.next(Subscribed)
    read = events.read

    def broken(event: bytes) -> events.Read:
        if b"RESCIND" in event:
            raise RuntimeError("a fault of ours")
        return read(event)

    monkeypatch.setattr(events, "read", broken)
    stream = master.wait_for("SUBSCRIBE")
    stream.send(record({"type": "RESCIND", "rescind": {"offer_id": {"value": "o"}}}))
    assert "a fault of ours" in rig.heard.next(Malformed).why
    stream.send(record({"type": "FAILURE", "failure": {"agent_id": {"value": "S1"}}}))
    assert rig.heard.next(AgentLost).agent == "S1"
    assert not rig.driver.died
    assert master.types() == ["SUBSCRIBE"]


def test_not_even_the_end_of_its_thread_tears_down(
    rig: Rig, master: ScriptedMaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.connect(master.address)
    rig.heard.next(Subscribed)

    def raising(_: Stream) -> bool:
        raise RuntimeError("worse")

    monkeypatch.setattr(Stream, "read", raising)
    master.wait_for("SUBSCRIBE").send(record(HEARTBEAT))
    until(lambda: rig.driver.died)  # which ends the child, so that the server starts another
    rig.driver.abort()
    rig.driver.stop(failover=False)
    rig.driver._teardown()
    assert master.types() == ["SUBSCRIBE"]


@pytest.mark.parametrize(
    "event",
    [
        b"not json",
        b"\xff\xfe{}",
        b"[]",
        b"{}",
        b'{"type":"UPDATE"}',
        b'{"type":"UPDATE","update":{"status":{"state":"TASK_RUNNING"}}}',
        b'{"type":"OFFERS","offers":{"offers":{}}}',
        b'{"type":"FROM_THE_FUTURE","from_the_future":{"a":1}}',
        b'{"type":"SUBSCRIBED","subscribed":{}}',
        b'{"type":1e999}',
        b"",
    ],
)
def test_events_that_make_no_sense_are_ignored(rig: Rig, master: ScriptedMaster, event: bytes) -> None:
    rig.connect(master.address)
    rig.heard.next(Subscribed)
    stream = master.wait_for("SUBSCRIBE")
    stream.send(record(event))
    rig.heard.next(Malformed)
    stream.send(record({"type": "RESCIND", "rescind": {"offer_id": {"value": "o7"}}}))
    assert rig.heard.next(Rescinded).offers == ["o7"]
    assert not any(isinstance(message, Disconnected) for message in rig.heard.all)


@pytest.mark.parametrize(
    "garbage", [chunk(b"abc\n{}"), chunk(b"99999999999999999"), chunk(b"-5\n"), b"zz\r\n", b"\0" * 50]
)
def test_a_stream_that_is_none_is_opened_anew(rig: Rig, master: ScriptedMaster, garbage: bytes) -> None:
    rig.connect(master.address)
    rig.heard.next(Subscribed)
    master.wait_for("SUBSCRIBE").send(garbage)
    rig.heard.next(Disconnected)
    rig.heard.next(Subscribed)


def test_every_recorded_event_is_understood() -> None:
    seen: dict[str, int] = {}
    for name in names():
        for entry in load(name).entries:
            if entry.kind is not Kind.CHUNK or b"\n{" not in entry.raw:
                continue
            body = entry.raw.split(b"\r\n", 1)[1]
            if b'"subscribed":{"get_state"' in body or name.startswith("15"):
                continue  # the operator's stream
            for event in events.Records().feed(body.removesuffix(b"\r\n")):
                read = events.read(event)
                kind = json.loads(event)["type"]
                assert not any(isinstance(message, Malformed) for message in read.messages), event
                assert read.messages or read.subscription or read.refusal or kind in ("HEARTBEAT", "FAILURE", "OFFERS")
                seen[kind] = seen.get(kind, 0) + 1
    assert seen["UPDATE"] > 300 and seen["OFFERS"] > 50 and seen["RESCIND"] and seen["ERROR"] and seen["FAILURE"]


def recorded(name: str, kind: str) -> list[Any]:
    """The events of a type in a recording."""
    found: list[Any] = []
    for entry in load(name).entries:
        if entry.kind is Kind.CHUNK and entry.title == kind:
            found += events.Records().feed(entry.raw.split(b"\r\n", 1)[1].removesuffix(b"\r\n"))
    return found


def test_offers_as_recorded() -> None:
    (message,) = events.read(recorded("01", "OFFERS")[0]).messages
    assert isinstance(message, Offers)
    agent = "2b5c41d6-760f-4144-9ae7-926fec98b84e-S1"
    entries = (
        Entry("ports", 101.0, ((31200, 31300),)),
        Entry("cpus", 2.0),
        Entry("mem", 2048.0),
        Entry("disk", 4096.0),
    )
    assert message.offers[0] == MesosOffer(
        "2b5c41d6-760f-4144-9ae7-926fec98b84e-O0",
        agent,
        "127.0.0.1",
        "http://127.0.0.1:5052/slave(1)",
        "*",
        entries,
        {"rack": "r2", "level": 3.0},
    )


def test_roles_of_offers_as_recorded() -> None:
    roles = set()
    for event in recorded("09", "OFFERS"):
        for message in events.read(event).messages:
            assert isinstance(message, Offers)
            roles |= {offer.role for offer in message.offers}
    assert {"eng", "ops"} <= roles


def offer(resources: list[Any], **more: Any) -> MesosOffer:
    event = {
        "type": "OFFERS",
        "offers": {
            "offers": [
                {"id": {"value": "o"}, "agent_id": {"value": "S"}, "hostname": "h", "resources": resources} | more
            ]
        },
    }
    (message,) = events.read(json.dumps(event).encode()).messages
    assert isinstance(message, Offers)
    return message.offers[0]


def scalar(name: str, value: float, **more: Any) -> dict[str, Any]:
    return {"name": name, "type": "SCALAR", "scalar": {"value": value}, "role": "*"} | more


def test_reservations_are_kept_as_marks() -> None:
    new = [{"type": "STATIC", "role": "eng"}, {"type": "DYNAMIC", "role": "eng/web", "principal": "p"}]
    got = offer(
        [
            scalar("cpus", 1),
            scalar("cpus", 2, role="eng"),
            scalar("cpus", 3, role="eng", reservation={"principal": "p"}),
            scalar("cpus", 4, reservations=new),
        ]
    )
    assert [entry.marks for entry in got.entries] == [
        {},
        {"role": "eng"},
        {"role": "eng", "reservation": {"principal": "p"}},
        {"reservations": new},
    ]


def test_what_is_no_plain_room_is_left_out() -> None:
    got = offer(
        [
            scalar("disk", 1, disk={"source": {"type": "PATH"}}),
            scalar("disk", 2, disk={"persistence": {"id": "v"}}),
            scalar("cpus", 3, revocable={}),
            scalar("mem", 4, shared={}),
            scalar("bandwidth", 5),
            scalar("disk", 6),
        ]
    )
    assert got.entries == (Entry("disk", 6.0),)


def test_attributes_and_addresses() -> None:
    attributes = [
        {"name": "zone", "type": "TEXT", "text": {"value": "z"}},
        {"name": "level", "type": "SCALAR", "scalar": {"value": 3}},
        {"name": "bays", "type": "RANGES", "ranges": {"range": [{"begin": 1, "end": 3}, {"begin": 7, "end": 7}]}},
        {"name": "tags", "type": "SET", "set": {"item": ["a", "b"]}},
    ]
    got = offer([], attributes=attributes)
    assert got.attributes == {"zone": "z", "level": 3.0, "bays": "1-3,7-7", "tags": "a,b"}
    assert (got.url, got.role) == ("http://h:5051", "*")
    url = {"scheme": "https", "address": {"hostname": "x", "ip": "fe80::1", "port": 5052}, "path": "/slave(1)"}
    allocated = scalar("cpus", 1, allocation_info={"role": "ops"})
    got = offer([allocated], url=url)
    assert (got.url, got.role) == ("https://[fe80::1]:5052/slave(1)", "ops")


def test_offers_that_cannot_be_read_are_declined(rig: Rig, master: ScriptedMaster) -> None:
    """Nobody else would: they would be ours until we disconnect."""
    rig.connect(master.address)
    rig.heard.next(Subscribed)
    good = {"id": {"value": "good"}, "agent_id": {"value": "S"}}
    event = {"type": "OFFERS", "offers": {"offers": [{"id": {"value": "odd"}}, good, {"id": 7}]}}
    master.wait_for("SUBSCRIBE").send(record(event))
    assert [each.id for each in rig.heard.next(Offers).offers] == ["good"]
    rig.heard.next(Malformed)
    rig.tell()
    assert master.wait_for("DECLINE").body["decline"]["offer_ids"] == [{"value": "odd"}]


def test_updates_as_recorded() -> None:
    (message,) = events.read(recorded("17", "UPDATE")[0]).messages
    assert isinstance(message, Statuses)
    status = message.statuses[0]
    assert (status.state, status.source) == ("TASK_STARTING", "SOURCE_EXECUTOR")
    assert status.uuid is not None and status.at > 1.79e9
    unreachable = [
        each
        for event in recorded("17", "UPDATE")
        for message in events.read(event).messages
        if isinstance(message, Statuses)
        for each in message.statuses
        if each.state == "TASK_UNREACHABLE"
    ]
    assert unreachable and all(each.uuid is None for each in unreachable)
    assert all(each.unreachable_since is not None and each.unreachable_since > 1.79e9 for each in unreachable)


def test_what_comes_together_goes_together() -> None:
    def status(number: int) -> Message:
        return Statuses([Status(f"t{number}", "S", "TASK_RUNNING")])

    many: list[Message] = [status(number) for number in range(ITEMS + 50)]
    told = list(events.coalesce([*many, Rescinded(["a"]), Rescinded(["b"]), status(1), Malformed("x"), status(2)]))
    assert [type(message) for message in told] == [Statuses, Statuses, Rescinded, Statuses, Malformed, Statuses]
    first, second, rescinded = told[:3]
    assert isinstance(first, Statuses) and isinstance(second, Statuses)
    assert (len(first.statuses), len(second.statuses)) == (ITEMS, 50)
    assert [each.task for each in (*first.statuses, *second.statuses)] == [f"t{n}" for n in range(ITEMS + 50)]
    assert rescinded == Rescinded(["a", "b"])


def test_records_however_they_are_cut() -> None:
    chance = random.Random(7)
    sent = [bytes(chance.randrange(256) for _ in range(chance.choice((0, 1, 20, 999)))) for _ in range(60)]
    data = b"".join(b"%d\n%s" % (len(each), each) for each in sent)
    records, got = events.Records(), list[bytes]()
    while data:
        cut = chance.choice((1, 2, 500, 5000))
        got += records.feed(data[:cut])
        data = data[cut:]
    assert got == sent


# -- calls -----------------------------------------------------------------------------------------------------


@pytest.fixture
def subscribed(rig: Rig, master: ScriptedMaster) -> Rig:
    rig.connect(master.address)
    rig.heard.next(Subscribed)
    return rig


TASKS = [Launch(Task(id="7.1", agent="S1", command="true", environment={}, resources=Resources(1)), [])]


def test_calls_as_mesos_wants_them(subscribed: Rig, master: ScriptedMaster) -> None:
    subscribed.tell(
        Accept(7, ["o1", "o2"], TASKS, refuse_s=1.5),
        Decline(["o3"], 300.0),
        Revive(),
        Suppress(),
        Kill([TaskRef("a", "S1"), TaskRef("b")]),
        Reconcile([TaskRef("c", "S2"), TaskRef("d")]),
        Reconcile([]),
        Acknowledge([Ack("a", "S1", "uuid==")]),
    )
    assert subscribed.heard.next(Accepted).call == 7
    bodies = [request.body for request in master.requests[1:]]
    assert all(body.pop("framework_id") == {"value": FRAMEWORK} for body in bodies)
    assert bodies == [
        {
            "type": "ACCEPT",
            "accept": {
                "offer_ids": [{"value": "o1"}, {"value": "o2"}],
                "operations": [{"type": "LAUNCH", "launch": {"task_infos": [task_info(TASKS[0])]}}],
                "filters": {"refuse_seconds": 1.5},
            },
        },
        {"type": "DECLINE", "decline": {"offer_ids": [{"value": "o3"}], "filters": {"refuse_seconds": 300.0}}},
        {"type": "REVIVE"},
        {"type": "SUPPRESS"},
        {"type": "KILL", "kill": {"task_id": {"value": "a"}, "agent_id": {"value": "S1"}}},
        {"type": "KILL", "kill": {"task_id": {"value": "b"}}},
        {
            "type": "RECONCILE",
            "reconcile": {
                "tasks": [{"task_id": {"value": "c"}, "agent_id": {"value": "S2"}}, {"task_id": {"value": "d"}}]
            },
        },
        {"type": "RECONCILE", "reconcile": {"tasks": []}},
        {
            "type": "ACKNOWLEDGE",
            "acknowledge": {"agent_id": {"value": "S1"}, "task_id": {"value": "a"}, "uuid": "uuid=="},
        },
    ]
    heads = {request.head for request in master.requests[1:] if "Mesos-Stream-Id: 3526ee98-c384" in request.head}
    assert len(heads) >= 5 and master.connections == 2, "one connection for the stream, one for all calls"


def test_thousands_of_acknowledgements(subscribed: Rig, master: ScriptedMaster) -> None:
    subscribed.worker._acks.extend(Ack(f"t{number}", "S", "u") for number in range(2000))
    subscribed.worker.inbox.put(Accept(1, ["o"], TASKS))
    for _ in range(4):
        subscribed.worker.step()
    assert "ACCEPT" in master.types()[:3], "a launch waits for no acknowledgements"
    while subscribed.worker._acks:
        subscribed.worker.step()
    acked = [request.body["acknowledge"]["task_id"]["value"] for request in master.requests if "ACK" in request.type]
    assert acked == [f"t{number}" for number in range(2000)]


def test_calls_while_not_connected(rig: Rig) -> None:
    rig.tell(Accept(1, ["o"], TASKS), Kill([TaskRef("a")]), Acknowledge([Ack("a", "S", "u")]), Revive())
    refused = rig.heard.next(NotAccepted)
    assert (refused.call, refused.certain) == (1, True)
    rig.connect(f"127.0.0.1:{closed_port()}")
    rig.tell(Accept(2, ["o"], TASKS))
    assert rig.heard.next(NotAccepted).certain


@pytest.mark.parametrize(
    ("answer", "certain"),
    [
        (text("400 Bad Request", "Failed to validate scheduler::Call: x"), True),
        (text("503 Service Unavailable", "Master has not finished recovery"), True),
        (text("500 Internal Server Error", "oh"), False),
    ],
)
def test_an_accept_that_is_refused(subscribed: Rig, master: ScriptedMaster, answer: bytes, certain: bool) -> None:
    master.on_call = lambda request: request.send(answer)
    subscribed.tell(Accept(3, ["o"], TASKS))
    refused = subscribed.heard.next(NotAccepted)
    assert (refused.call, refused.certain) == (3, certain)
    assert answer.split()[1].decode() in refused.why


def test_an_accept_without_an_answer_may_have_arrived(subscribed: Rig, master: ScriptedMaster) -> None:
    master.on_call = Request.close
    subscribed.tell(Accept(4, ["o"], TASKS))
    assert not subscribed.heard.next(NotAccepted).certain
    assert master.types().count("ACCEPT") == 1, "never sent twice"
    subscribed.heard.next(Disconnected)  # and all offers with it: the unused ones come anew
    subscribed.heard.next(Subscribed)


def test_an_accept_on_a_connection_that_the_master_closed_meanwhile(subscribed: Rig, master: ScriptedMaster) -> None:
    def answer_and_close(request: Request) -> None:
        request.send(text("202 Accepted", ""))
        request.close()

    master.on_call = answer_and_close
    for call in range(5):
        subscribed.tell(Accept(call, ["o"], TASKS))
        assert subscribed.heard.next(Accepted).call == call
        caller = subscribed.driver.session._caller  # type: ignore[union-attr]
        until(lambda caller=caller: not calls._is_open(caller._socket))  # type: ignore[misc]


def test_other_calls_are_sent_again(subscribed: Rig, master: ScriptedMaster) -> None:
    tried: list[Request] = []

    def answer(request: Request) -> None:
        tried.append(request)
        if len(tried) == 3:
            request.close()
        else:
            request.send(text("202 Accepted", ""))

    master.on_call = answer
    subscribed.tell(Kill([TaskRef(name) for name in "abcdef"]))
    killed = [request.body["kill"]["task_id"]["value"] for request in tried]
    assert [*killed[:3], *killed[-4:]] == ["a", "b", "c", "c", "d", "e", "f"]
    assert not any(isinstance(message, Disconnected) for message in subscribed.heard.all)


@pytest.mark.parametrize(
    "answer",
    [
        text("400 Bad Request", "The stream ID 'x' included in this request didn't match the stream ID currently"),
        text("400 Bad Request", "Framework cannot be found"),
        text("403 Forbidden", "Framework is not subscribed"),
        text("503 Service Unavailable", "Master has not finished recovery"),
    ],
)
def test_a_master_that_does_not_know_the_stream_is_asked_for_another(
    subscribed: Rig, master: ScriptedMaster, answer: bytes
) -> None:
    master.on_call = lambda request: request.send(answer)
    subscribed.tell(Decline(["o"], 5.0))
    subscribed.heard.next(Disconnected)
    subscribed.heard.next(Subscribed)


def test_a_call_in_flight_does_not_outlive_its_stream(subscribed: Rig, master: ScriptedMaster) -> None:
    stream = master.wait_for("SUBSCRIBE")
    master.on_call = lambda request: stream.send(LAST)  # and no answer
    subscribed.tell(Accept(1, ["o"], TASKS))
    assert not subscribed.heard.next(NotAccepted).certain


def test_stopping_leaves_tasks_alone(rig: Rig, master: ScriptedMaster) -> None:
    rig.connect(master.address)
    rig.heard.next(Subscribed)
    rig.worker._acks.append(Ack("t", "S", "u"))
    rig.worker.inbox.put(Stop())
    rig.worker.run()
    assert master.types() == ["SUBSCRIBE", "ACKNOWLEDGE"]
