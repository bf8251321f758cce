"""Reading recordings of a real Mesos, and comparing with them."""

from __future__ import annotations

import asyncio
import json
from typing import Any, cast

import pytest

from tests.conformance import wire
from tests.conformance.normalise import Bindings, compare, compare_shape, own, shape
from tests.conformance.offers import Offers
from tests.conformance.recording import Kind, load, names, parse, unproxied

A = "2b5c41d6-760f-4144-9ae7-926fec98b84e"
B = "632c99d8-7ee3-4d91-aa36-0dcf065cde33"

TEXT = (
    b"# 99-example\n# what it shows\n"
    b"\n=== [   0.001] S1 REQUEST SUBSCRIBE -> 127.0.0.1:5050\n<<<RAW\nPOST / HTTP/1.1\r\nHost: h\r\n\r\n{}\n>>>RAW\n"
    b"\n=== [   0.002] S1 RESPONSE HEAD SUBSCRIBE (200)\n<<<RAW\nHTTP/1.1 200 OK\r\nDate: d\r\n\r\n\n>>>RAW\n"
    b'\n=== [   0.003] S1 STREAM chunk: HEARTBEAT\n<<<RAW\n17\r\n20\n{"type":"HEARTBEAT"}\r\n\n>>>RAW\n'
    b"\n=== [   1.000] NOTE agent 1 (port 5051) killed\n"
    b"\n=== [   1.500] REQUEST KILL it -> 127.0.0.1:5051\n<<<RAW\nGET /a HTTP/1.1\r\n\r\n\n>>>RAW\n"
    b"\n=== [   1.600] RESPONSE KILL it (202, 8.2 ms)\n"
    b"<<<RAW\nHTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n\n>>>RAW\n"
    b"\n=== [   2.000] NOTE S1 STREAM: we closed the connection\n"
)


def test_entries_of_a_recording() -> None:
    recording = parse("99", TEXT)
    assert recording.about == "what it shows"
    assert [entry.kind for entry in recording.entries] == [
        Kind.REQUEST,
        Kind.HEAD,
        Kind.CHUNK,
        Kind.NOTE,
        Kind.REQUEST,
        Kind.RESPONSE,
        Kind.CLOSED,
    ]
    first, _, _, note, request, answer, closed = recording.entries
    assert (first.stream, first.title, first.port) == ("S1", "SUBSCRIBE", 5050)
    assert first.raw == b"POST / HTTP/1.1\r\nHost: h\r\n\r\n{}"
    assert (note.at, note.title) == (1.0, "agent 1 (port 5051) killed")
    assert (request.stream, request.title, request.port) == ("", "KILL it", 5051)
    assert answer.title == request.title
    assert closed.stream == "S1"


def test_a_title_nobody_knows_is_refused() -> None:
    with pytest.raises(ValueError, match="not understood"):
        parse("99", b"# 99\n# x\n\n=== [ 1.0] SOMETHING\n<<<RAW\nx\n>>>RAW\n")


def test_all_recordings_are_read_whole() -> None:
    assert len(names()) == 46
    for name in names():
        entries = load(name).entries
        assert entries, name
        assert [entry.at for entry in entries] == sorted(entry.at for entry in entries), name
        for entry in entries:
            if entry.kind is Kind.CHUNK:
                assert "type" in wire.event(entry.raw)
            elif entry.kind in (Kind.RESPONSE, Kind.HEAD) and entry.raw:
                assert wire.parse(entry.raw).start.startswith("HTTP/1.1 ")


def test_a_recording_that_is_not_there() -> None:
    with pytest.raises(FileNotFoundError, match="no recording 77"):
        load("77")


def test_a_message_keeps_the_spelling_of_its_headers() -> None:
    message = wire.parse(b"HTTP/1.1 307 Temporary Redirect\r\nLocation: //h:1/x\r\nContent-Length: 0\r\n\r\n")
    assert message.status == 307
    assert message.headers == (("Location", "//h:1/x"), ("Content-Length", "0"))
    assert message.header("LOCATION") == "//h:1/x"
    assert message.header("Date") is None


def test_a_chunked_body_is_put_together() -> None:
    raw = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    assert wire.parse(raw).body == b"abcde"


def test_a_record_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="a record of 20 bytes"):
        wire.event(b'17\r\n21\n{"type":"HEARTBEAT"}\r\n')


def test_ids_are_bound_when_first_met_and_the_same_ever_after() -> None:
    bindings = Bindings()
    assert bindings.match(f"Offer {A}-O1 is no longer valid", f"Offer {B}-O7 is no longer valid") is None
    assert bindings.text(f"x {A}-O1 {A}-O2") == f"x {B}-O7 {A}-O2"
    assert bindings.match(f"{A}-O1", f"{B}-O8") is not None
    assert bindings.match(f"{A}-O2", f"{B}-O7") == f"{B}-O7 stands for {A}-O1 and for {A}-O2"


def test_addresses_versions_and_directories_may_differ_other_text_may_not() -> None:
    bindings = Bindings()
    assert bindings.match("Agent 127.0.0.1 disconnected", "Agent host-7 disconnected") is None
    assert bindings.match("//127.0.0.1:5050/master/state", "//10.0.0.1:4711/master/state") is None
    assert bindings.match("'/var/lib/mesos-x/run/a1/slaves' gone", "'/tmp/x/slaves' gone") is None
    assert bindings.match("Agent 127.0.0.1 disconnected", "Agent host-7 removed") is not None


def test_resources_in_a_message_come_in_any_order() -> None:
    middle = " required by task and its executor is more than available "
    assert Bindings().match(f"Total resources a; b{middle}c; d", f"Total resources b; a{middle}d; c") is None
    assert Bindings().match(f"Total resources a; b{middle}c", f"Total resources a; b{middle}d") is not None


def test_differences_of_json() -> None:
    recorded = json.loads('{"uuid":"7Q8/Ao/hTJOG/CVDK3gKZg==","timestamp":1.5,"state":"A","value":2.0}')
    live = json.loads('{"uuid":"OdOWz7r5SD+eVrkKZS1/JQ==","timestamp":9.25,"state":"A","value":2.0}')
    assert compare(recorded, live, Bindings()) == []
    assert compare(recorded, {**live, "value": 2}, Bindings()) == [".value: expected 2.0, got 2"]
    assert compare(recorded, {**live, "timestamp": 9}, Bindings()) != []
    assert compare(recorded, {**live, "more": 1}, Bindings()) == [": 'more' is too much: 1"]
    assert compare({"a": 1, "b": 2}, {"b": 2, "a": 1}, Bindings()) != []


def test_lists_of_resources_have_no_order() -> None:
    cpus, mem = {"name": "cpus", "role": "*"}, {"name": "mem", "role": "*"}
    assert compare({"resources": [cpus, mem]}, {"resources": [mem, cpus]}, Bindings()) == []
    assert compare({"others": [cpus, mem]}, {"others": [mem, cpus]}, Bindings()) != []


def test_shapes() -> None:
    known = shape([{"tasks": [{"id": "a", "state": "S"}, {"id": "b"}], "count": 1.0}])
    assert compare_shape(known, {"tasks": [{"id": "c"}, {"id": "d", "state": "T"}], "count": 7.5}) == []
    assert compare_shape(known, {"tasks": [{"state": "T"}], "count": 7.5}) == [".tasks[0]: no 'id'"]
    assert compare_shape(known, {"tasks": [], "count": 7}) == [".count: 7, expected ['float']"]
    assert compare_shape(known, {"tasks": [], "count": 7.0, "x": None}) == [": 'x' is too much: null"]


def test_things_with_ids_come_in_any_order() -> None:
    recorded = [{"id": f"{A}-S0", "n": 0}, {"id": f"{A}-S1", "n": 1}]
    live = [{"id": f"{B}-S1", "n": 1}, {"id": f"{B}-S0", "n": 0}]
    bindings = Bindings()
    for suffix in ("-S0", "-S1"):
        bindings.bind(A + suffix, B + suffix)
    assert compare(recorded, live, bindings) == []
    live[0]["n"] = 2
    assert compare(recorded, live, bindings) == ["[1].n: expected 1, got 2"]


def test_what_belongs_to_others_is_left_out() -> None:
    state = {
        "tasks": [{"framework_id": "mine", "id": "a"}, {"framework_id": {"value": "other"}}],
        "slaves": [{"id": "s"}],
    }
    assert own(state, {"mine"}) == {"tasks": [{"framework_id": "mine", "id": "a"}], "slaves": [{"id": "s"}]}


def test_flags_are_free_but_not_their_kind() -> None:
    known = shape([{"flags": {"port": "5050"}}])
    assert compare_shape(known, {"flags": {"zk": "zk://h/mesos"}}) == []
    assert compare_shape(known, {"flags": {"zk": 1}}) != []


def _offer(id: str, cpus: float) -> dict[str, Any]:
    rack = {"name": "rack", "type": "TEXT", "text": {"value": "r1"}}
    amount = {"name": "cpus", "type": "SCALAR", "scalar": {"value": cpus}, "role": "*"}
    return {"id": {"value": id}, "attributes": [rack], "resources": [amount]}


def test_several_offers_stand_for_one() -> None:
    head = wire.Message("HTTP/1.1 200 OK", ())
    stream = wire.Stream(head, cast(asyncio.StreamWriter, None))
    parts = [_offer("p1", 1.9), _offer("p2", 0.1)]
    stream.events.append(wire.LiveEvent(0.0, 0, {"type": "OFFERS", "offers": {"offers": parts}}))
    offers, recorded = Offers(Bindings()), _offer("r", 2.0)
    assert offers.match([stream], [recorded], in_parts=False) is None
    found = offers.match([stream], [recorded], in_parts=True)
    assert found == parts
    offers.take([recorded], found)
    assert offers.outgoing('{"offer_ids": [{"value": "r"}, {"value": "x"}]}') == (
        '{"offer_ids": [{"value": "p1"}, {"value": "p2"}, {"value": "x"}]}'
    )
    assert list(offers.waiting([stream])) == []


def test_bytes_that_went_through_a_proxy_become_calls_and_events() -> None:
    recording = unproxied(load("25"))
    first = [(entry.kind, entry.title) for entry in recording.entries[:6]]
    assert first == [
        (Kind.REQUEST, "/version"),
        (Kind.RESPONSE, "/version"),
        (Kind.REQUEST, "SUBSCRIBE"),
        (Kind.HEAD, "SUBSCRIBE"),
        (Kind.CHUNK, "SUBSCRIBED"),
        (Kind.CHUNK, "HEARTBEAT"),
    ]
    assert recording.entries[-1].kind in (Kind.LAST, Kind.RESPONSE)
