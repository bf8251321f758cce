"""Clients of all three kinds against an API that breaks: what is repeated, what is resumed, what is given up."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from retz.client import ApiError, AsyncClient, Client, ConnectionLost, NoCredentials, NoServer, Untrusted
from retz.client import calls as build
from retz.client.retry import Backoff
from retz.client.sse import EventParser, Subscription
from retz.client.transport import Transport
from retz.config import ClientConfig
from tests.doubles.api import DROP, JOB, Answer, FakeApi, Request, job, problem

SUBMIT = "POST /api/v2/jobs"
UNAVAILABLE = problem(503, "unavailable", "draining")
ACCEPTED = {"ids": [12], "replayed": False}


@pytest.fixture
def api() -> Iterator[FakeApi]:
    with FakeApi() as fake:
        yield fake


def with_transport(config: ClientConfig) -> Any:
    with Transport(config) as transport:
        return transport.call(build.submit([{"command": "x"}], "k1"))["ids"][0]


def with_client(config: ClientConfig) -> Any:
    with Client(config) as client:
        return client.submit("x", key="k1")


def with_async_client(config: ClientConfig) -> Any:
    async def main() -> int:
        async with AsyncClient(config) as client:
            return await client.submit("x", key="k1")

    return asyncio.run(main())


every_client = pytest.mark.parametrize("submit", [with_transport, with_client, with_async_client])
Submit = Callable[[ClientConfig], Any]


@every_client
@pytest.mark.parametrize(
    "failures", [[DROP], [UNAVAILABLE, UNAVAILABLE], [Answer(b'{"ids": [', cut=True)], [DROP, UNAVAILABLE]]
)
def test_a_submission_is_repeated_with_its_key(api: FakeApi, submit: Submit, failures: list[Answer]) -> None:
    api.routes[SUBMIT] = [*failures, ACCEPTED]
    assert submit(api.config) == 12
    bodies = [r.body for r in api.asked(SUBMIT)]
    assert len(bodies) == len(failures) + 1
    assert all(body == bodies[0] and body["key"] == "k1" for body in bodies)


@every_client
def test_refusals_are_not_repeated(api: FakeApi, submit: Submit) -> None:
    errors = [{"field": "jobs[0].command", "message": "is empty"}]
    api.routes[SUBMIT] = problem(400, "bad-request", "the request is malformed", errors=errors)
    with pytest.raises(ApiError) as caught:
        submit(api.config)
    error = caught.value
    assert (error.status, error.code, error.errors) == (400, "bad-request", (("jobs[0].command", "is empty"),))
    assert "is empty" in str(error) and len(api.asked(SUBMIT)) == 1


@every_client
def test_giving_up(api: FakeApi, submit: Submit) -> None:
    hasty = replace(api.config, server_retry=0.0)
    api.routes[SUBMIT] = DROP
    with pytest.raises(ConnectionLost, match="is the server still running"):
        submit(hasty)
    api.routes[SUBMIT] = UNAVAILABLE
    with pytest.raises(ApiError, match="draining"):
        submit(hasty)


@every_client
def test_nothing_listens(submit: Submit) -> None:
    nowhere = ClientConfig(server_uri="http://127.0.0.1:1", access_key="k", access_secret="s", server_retry=0.1)
    with pytest.raises(NoServer, match=r"no server at http://127\.0\.0\.1:1: start one with 'retz-server'"):
        submit(nowhere)


@every_client
def test_a_wrong_secret_is_told_and_not_shown(api: FakeApi, submit: Submit) -> None:
    with pytest.raises(ApiError) as caught:
        submit(replace(api.config, access_secret="wrong-one"))
    assert caught.value.status == 401 and "wrong-one" not in str(caught.value)


@every_client
def test_no_credentials(api: FakeApi, submit: Submit) -> None:
    with pytest.raises(NoCredentials, match=r"retz\.access\.key and retz\.access\.secret not set"):
        submit(replace(api.config, access_key=None, access_secret=None))


@every_client
def test_an_answer_that_is_not_retz(api: FakeApi, submit: Submit) -> None:
    api.routes[SUBMIT] = Answer(b"<html>hello</html>")
    with pytest.raises(Exception, match="Retz"):
        submit(api.config)
    api.routes[SUBMIT] = Answer(b"<html>go away</html>", 502)
    with pytest.raises(ApiError, match="Bad Gateway"):
        submit(api.config)


def test_a_connection_closed_while_idle_is_replaced(api: FakeApi) -> None:
    api.routes["GET /api/v2/jobs/12"] = [JOB, DROP, JOB]
    with Transport(api.config) as transport:
        for _ in range(2):
            assert transport.call(build.job(12), Backoff(0, 0))["id"] == 12


def test_odd_names_are_signed_as_sent(api: FakeApi) -> None:
    api.routes["GET /api/v2/applications/a%20b%2Fc%3F%C3%A9%25"] = {"name": "a b/c?é%"}
    with Transport(api.config) as transport, Client(api.config) as client:
        assert transport.call(build.application("a b/c?é%"))["name"] == client.application("a b/c?é%").name


def test_query_parameters_survive(api: FakeApi) -> None:
    seen: list[str] = []

    def window(request: Request) -> dict[str, Any]:
        seen.append(request.query["text"])
        return {"jobs": [], "total": 0, "next": None, "as_of": 1, "counts": {}}

    api.routes["GET /api/v2/jobs"] = window
    text = "a b+c&d=é%/?#"
    with Transport(api.config) as transport, Client(api.config) as client:
        transport.call(build.jobs({"text": text}))
        client.list(text=text)
    assert seen == [text, text]


def following(api: FakeApi, content: bytes, cut_at: list[int]) -> None:
    """Serve a growing file whose stream breaks at these positions."""
    cuts = [*cut_at, len(content)]

    def file(request: Request) -> Answer:
        start = int(request.query["offset"])
        end = next((cut for cut in cuts if cut > start), len(content))
        return Answer(iter([content[i : min(i + 7, end)] for i in range(start, end, 7)]), cut=end < len(content))

    api.routes["GET /api/v2/jobs/12"] = JOB
    api.routes["GET /api/v2/jobs/12/file"] = file


def follow_transport(config: ClientConfig) -> bytes:
    with Transport(config) as transport:
        return b"".join(transport.follow(12, "stdout"))


def follow_client(config: ClientConfig) -> bytes:
    with Client(config) as client:
        return b"".join(client.follow_file(12))


def follow_async(config: ClientConfig) -> bytes:
    async def main() -> bytes:
        async with AsyncClient(config) as client:
            return b"".join([data async for data in client.follow_file(12)])

    return asyncio.run(main())


every_follower = pytest.mark.parametrize("follow", [follow_transport, follow_client, follow_async])


@every_follower
def test_following_goes_on_from_the_byte_it_had(api: FakeApi, follow: Callable[[ClientConfig], bytes]) -> None:
    content = bytes(range(256)) * 3
    following(api, content, [1, 100, 101, 500])
    assert follow(api.config) == content
    offsets = [int(r.query["offset"]) for r in api.asked("GET /api/v2/jobs/12/file")]
    assert offsets == [0, 1, 100, 101, 500]


@every_follower
def test_a_server_that_stops_politely_is_not_the_end(api: FakeApi, follow: Callable[[ClientConfig], bytes]) -> None:
    following(api, b"abcdef", [])
    api.routes["GET /api/v2/jobs/12"] = [job(state="STARTED"), job(state="STARTED"), job(state="STARTED"), JOB]
    served: list[int] = []

    def file(request: Request) -> Answer:
        start = int(request.query["offset"])
        served.append(start)
        return Answer(iter([b"abcdef"[start : start + 3]]))

    api.routes["GET /api/v2/jobs/12/file"] = file
    assert follow(api.config) == b"abcdef"
    assert served == [0, 3]


@every_follower
def test_an_attempt_that_began_while_the_connection_was_down(
    api: FakeApi, follow: Callable[[ClientConfig], bytes]
) -> None:
    """The first attempt's rest comes before the second's output, and nothing twice."""
    attempts = [{"number": 1}, {"number": 2}]
    contents = {1: b"first attempt\n", 2: b"second attempt\n"}
    api.routes["GET /api/v2/jobs/12"] = [
        job(state="STARTED", attempts=attempts[:1]),
        job(state="STARTED", attempts=attempts),
        job(state="FINISHED", attempts=attempts),
    ]
    api.routes["GET /api/v2/jobs/12/files"] = lambda request: {
        "entries": [{"path": "stdout", "size": len(contents[int(request.query["attempt"])])}]
    }

    def file(request: Request) -> Answer:
        number = int(request.query.get("attempt", "0")) or (1 if len(api.asked("GET /api/v2/jobs/12/file")) == 1 else 2)
        data = contents[number][int(request.query["offset"]) :]
        broken = len(api.asked("GET /api/v2/jobs/12/file")) == 1
        return Answer(iter([data[:5] if broken else data]), cut=broken)

    api.routes["GET /api/v2/jobs/12/file"] = file
    assert follow(api.config) == contents[1] + contents[2]


def sse(*events: tuple[str, int, Any]) -> Iterator[bytes]:
    for kind, number, data in events:
        yield f": alive\n\nid: {number}\nevent: {kind}\ndata: {json.dumps(data)}\n\n".encode()


def events_transport(config: ClientConfig, count: int) -> list[tuple[str, int | None]]:
    found = []
    with Transport(config) as transport:
        for event in transport.events(Subscription(4)):
            found.append((event.kind, event.id))
            if len(found) == count:
                break
    return found


def events_client(config: ClientConfig, count: int) -> list[tuple[str, int | None]]:
    found = []
    with Client(config) as client:
        for event in client.events(4):
            found.append((event.kind, event.seq))
            if len(found) == count:
                break
    return found


def events_async(config: ClientConfig, count: int) -> list[tuple[str, int | None]]:
    async def main() -> list[tuple[str, int | None]]:
        found = []
        async with AsyncClient(config) as client:
            async for event in client.events(4):
                found.append((event.kind, event.seq))
                if len(found) == count:
                    break
        return found

    return asyncio.run(main())


@pytest.mark.parametrize("listen", [events_transport, events_client, events_async])
def test_events_resume_from_the_last_number(api: FakeApi, listen: Callable[[ClientConfig, int], Any]) -> None:
    api.routes["GET /api/v2/events"] = [
        Answer(sse(("hello", 4, {}), ("job", 5, JOB), ("job", 6, JOB)), cut=True),
        UNAVAILABLE,
        Answer(sse(("reset", 90, {}), ("queue", 91, {"mode": "paused"}))),
        Answer(sse(("job", 92, JOB))),
    ]
    expected = [("job", 5), ("job", 6), ("reset", 90), ("queue", 91), ("job", 92)]
    assert listen(api.config, 5) == expected
    asked = [r.query.get("since") for r in api.asked("GET /api/v2/events")]
    assert asked == ["4", "6", "6", "91"]


def test_events_are_parsed_however_they_are_cut() -> None:
    text = b"".join(sse(("job", 1, {"a": "x\ny"}), ("queue", 2, {}))) + b"event: t\r\ndata: [1,\r\ndata: 2]\r\n\r\n"
    whole = list(EventParser().feed(text))
    parser = EventParser()
    assert [e for i in range(len(text)) for e in parser.feed(text[i : i + 1])] == whole
    assert [(e.kind, e.id) for e in whole] == [("job", 1), ("queue", 2), ("t", None)]
    assert whole[-1].data == [1, 2]


def test_downloads_go_on_where_they_broke(api: FakeApi, tmp_path: Path) -> None:
    content = bytes(range(256)) * 1000

    def file(request: Request) -> Answer:
        start = int(request.headers.get("Range", "bytes=0-")[6:].rstrip("-"))
        end = min(start + 100_000, len(content))
        return Answer(content[start:end], 206 if start else 200, cut=end < len(content))

    api.routes["GET /api/v2/jobs/12/file"] = file
    target = tmp_path / "out"
    with Client(api.config) as client:
        assert client.download(12, "big", target) == len(content)
    assert target.read_bytes() == content


def test_pages(api: FakeApi) -> None:
    pages = {None: ([1, 2], "a"), "a": ([3], None)}

    def window(request: Request) -> dict[str, Any]:
        ids, following_page = pages[request.query.get("cursor")]
        return {"jobs": [job(id=i) for i in ids], "total": 3, "next": following_page, "as_of": 1, "counts": {}}

    api.routes["GET /api/v2/jobs"] = window
    with Client(api.config) as client:
        assert [j.id for j in client.jobs(state="ALL", tag=["a", "b"])] == [1, 2, 3]

    async def main() -> list[int]:
        async with AsyncClient(api.config) as client:
            return [j.id async for j in client.jobs()]

    assert asyncio.run(main()) == [1, 2, 3]


def test_waiting_outlives_the_long_poll_and_a_restart(api: FakeApi) -> None:
    api.routes["GET /api/v2/jobs/12/wait"] = [job(state="STARTED"), DROP, UNAVAILABLE, JOB]
    with Client(api.config) as client:
        assert client.wait(12).ok
        api.routes["GET /api/v2/jobs/12/wait"] = job(state="QUEUED")
        assert client.wait(12, timeout_s=0.0).state == "QUEUED"


def test_typed_answers(api: FakeApi) -> None:
    api.routes["GET /api/v2/jobs/12"] = job(new_field_of_a_newer_server=1)
    with Client(api.config) as client:
        found = client.job(12)
    assert found.submitted.utcoffset() is not None and found.submitted.year == 2026
    assert found.attempts[0].agent == "n17" and found.usage is not None and found.usage.cpu_s == 1.5


def test_two_clients_have_the_same_methods() -> None:
    def public(kind: type) -> set[str]:
        return {name for name in vars(kind) if not name.startswith("_")}

    assert public(Client) == public(AsyncClient)


def test_backoff_doubles_and_ends() -> None:
    now = [0.0]
    backoff = Backoff(10.0, 1.0, lambda: now[0])
    lost, refused = ConnectionLost("u", "r"), NoServer("u", "r", refused=True)
    call = build.job(1)
    assert [backoff.delay_after(lost, call) for _ in range(7)] == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0]
    assert backoff.delay_after(refused, call) is None
    assert backoff.delay_after(NoServer("u", "no such host"), call) is None
    assert Backoff(10.0).delay_after(Untrusted("u", "self-signed"), call) is None
    assert backoff.delay_after(lost, call._replace(repeat=False)) is None
    assert backoff.delay_after(ApiError(500, "internal", ""), call) is None
    now[0] = 9.0
    assert backoff.delay_after(lost, call) is None
    backoff.progressed()
    assert backoff.delay_after(lost, call) == 0.05


def test_another_thread_may_close_a_stream(api: FakeApi) -> None:
    waiting = threading.Event()
    closed = threading.Event()

    def endless() -> Iterator[bytes]:
        yield b"x"
        waiting.set()
        assert closed.wait(30)

    api.routes["GET /api/v2/jobs/12"] = JOB
    api.routes["GET /api/v2/jobs/12/file"] = Answer(endless())
    with Transport(api.config) as transport:
        stream = transport.stream(build.follow(12, "stdout"))

        def close() -> None:
            waiting.wait(30)
            stream.close()

        thread = threading.Thread(target=close)
        thread.start()
        with pytest.raises(ConnectionLost):
            list(stream)
        closed.set()
        thread.join()
