"""Two people on one server, one of whom means harm: nothing of the other is seen, touched, or even known to exist.

Whatever the victim gives to the server contains the word ``hushed``. So an answer that holds it, or the victim's key,
is a leak, whatever way it was asked for. Elsewhere: connections that are silent, slow or half-open
(test_http_connections.py), streams after being disabled (test_users.py), processes, environments and hard links of
other Unix users (test_root_server.py, test_local_users.py), a user who fills the queue (test_fair_queue.py).
"""

from __future__ import annotations

import http.client
import json
import re
import resource
import socket
import struct
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest

from retz.auth import authorization
from retz.client import Client
from retz.config import load_client
from retz.server.http import selection
from retz.server.http.table import ROUTES
from tests.server_process import ServerProcess

API = "/api/v2"
NEVER = 999_999
"""An id that was never given."""
PATIENCE_S = 30.0


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Person(NamedTuple):
    """Somebody who signs requests."""

    uri: str
    key: str
    secret: str

    def ask(
        self, method: str, target: str, body: object = None, headers: dict[str, str] | None = None, raw: bytes = b""
    ) -> Reply:
        data = raw or (b"" if body is None else json.dumps(body).encode())
        signed = authorization(self.key, self.secret, method, target, data, time.time())
        connection = http.client.HTTPConnection(self.uri.removeprefix("http://"), timeout=PATIENCE_S)
        try:
            connection.request(method, target, data or None, {**signed, **(headers or {})})
            answer = connection.getresponse()
            return Reply(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def get(self, path: str) -> Reply:
        return self.ask("GET", API + path)

    def submit(self, **fields: Any) -> int:
        reply = self.ask("POST", f"{API}/jobs", {"jobs": [fields]})
        assert reply.status == 201, reply
        return int(reply.json["ids"][0])

    def ended(self, job_id: int) -> dict[str, Any]:
        job: dict[str, Any] = self.get(f"/jobs/{job_id}/wait?timeout_s=30").json
        assert job["ended"], job
        return job


class Scene(NamedTuple):
    """A server with an administrator, a victim with jobs in every state, and somebody who means harm.

    Attributes:
        running, held, over, array: Ids of the victim's jobs.
    """

    server: ServerProcess
    root: Person
    victim: Person
    hostile: Person
    running: int
    held: int
    over: int
    array: int

    @property
    def ids(self) -> tuple[int, ...]:
        return (self.running, self.held, self.over, self.array)


VICTIMS = {
    "name": "hushed-name",
    "tags": ["hushed-tag"],
    "environment": {"A": "hushed-value"},
    "application": "hushed-app",
}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    server = ServerProcess(
        tmp_path_factory.mktemp("hostile") / "home",
        settings={"RETZ_LOCAL_CPUS": "8", "RETZ_LOCAL_MEM": "2g", "RETZ_SHARED_UID": "true"},
    )
    try:
        server.start()
        yield _set_up(server)
    finally:
        server.destroy()


def _set_up(server: ServerProcess) -> Scene:
    config = load_client(environ=server.environment, cwd=server.home)
    assert config.access_key and config.access_secret
    root = Person(server.uri, config.access_key, config.access_secret)
    with Client(config) as admin:
        made = admin.create_users([{"info": "hushed-info"}, {"info": "means harm"}])
    victim, hostile = (Person(server.uri, user.key, user.secret or "") for user in made)
    assert victim.ask("PUT", f"{API}/applications/hushed-app", {"enabled": True}).status == 200
    over = victim.submit(command="echo hushed-output; echo hushed > hushed-file", pipeline="hushed-pipe", **VICTIMS)
    assert victim.ended(over)["state"] == "FINISHED"
    running = victim.submit(command="echo hushed-output; exec sleep 600", resources={"mem": 16}, **VICTIMS)
    held = victim.submit(command="echo hushed", held=True, **VICTIMS)
    array = victim.submit(command="echo hushed", array="1-5", held=True, **VICTIMS)
    _until(lambda: victim.get(f"/jobs/{running}").json["state"] == "STARTED")
    # In the archive, too, things are looked for by other code.
    _until(lambda: b"retz_jobs_archived_total 1" in victim.ask("GET", "/metrics").body)
    assert b"hushed-output" in victim.get(f"/jobs/{over}/file").body
    return Scene(server, root, victim, hostile, running, held, over, array)


def _until(condition: Any) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.02)


def leaks(scene: Scene, reply: Reply) -> bool:
    text = reply.body + repr(reply.headers).encode()
    return b"hushed" in text or scene.victim.key.encode() in text


def blind(reply: Reply, *ids: object) -> tuple[int, bytes]:
    """What an answer tells, but for the id that was asked for anyway."""
    body = reply.body
    for each in ids:
        body = re.sub(rb"(?<!\d)%d(?!\d)" % int(str(each)), b"N", body)
    return reply.status, body


# -- by id -------------------------------------------------------------------------------------------------------------

LOOKS = (
    "", "/why", "/usage", "/usage?attempt=1", "/wait?timeout_s=0", "/files", "/files?path=hushed", "/file",
    "/file?path=stdout", "/file?follow=true", "/file?attempt=1", "/file?path=hushed-file&download=true",
)  # fmt: skip


@pytest.mark.parametrize("path", LOOKS)
def test_a_job_of_somebody_else_is_a_job_that_does_not_exist(scene: Scene, path: str) -> None:
    missing = blind(scene.hostile.get(f"/jobs/{NEVER}{path}"), NEVER)
    assert missing[0] == 404
    for job_id in scene.ids:
        reply = scene.hostile.get(f"/jobs/{job_id}{path}")
        assert blind(reply, job_id) == missing


def test_nor_can_it_be_changed(scene: Scene) -> None:
    for method, body in (("DELETE", None), ("PATCH", {"priority": -20}), ("PATCH", {"held": False})):
        missing = blind(scene.hostile.ask(method, f"{API}/jobs/{NEVER}", body), NEVER)
        assert missing[0] == 404
        for job_id in scene.ids:
            assert blind(scene.hostile.ask(method, f"{API}/jobs/{job_id}", body), job_id) == missing
    for action in ("kill", "hold", "release", "update", "resubmit"):
        more: dict[str, Any] = {"priority": 5} if action == "update" else {}
        bodies: list[dict[str, Any]] = [{"ids": [NEVER, *scene.ids]}, *({"filter": each} for each in FILTERS)]
        for wanted in bodies:
            reply = scene.hostile.ask("POST", f"{API}/jobs/{action}", {**wanted, **more})
            assert (reply.status, leaks(scene, reply)) == (200, False), (action, wanted)
            assert reply.json["ok"] == 0
            told = {re.sub(r"\d+", "N", result["error"]) for result in reply.json["results"]}
            assert told <= {"no such job: N"}
    states = [scene.victim.get(f"/jobs/{job_id}").json["state"] for job_id in scene.ids]
    assert states == ["STARTED", "QUEUED", "FINISHED", "QUEUED"]


FILTERS: tuple[dict[str, Any], ...] = (
    {"state": ["ALL"]},
    {"state": ["LIVE"]},
    {"tag": ["hushed-tag"]},
    {"name": "hushed-name"},
    {"application": "hushed-app", "state": ["ALL"]},
    {"pipeline": "hushed-pipe", "state": ["ALL"]},
    {"text": "o", "state": ["ALL"]},
    {"ids": "1-1000", "state": ["ALL"]},
    {"where": ["mem>0"], "state": ["ALL"]},
)


def test_tasks_of_an_array_of_somebody_else(scene: Scene) -> None:
    for name in (f"{scene.array}_1", f"{scene.array}[1]", f"{NEVER}_1"):
        reply = scene.hostile.get(f"/jobs/{quote(name)}")
        assert (reply.status, leaks(scene, reply)) in ((404, False), (400, False)), name
    found = {blind(scene.hostile.get(f"/jobs/{each}_1"), each, 1) for each in (scene.array, scene.held, NEVER)}
    assert len(found) == 1


@pytest.mark.parametrize("after", ["{}", "{}:any"])
def test_waiting_for_a_job_of_somebody_else(scene: Scene, after: str) -> None:
    answers = set()
    for job_id in (NEVER, *scene.ids):
        spec = {"command": "true", "after": [after.format(job_id)]}
        answers.add(blind(scene.hostile.ask("POST", f"{API}/jobs", {"jobs": [spec]}), job_id))
    assert [status for status, _ in answers] == [422]


def test_a_group_of_the_same_name_is_another_group(scene: Scene) -> None:
    group = {"group": "same-name", "max_fails": 1}
    theirs = scene.victim.submit(command="true", held=True, **group)
    mine = scene.hostile.submit(command="exit 1", **group)
    assert scene.hostile.ended(mine)["state"] == "FAILED"
    assert scene.victim.get(f"/jobs/{theirs}").json["state"] == "QUEUED"
    after = scene.victim.submit(command="true", **group)
    assert scene.victim.ended(after)["state"] == "FINISHED"
    scene.victim.ask("DELETE", f"{API}/jobs/{theirs}")


# -- by the protocol of old clients ----------------------------------------------------------------------------------

OLD_LOOKS = ("", "/file?path=stdout&offset=0&length=-1", "/download?path=stdout", "/dir?path=hushed-file")


def old_blind(reply: Reply, job_id: int) -> tuple[int, bytes]:
    """The same; the version in every answer is no id."""
    return blind(reply._replace(body=re.sub(rb'"version":"[^"]*"', b"", reply.body)), job_id)


@pytest.mark.parametrize("path", OLD_LOOKS)
def test_old_routes_tell_no_more(scene: Scene, path: str) -> None:
    missing = old_blind(scene.hostile.ask("GET", f"/job/{NEVER}{path}"), NEVER)
    for job_id in scene.ids:
        reply = scene.hostile.ask("GET", f"/job/{job_id}{path}")
        assert old_blind(reply, job_id) == missing
        assert not leaks(scene, Reply(0, {}, reply.body.replace(b"hushed-file", b"")))


def test_old_routes_change_and_list_nothing_of_others(scene: Scene) -> None:
    missing = old_blind(scene.hostile.ask("DELETE", f"/job/{NEVER}"), NEVER)
    for job_id in scene.ids:
        assert old_blind(scene.hostile.ask("DELETE", f"/job/{job_id}"), job_id) == missing
    assert scene.victim.get(f"/jobs/{scene.running}").json["state"] == "STARTED"
    for state in ("QUEUED", "STARTED", "FINISHED"):
        assert not leaks(scene, scene.hostile.ask("POST", "/jobs", {"state": state, "command": "list"}))
    assert not leaks(scene, scene.hostile.ask("GET", "/apps"))
    found = [scene.hostile.ask("GET", f"/app/{name}") for name in ("hushed-app", "unknown-app")]
    assert found[0].body.replace(b"hushed-app", b"unknown-app") == found[1].body
    gone = [scene.hostile.ask("DELETE", f"/app/{name}") for name in ("hushed-app", "unknown-app")]
    assert gone[0][0::2] == gone[1][0::2]
    assert scene.victim.get("/applications/hushed-app").json["enabled"] is True


# -- by lists -------------------------------------------------------------------------------------------------

QUERIES = (
    "", "state=ALL", "state=ENDED", "ids=1-9999&state=ALL", "tag=hushed-tag", "tag=hushed-tag&state=ALL",
    "name=hushed-name&state=ALL", "application=hushed-app&state=ALL", "pipeline=hushed-pipe&state=ALL",
    "text=hushed&state=ALL", "held=true", "where=mem%3E0&state=ALL", "where=user!%3Dx&state=ALL",
    "where=kind%3Darray&state=ALL", "where=tag%3Dhushed-tag&state=ALL", "where=!group%3Dx&state=ALL",
    "since=2001-01-01&state=ALL", "until=2999-01-01&state=ALL", "offset=1&state=ALL", "limit=1000&state=ALL",
    *(f"sort={quote(name)}&state=ALL" for name in selection.SORT_NAMES),
)  # fmt: skip


@pytest.mark.parametrize("query", QUERIES)
def test_lists_show_ones_own_only(scene: Scene, query: str) -> None:
    reply = scene.hostile.get("/jobs" + (f"?{query}" if query else ""))
    if reply.status == 400:
        assert not leaks(scene, Reply(400, {}, reply.body.replace(b"hushed", b"")))
        return
    assert (reply.status, leaks(scene, reply)) == (200, False)
    assert {job["owner"] for job in reply.json["jobs"]} <= {scene.hostile.key}
    assert reply.json["total"] == len(reply.json["jobs"]) or "offset" in query
    assert scene.victim.get("/jobs?state=ALL").json["total"] >= 4


def test_lists_of_the_past_agents_and_cursors_of_others(scene: Scene) -> None:
    now = quote(time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
    agent = scene.victim.get(f"/jobs/{scene.running}").json["agent"]
    cursor = scene.victim.get("/jobs?state=ALL&limit=1").json["next"]
    for query in (f"at={now}", f"agent={agent}&state=ALL", f"cursor={quote(cursor)}&state=ALL&limit=1"):
        reply = scene.hostile.get(f"/jobs?{query}")
        assert not leaks(scene, reply), query
        assert reply.status == 400 or {job["owner"] for job in reply.json["jobs"]} <= {scene.hostile.key}, query


@pytest.mark.parametrize("path", ["/jobs", "/events", "/usage", "/pipelines"])
@pytest.mark.parametrize("user", ["*", "{victim}", "{root}", "nobody"])
def test_others_cannot_be_asked_for_by_name(scene: Scene, path: str, user: str) -> None:
    named = user.format(victim=scene.victim.key, root=scene.root.key)
    reply = scene.hostile.get(f"{path}?user={quote(named)}")
    unknown = scene.hostile.get(f"{path}?user=nobody-at-all")
    assert (reply.status, reply.body) == (unknown.status, unknown.body)
    assert reply.status == 403


def test_last_is_ones_own(scene: Scene) -> None:
    mine = scene.hostile.submit(command="true")
    scene.victim.ask("POST", f"{API}/jobs/hold", {"ids": [scene.held]})
    assert scene.hostile.get("/jobs/last").json["id"] == mine


# -- by other ways --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("header", [False, True])
def test_events_from_the_beginning_of_time(scene: Scene, header: bool) -> None:
    target = f"{API}/events" + ("" if header else "?since=0")
    signed = authorization(scene.hostile.key, scene.hostile.secret, "GET", target, b"", time.time())
    connection = http.client.HTTPConnection(scene.server.uri.removeprefix("http://"), timeout=PATIENCE_S)
    connection.request("GET", target, headers={**signed, **({"Last-Event-ID": "0"} if header else {})})
    stream = connection.getresponse()
    assert stream.status == 200
    scene.victim.ask("PATCH", f"{API}/jobs/{scene.held}", {"priority": 3})
    scene.victim.ask("PUT", f"{API}/applications/hushed-app", {"enabled": True})
    mark = scene.hostile.submit(command="true", name=f"mark-{header}")
    seen = b""
    while f"mark-{header}".encode() not in seen:
        line = stream.readline()
        assert line
        seen += line
    connection.close()
    assert str(mark).encode() in seen
    assert b"hushed" not in seen and scene.victim.key.encode() not in seen


def test_submission_keys_are_ones_own(scene: Scene) -> None:
    body = {"key": "same-key", "jobs": [{"command": "true", "held": True}]}
    first = scene.victim.ask("POST", f"{API}/jobs", body)
    second = scene.hostile.ask("POST", f"{API}/jobs", body)
    assert (first.status, second.status) == (201, 201)
    assert set(first.json["ids"]).isdisjoint(second.json["ids"])
    again = scene.hostile.ask("POST", f"{API}/jobs", body)
    assert (again.status, again.json["ids"]) == (200, second.json["ids"])
    for key in (f"{scene.victim.key}/same-key", "../same-key"):
        reply = scene.hostile.ask("POST", f"{API}/jobs", {**body, "key": key})
        assert set(first.json["ids"]).isdisjoint(reply.json["ids"])


def test_applications_are_ones_own(scene: Scene) -> None:
    before = scene.victim.get("/applications/hushed-app").json
    missing = scene.hostile.get("/applications/unknown-app")
    for name in ("hushed-app", f"{scene.victim.key}%2Fhushed-app", "..%2Fhushed-app"):
        reply = scene.hostile.get(f"/applications/{name}")
        assert reply.status in (400, 404)
    reply = scene.hostile.get("/applications/hushed-app")
    assert reply.body.replace(b"hushed-app", b"unknown-app") == missing.body
    assert scene.hostile.ask("DELETE", f"{API}/applications/hushed-app").status == 404
    spec = {"jobs": [{"command": "true", "application": "hushed-app"}]}
    assert scene.hostile.ask("POST", f"{API}/jobs", spec).status == 422
    mine = scene.hostile.ask("PUT", f"{API}/applications/hushed-app", {"enabled": False})
    assert mine.json["owner"] == scene.hostile.key
    assert scene.hostile.ask("DELETE", f"{API}/applications/hushed-app").status == 204
    assert scene.victim.get("/applications/hushed-app").json["enabled"] == before["enabled"]
    assert not leaks(scene, scene.hostile.get("/applications"))


def test_pipelines_are_ones_own(scene: Scene) -> None:
    assert not leaks(scene, scene.hostile.get("/pipelines"))
    for path in ("", "/prediction", "/prediction.txt"):
        replies = [scene.hostile.get(f"/pipelines/{name}{path}") for name in ("hushed-pipe", "unknown-one")]
        assert replies[0].status == replies[1].status == 404
        assert replies[0].body.replace(b"hushed-pipe", b"unknown-one") == replies[1].body
    for path in ("hushed-pipe", "*"):
        reply = scene.hostile.ask("GET", f"/resourceestimator/skylinestore/history/{path}/*")
        assert not leaks(scene, Reply(0, {}, reply.body.replace(b"hushed-pipe/", b"").replace(b"hushed-pipe", b"")))
        assert b"memory" not in reply.body


def test_sums_name_nobody_else(scene: Scene) -> None:
    for path in ("/status", "/agents", "/agents?usage=true", "/aggregates", "/usage", "/openapi.json"):
        reply = scene.hostile.get(path)
        assert (reply.status, leaks(scene, reply)) == (200, False), path
    assert scene.hostile.get("/agents").json["agents"][0]["jobs"] >= 1  # amounts are everybody's
    assert {row["user"] for row in scene.hostile.get("/usage").json["rows"]} <= {scene.hostile.key}
    for path in ("/", "/ping", "/healthz", "/status", "/metrics"):
        assert not leaks(scene, scene.hostile.ask("GET", path))


def test_why_counts_others_and_names_none(scene: Scene) -> None:
    first = scene.victim.submit(command="true", resources={"cpus": 8}, priority=-20, **VICTIMS)
    mine = scene.hostile.submit(command="true", resources={"cpus": 8})
    assert not leaks(scene, scene.hostile.get(f"/jobs/{mine}/why"))
    ahead = 0
    for user, own, other in ((scene.hostile, mine, first), (scene.victim, first, mine)):
        why = user.get(f"/jobs/{own}/why").json
        ahead += why["ahead"]
        assert why["ahead_ids"] == []
        assert not re.search(rf"\b{other}\b", why["summary"])
    assert ahead >= 1  # whoever's turn comes later
    scene.victim.ask("DELETE", f"{API}/jobs/{first}")
    scene.hostile.ask("DELETE", f"{API}/jobs/{mine}")


def test_administrators_routes_tell_a_plain_user_nothing(scene: Scene) -> None:
    answers = set()
    for route in ROUTES:
        if route.access == "admin":
            for key in (scene.victim.key, scene.hostile.key, "nobody"):
                reply = scene.hostile.ask(route.method, route.path.replace("{key}", key))
                answers.add((reply.status, reply.body))
                broken = scene.hostile.ask(route.method, route.path.replace("{key}", key), raw=b"{not json")
                answers.add((broken.status, broken.body))
    assert [status for status, _ in answers] == [403]
    assert scene.hostile.get("/status").json["user"]["admin"] is False


# -- by files -------------------------------------------------------------------------------------------------


def test_links_and_paths_out_of_the_sandbox(scene: Scene) -> None:
    """The job may follow a link with its own rights; what is served is not read through it."""
    store = scene.server.data / "store"
    home = scene.server.home
    mine = scene.hostile.submit(
        command=f"ln -s {store} dir; ln -s {home}/server.log file; ln -s / root; mkdir d; ln -s ../.. d/up; mkfifo pipe"
    )
    scene.hostile.ended(mine)
    theirs = scene.victim.get(f"/jobs/{scene.over}").json["attempts"][0]["task"]
    paths = [
        "dir", "dir/lock", "file", "root/etc/passwd", "d/up", "d/up/etc", "pipe", "..", "../..", f"../{theirs}/stdout",
        f"d/../../{theirs}/stdout", "/etc/passwd", "//etc/passwd", "./../x", "stdout/..", "d/..", "a\0b", "%2e%2e/x",
    ]  # fmt: skip
    for path in paths:
        for what in ("file", "files"):
            reply = scene.hostile.get(f"/jobs/{mine}/{what}?path={quote(path, safe='')}")
            assert not leaks(scene, reply) and b"root:" not in reply.body
            if reply.status == 200 and what == "files":  # the link or pipe itself may be looked at
                assert {entry["type"] for entry in reply.json["entries"]} <= {"link", "other"}, (path, reply)
            else:
                assert reply.status in (400, 403, 404), (path, what, reply)
    listed = {entry["name"]: entry["type"] for entry in scene.hostile.get(f"/jobs/{mine}/files").json["entries"]}
    assert (listed["dir"], listed["file"], listed["pipe"]) == ("link", "link", "other")


def test_names_of_files_do_not_become_headers(scene: Scene) -> None:
    mine = scene.hostile.submit(command=["/usr/bin/env", "touch", 'a"\r\nSet-Cookie: b=c\r\n\r\n<x>'])
    assert scene.hostile.ended(mine)["state"] == "FINISHED"
    reply = scene.hostile.get(
        f"/jobs/{mine}/file?download=true&path=" + quote('a"\r\nSet-Cookie: b=c\r\n\r\n<x>', safe="")
    )
    if reply.status == 200:
        assert "set-cookie" not in reply.headers
        assert "\n" not in reply.headers["content-disposition"]
    else:
        assert reply.status in (400, 403, 404)


# -- by odd requests ---------------------------------------------------------------------------------------------------


def raw(scene: Scene, data: bytes) -> bytes:
    """Send bytes; the first line of what comes back, empty if nothing does."""
    host, _, port = scene.server.uri.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), PATIENCE_S) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        try:
            return connection.makefile("rb").readline()
        except ConnectionResetError:
            return b""


ODD_REQUESTS = (
    b"GET /\x1b[31mEVIL HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /ping HTTP/1.1\r\nHost: x\r\nX: EVIL\x00EVIL\r\n\r\n",
    b"GET /ping HTTP/1.1\r\nHost: x\r\nX: a\r\n EVIL: folded\r\n\r\n",
    b"GET /ping HTTP/1.1\r\nHost: x\r\nX : EVIL\r\n\r\n",
    b"GET /ping HTTP/1.1\r\nHost: x\r\n" + b"X: " + b"EVIL" * 20_000 + b"\r\n\r\n",
    b"GET /ping HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X%d: EVIL\r\n" % n for n in range(5000)) + b"\r\n",
    b"GET /" + b"EVIL" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST /api/v2/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nEVIL!",
    b"POST /api/v2/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\nEVIL",
    b"POST /api/v2/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nEVIL",
    b"POST /api/v2/jobs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: EVIL\r\n\r\n",
    b"EVIL\r\n\r\n",
    b"\x16\x03\x01EVIL\xff\xfe",
    b"GET http://evil.example/EVIL HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    b"CONNECT evil.example:443 HTTP/1.1\r\nHost: EVIL\r\n\r\n",
)


@pytest.mark.parametrize("data", ODD_REQUESTS, ids=range(len(ODD_REQUESTS)))
def test_odd_requests_are_refused_and_not_logged(scene: Scene, data: bytes) -> None:
    line = raw(scene, data)
    assert line == b"" or line.split()[1][:1] == b"4" or data.startswith(b"GET /ping"), line
    assert scene.hostile.get("/jobs").status == 200
    log = (scene.server.home / "server.log").read_bytes()
    assert b"EVIL" not in log and b"\x1b" not in log


def test_ten_thousand_connections_keep_nobody_out(scene: Scene, record_property: Callable[[str, object], None]) -> None:
    """Silent ones, half of them within a request. The limit of open files may allow fewer: the report says how many."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    number = min(10_000, soft - 500)
    record_property("connections", number)
    if number < 10_000:
        warnings.warn(f"only {number} connections: no more than {soft} open files are allowed here", stacklevel=1)
    host, _, port = scene.server.uri.removeprefix("http://").partition(":")
    opened: list[socket.socket] = []
    try:
        for count in range(number):
            opened.append(socket.create_connection((host, int(port)), PATIENCE_S))
            # Ports are used again at once.
            opened[-1].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            if count % 2:
                opened[-1].sendall(b"GET /ping HTTP/1.1\r\nHost: x\r\nX-")
        assert scene.victim.get("/jobs").status == 200
        job_id = scene.victim.submit(command="true")
        assert scene.victim.ended(job_id)["state"] == "FINISHED"
    finally:
        for each in opened:
            each.close()
    assert scene.hostile.get("/jobs").status == 200


@pytest.mark.parametrize("line", ["a\r\n2026-11-20 06:00:00 INFO retz: EVIL", "\x1b[31mEVIL", "\u2028EVIL"])
def test_what_users_write_forges_no_log_lines(scene: Scene, line: str) -> None:
    spec = {"command": "true", "name": line, "tags": [line], "pipeline": line}
    assert scene.hostile.ask("POST", f"{API}/jobs", {"jobs": [spec]}).status in (400, 422)
    scene.hostile.ask("PUT", f"{API}/applications/{quote(line, safe='')}", {"enabled": True})
    mine = scene.hostile.submit(command=["/nowhere/" + line])
    scene.hostile.ended(mine)
    scene.hostile.get(f"/jobs?{quote(line, safe='')}={quote(line, safe='')}")
    scene.hostile.get(f"/{quote(line, safe='')}")
    log = (scene.server.home / "server.log").read_bytes()
    assert b"EVIL" not in log and b"\x1b" not in log


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Date", "9999-12-31T23:59:59-23:59"), ("Date", "0001-01-01T00:00:00+23:59"), ("Date", "x" * 5000),
        ("Date", "Mon, 99 Foo 99999999999 99:99:99 GMT"), ("Date", "\xff\xfe"), ("Authorization", "Retz-auth-v1 :"),
        ("Authorization", "Retz-auth-v1 " + "a" * 7000 + ":b"), ("Authorization", "Retz-auth-v1 \xff:\xff"),
        ("Authorization", "Retz-auth-v1 {key}:" + "A" * 43), ("Content-MD5", "=" * 5000), ("Content-MD5", "\xff"),
    ],
)  # fmt: skip
def test_odd_signatures_are_plainly_refused(scene: Scene, name: str, value: str) -> None:
    reply = scene.hostile.ask("GET", f"{API}/jobs", headers={name: value.format(key=scene.victim.key)})
    assert reply.status in (400, 401), reply
    assert not leaks(scene, reply)


@pytest.mark.parametrize(
    ("path", "name", "value", "statuses"),
    [
        ("/jobs/last/file", "Range", "bytes=--1", {200}),
        ("/jobs/last/file", "Range", "bytes=" + "9" * 5000 + "-", {200}),
        ("/jobs/last/file", "Range", "bytes=0-0,1-1" * 500, {200}),
        ("/jobs/last/file", "Range", "bytes=" + "9" * 18 + "-", {416}),
        ("/events", "Last-Event-ID", "9" * 30, {400}),
        ("/events", "Last-Event-ID", "-1", {400}),
        ("/events", "Last-Event-ID", "\xb2", {400}),
        ("/jobs", "X-Forwarded-For", "127.0.0.1", {200}),
        ("/jobs", "X-HTTP-Method-Override", "DELETE", {200}),
        ("/jobs", "Expect", "EVIL", {200, 417}),
        ("/jobs", "Accept-Encoding", "gzip, br" * 900, {200}),
    ],
)
def test_odd_values_of_headers(scene: Scene, path: str, name: str, value: str, statuses: set[int]) -> None:
    mine = scene.hostile.submit(command="echo mine")
    scene.hostile.ended(mine)
    reply = scene.hostile.ask("GET", API + path, headers={name: value})
    assert reply.status in statuses, reply


def test_a_victim_who_looks_back_sees_everything_as_it_was(scene: Scene) -> None:
    listed = scene.victim.get("/jobs?state=ALL&application=hushed-app").json["jobs"]
    assert set(scene.ids) <= {job["id"] for job in listed}
    assert scene.victim.get(f"/jobs/{scene.running}").json["state"] == "STARTED"
    assert scene.root.get("/jobs?user=*").json["total"] >= 3
    records = scene.root.get("/audit").json["records"]
    assert {record["who"] for record in records} == {scene.root.key}


def test_the_data_directory_is_closed_to_others(scene: Scene) -> None:
    data = scene.server.data
    assert data.stat().st_mode & 0o066 == 0
    for path in (data / "store", data / "archive", *(data / "archive").iterdir(), *(data / "store").iterdir()):
        assert path.stat().st_mode & 0o077 == 0 or data.stat().st_mode & 0o077 == 0, path
