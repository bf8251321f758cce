"""HTTP of the double's master: what it refuses and in which words, as the recordings of a real one say."""

from __future__ import annotations

import asyncio
import base64
from contextlib import suppress

import pytest

from tests.doubles.mesos.cluster import Cluster
from tests.doubles.mesos.scheduler import CAPABLE_INFO, PLAIN_INFO, SUBSCRIBE, ask, play, reply_of, request, subscribed

# -- HTTP and 400 ------------------------------------------------------------------------------------------------------

PARSE = "Failed to parse body into JSON: syntax error at line 1 near: "
CONVERT = "Failed to convert JSON into Call protobuf: "
VALIDATE = "Failed to validate scheduler::Call: "
CONTENT = "Expecting 'Content-Type' of application/json or application/x-protobuf"


@pytest.mark.parametrize(
    ("raw", "status", "body"),
    [
        (request(b'{"type": "SUBSCRIBE",'), 400, PARSE),
        (request(b""), 400, PARSE),
        (request(b"[]"), 400, CONVERT + "Expecting a JSON object"),
        (request({}), 400, VALIDATE + "Expecting 'type' to be present"),
        (request({"type": "NOSUCH"}), 400, VALIDATE + "Expecting 'type' to be present"),
        (request({"type": "UNKNOWN"}), 400, VALIDATE + "Expecting 'framework_id' to be present"),
        (request({"type": "SUPPRESS"}), 400, VALIDATE + "Expecting 'framework_id' to be present"),
        (request({"type": "SUBSCRIBE"}), 400, VALIDATE + "Expecting 'subscribe' to be present"),
        (
            request({"type": "SUBSCRIBE", "subscribe": {}}),
            400,
            CONVERT + "Missing required fields: subscribe.framework_info",
        ),
        (
            request({"type": "SUBSCRIBE", "subscribe": {"framework_info": {"name": "x"}}}),
            400,
            CONVERT + "Missing required fields: subscribe.framework_info.user",
        ),
        (
            request({"type": "SUBSCRIBE", "subscribe": {"framework_info": {"user": "root", "name": 5}}}),
            400,
            CONVERT + "Not expecting a JSON number for field 'name'",
        ),
        (
            request({**SUBSCRIBE, "framework_id": {"value": "a"}}),
            400,
            VALIDATE + "'framework_id' differs from 'subscribe.framework_info.id'",
        ),
        (request({"type": "SUPPRESS", "framework_id": {"value": "nobody"}}), 400, "Framework cannot be found"),
        (request({}, headers={"Content-Type": "text/plain"}), 415, CONTENT),
        (request({}, headers={"Content-Type": "application/json; charset=utf-8"}), 415, CONTENT),
        (request({}, headers={"Content-Type": None}), 400, "Expecting 'Content-Type' to be present"),
        (
            request(SUBSCRIBE, headers={"Accept": "text/html"}),
            406,
            "Expecting 'Accept' to allow 'application/x-protobuf' or 'application/json'",
        ),
        (
            request(SUBSCRIBE, headers={"Mesos-Stream-Id": "a"}),
            400,
            "Subscribe calls should not include the 'Mesos-Stream-Id' header",
        ),
        (
            request(method="GET"),
            405,
            "405 Method Not Allowed. Expecting one of { 'POST' }, but received 'GET'.",
        ),
        (
            request({"type": "SUBSCRIBE"}, path="/api/v1/scheduler/"),
            400,
            VALIDATE + "Expecting 'subscribe' to be present",
        ),
        (
            request({"type": "SUBSCRIBE"}, path="/master/api/v1/scheduler"),
            400,
            VALIDATE + "Expecting 'subscribe' to be present",
        ),
        (request(method="GET", path="/nosuch"), 404, "404 Not Found."),
    ],
)
def test_a_request_that_is_refused(raw: bytes, status: int, body: str) -> None:
    async def scene(cluster: Cluster) -> None:
        reply = await ask(cluster.address, raw)
        assert (reply.status, reply.body) == (status, body)
        assert [name for name in reply.headers if name != "Allow"] == ["Date", "Content-Type", "Content-Length"]
        assert reply.values["Content-Type"] == "text/plain; charset=utf-8"

    play(scene, 0)


def test_calls_that_are_refused_for_their_content_or_stream() -> None:
    async def scene(cluster: Cluster) -> None:
        scheduler = await subscribed(cluster)
        refused = [
            (await scheduler.call("ACCEPT"), VALIDATE + "Expecting 'accept' to be present"),
            (await scheduler.call("KILL"), VALIDATE + "Expecting 'kill' to be present"),
            (await scheduler.call("DECLINE"), VALIDATE + "Expecting 'decline' to be present"),
            (await scheduler.call("RECONCILE"), VALIDATE + "Expecting 'reconcile' to be present"),
            (
                await scheduler.call("ACCEPT", accept={"offer_ids": "x"}),
                CONVERT + "Not expecting a JSON string for field 'offer_ids'",
            ),
            (
                await scheduler.acknowledge({"agent_id": {"value": "a"}, "task_id": {"value": "b"}, "uuid": "!!"}),
                CONVERT + "Failed to base64 decode bytes field 'uuid': Invalid character '!'",
            ),
            (
                await scheduler.acknowledge({"agent_id": {"value": "a"}, "task_id": {"value": "b"}, "uuid": "AAAA"}),
                VALIDATE + "Not a valid UUID",
            ),
            (
                await scheduler.call("SUPPRESS", stream=None),
                "All non-subscribe calls should include the 'Mesos-Stream-Id' header",
            ),
            (
                await scheduler.call("SUPPRESS", stream="xyz"),
                "The stream ID 'xyz' included in this request didn't match the stream ID currently associated with"
                f" framework ID {scheduler.id}",
            ),
        ]
        for reply, body in refused:
            assert (reply.status, reply.body) == (400, body)
        taken = await scheduler.call("SUPPRESS", suppress={"nosuchfield": 1}, zzz=5)
        assert (taken.status, taken.headers, taken.body) == (202, ["Date", "Content-Length"], "")
        assert (
            await scheduler.call("UPDATE_FRAMEWORK", update_framework={"framework_info": CAPABLE_INFO})
        ).status == 200
        assert [call.type for call in cluster.calls] == ["SUBSCRIBE", "SUPPRESS", "UPDATE_FRAMEWORK"]
        await scheduler.close()

    play(scene, 0)


def test_odd_http_is_taken_as_mesos_takes_it() -> None:
    async def scene(cluster: Cluster) -> None:
        scheduler = await subscribed(cluster)
        body = {"framework_id": {"value": scheduler.id}, "type": "REVIVE"}
        raw = request(body, headers={"Mesos-Stream-Id": scheduler.head.values["Mesos-Stream-Id"]})
        host, port = cluster.address.split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(raw + raw)
        assert [(await reply_of(reader)).status for _ in range(2)] == [202, 202]
        writer.write(raw.replace(b"Host: x\r\n", b""))
        assert (await reply_of(reader)).status == 202
        writer.write(raw.replace(b"HTTP/1.1", b"HTTP/1.0", 1))
        assert (await reply_of(reader)).status == 202
        assert await reader.read() == b""
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"hello\r\n\r\n")
        with suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()
        await scheduler.close()

    play(scene, 0)


def test_a_half_closed_stream_is_a_lost_one() -> None:
    async def scene(cluster: Cluster) -> None:
        scheduler = await subscribed(cluster)
        framework = cluster.framework()
        scheduler.half_close()
        await scheduler.until(lambda: scheduler.ended is not None)
        assert scheduler.ended == "connection lost"
        assert not framework.connected
        await scheduler.close()

    play(scene, 0)


def test_authentication() -> None:
    async def scene(cluster: Cluster) -> None:
        wrong = [None, "Basic " + base64.b64encode(b"me:wrong").decode(), "Basic !", "Bearer x"]
        for header in wrong:
            reply = await ask(cluster.address, request(SUBSCRIBE, headers={"Authorization": header}))
            assert (reply.status, reply.body) == (401, "401 Unauthorized.")
            assert reply.values["WWW-Authenticate"] == 'Basic realm="mesos-master-scheduler"'
        reply = await ask(cluster.address, request(method="GET", path="/state"))
        assert reply.values["WWW-Authenticate"] == 'Basic realm="mesos-master-readonly"'
        good = {"Authorization": "Basic " + base64.b64encode(b"me:secret").decode()}
        scheduler = await subscribed(cluster, headers=good)
        await scheduler.close()
        other = {**SUBSCRIBE, "subscribe": {"framework_info": {**PLAIN_INFO, "principal": "other"}}}
        reply = await ask(cluster.address, request(other, headers=good))
        what = "Authenticated principal 'me' does not match principal 'other' set in `FrameworkInfo`"
        assert (reply.status, reply.body) == (400, VALIDATE + what)

    play(scene, 0, credentials={"me": "secret"})
