"""What goes on while the server is away, what is given to jobs, and what must not be seen."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from tinydb import where

from retz.model.user import User
from retz.store.database import Change, Database
from tests.server_process import ServerProcess
from tests.wire import Wire

from .conftest import MakeServer
from .terminal import job, retz, submit, until


def _running(server: ServerProcess, number: int) -> bool:
    return bool(job(server, number)["state"] == "STARTED")


def test_sigterm_is_graceful_and_the_next_server_adopts(server: ServerProcess, tmp_path: Path) -> None:
    go = tmp_path / "go"
    number = submit(server, "-c", f"echo begun; until test -e {go}; do sleep 0.02; done; echo done; exit 7")
    queued = submit(server, "--cpu", "4", "--", "echo", "later")
    until(lambda: _running(server, number), "its start")
    assert server.stop() == 0
    assert "running jobs go on" in server.log()
    go.touch()
    server.start()
    assert retz(server, "watch", str(number)).code == 7
    assert retz(server, "get-file", str(number)).out == "begun\ndone\n"
    assert len(job(server, number)["attempts"]) == 1
    assert retz(server, "watch", str(queued)).code == 0


def test_limits_act_while_the_server_is_down(server: ServerProcess, tmp_path: Path) -> None:
    late = submit(server, "--timeout", "1s", "--", "sleep", "60")
    go = tmp_path / "go"
    eat = f"{sys.executable} -c \"x = b'x' * 300_000_000; import time; time.sleep(60)\""
    greedy = submit(server, "--mem", "64", "-c", f"until test -e {go}; do sleep 0.02; done; {eat}")
    until(lambda: _running(server, late) and _running(server, greedy), "their start")
    server.kill()
    go.touch()
    until(lambda: not _processes_of(server), "the launcher ends both")
    server.start()
    found = {number: until(lambda n=number: _ended(server, n), "the news") for number in (late, greedy)}  # type: ignore[misc]
    assert (found[late]["state"], found[late]["reason"]) == ("FAILED", "timeout")
    assert (found[greedy]["state"], found[greedy]["reason"]) == ("FAILED", "oom")


def _ended(server: ServerProcess, number: int) -> dict[str, Any] | None:
    found = job(server, number)
    return found if found["ended"] else None


def _processes_of(server: ServerProcess) -> list[int]:
    """Processes of jobs: their environment names the sandbox."""
    needle = b"RETZ_SANDBOX=" + str(server.data).encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if needle in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue  # it ended while we looked
    return found


def test_gpus_and_ports_are_disjoint(make_server: MakeServer) -> None:
    server = make_server(
        settings={"RETZ_LOCAL_CPUS": "4", "RETZ_LOCAL_MEM": "4g", "RETZ_LOCAL_GPUS": "GPU-a,GPU-b,GPU-c"}
    )
    server.start()
    line = "echo $CUDA_VISIBLE_DEVICES,$PORT0,$PORT1; sleep 60"
    numbers = [submit(server, "--gpu", "1", "--ports", "2", "-c", line) for _ in range(3)]
    fourth = submit(server, "--gpu", "1", "--", "true")
    plain = submit(server, "-c", 'echo "[$CUDA_VISIBLE_DEVICES]${CUDA_VISIBLE_DEVICES+set}"')
    until(lambda: all(_running(server, number) for number in numbers), "all three")
    seen = [job(server, number) for number in numbers]
    assert sorted(gpu for found in seen for gpu in found["gpus"]) == ["GPU-a", "GPU-b", "GPU-c"]
    ports = [port for found in seen for port in found["ports"]]
    assert len(set(ports)) == 6
    for found in seen:
        expected = ",".join([*found["gpus"], *map(str, found["ports"])]) + "\n"
        assert until(lambda n=found["id"]: retz(server, "get-file", str(n)).out, "its output") == expected  # type: ignore[misc]
    assert "gpus" in retz(server, "why", str(fourth)).out
    assert retz(server, "watch", str(plain)).code == 0
    assert retz(server, "get-file", str(plain)).out == "[]set\n"
    retz(server, "kill", str(numbers[1]), "--wait")
    assert retz(server, "watch", str(fourth)).code == 0
    assert job(server, fourth)["gpus"] == seen[1]["gpus"]
    retz(server, "killall", "--all", "--wait")


SECRET = "hunter2-of-the-environment"


def test_secrets_are_nowhere_to_be_seen(make_server: MakeServer, tmp_path: Path) -> None:
    server = make_server(settings={"RETZ_LOCAL_CPUS": "4", "RETZ_LOCAL_MEM": "4g", "RETZ_LOG_LEVEL": "debug"})
    server.start()
    key, signing = server.credentials()
    number = submit(server, "-E", "MY_TOKEN", "-c", "echo ${#MY_TOKEN}; sleep 60", environment={"MY_TOKEN": SECRET})
    until(lambda: _running(server, number), "its start")
    lists = [
        retz(server, *words, *more)
        for words in (["list"], ["get-job", str(number)], ["why", str(number)], ["config", "--origin"], ["status"])
        for more in ([], ["--json"])
    ]
    shown = "".join(said.out + said.err for said in lists)
    wrong = retz(server, "list", environment={"RETZ_ACCESS_SECRET": "wrong-secret"})
    assert wrong.code == 1
    shown += wrong.err + "".join(_command_lines()) + server.log()
    for name in ("launcher.log", "records"):
        shown += (server.data / "local" / name).read_text(errors="replace")
    assert SECRET not in shown
    assert signing not in shown
    assert "wrong-secret" not in shown
    assert job(server, number)["environment"]["MY_TOKEN"] == "<masked>"
    assert key in shown, "that is a name, not a secret"
    until(lambda: retz(server, "get-file", str(number)).out == f"{len(SECRET)}\n", "the job itself sees it")
    again = retz(server, "resubmit", str(number)).out.strip()
    until(lambda: retz(server, "get-file", again).out == f"{len(SECRET)}\n", "so does its repetition")
    assert retz(server, "killall", "--all", "--wait").code == 0


def _command_lines() -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                found.append((entry / "cmdline").read_text(errors="replace"))
            except OSError:
                continue  # it ended while we looked
    return found


def test_everything_is_private(server: ServerProcess) -> None:
    retz(server, "run", "--", "true")
    client = server.home / "config" / "retz" / "retz.toml"
    assert client.stat().st_mode & 0o777 == 0o600
    passable = 0o011 if os.geteuid() == 0 else 0  # so that jobs of other users reach their sandboxes
    assert server.data.stat().st_mode & 0o777 == 0o700 | passable
    above = {server.data / "local", server.data / "local/sandboxes", server.data / "local/sandboxes/0"}
    exposed = [
        path
        for path in server.data.rglob("*")
        if not path.is_symlink() and path.stat().st_mode & 0o077 & ~(passable if path in above else 0)
    ]
    assert exposed == []


BOB = User(key="bob", secret="bob's secret", created=1.0)


@pytest.fixture
def two_users(make_server: MakeServer) -> ServerProcess:
    """A server whose store knows a second user, who is no administrator."""
    server = make_server(settings={"RETZ_LOCAL_CPUS": "4", "RETZ_LOCAL_MEM": "4g"})
    server.start()
    server.stop()
    with Database.open(server.data) as db:
        db.apply([Change("users", BOB.key, BOB)]).wait()
    server.start()
    return server


def test_two_users_do_not_see_each_other(two_users: ServerProcess) -> None:
    server = two_users
    assert retz(server, "load-app", "-A", "mine").code == 0
    number = submit(server, "-A", "mine", "-t", "x", "-N", "hidden", "-c", "echo private; sleep 60")
    until(lambda: _running(server, number), "its start")
    bob = Wire(server.uri, BOB.key, BOB.secret)
    one = f"/api/v2/jobs/{number}"
    for method, target, body in [
        ("GET", one, None),
        ("GET", f"{one}/why", None),
        ("GET", f"{one}/usage", None),
        ("GET", f"{one}/wait?timeout_s=0", None),
        ("GET", f"{one}/files", None),
        ("GET", f"{one}/file?path=stdout", None),
        ("PATCH", one, {"priority": 1}),
        ("DELETE", one, None),
        ("GET", "/api/v2/jobs/last", None),
        ("GET", "/api/v2/applications/mine", None),
        ("DELETE", "/api/v2/applications/mine", None),
    ]:
        status, answer = bob.call(method, target, body)
        assert status == 404, (method, target, status, answer)
        assert "hidden" not in str(answer)
    nothing = bob.call("GET", "/api/v2/jobs/999999")[1]["detail"].replace("999999", "N")
    assert bob.call("GET", one)[1]["detail"].replace(str(number), "N") == nothing
    for action, more in [("kill", {}), ("hold", {}), ("update", {"priority": 1}), ("resubmit", {})]:
        status, answer = bob.call("POST", f"/api/v2/jobs/{action}", {"ids": [number], **more})
        assert (status, answer["ok"], answer["failed"]) == (200, 0, 1), (action, answer)
        assert "no such job" in answer["results"][0]["error"]
    assert bob.call("POST", "/api/v2/jobs/kill", {"filter": {"tag": ["x"]}})[1]["results"] == []
    for query in ("", "?state=ALL", f"?ids={number}", "?tag=x", "?text=private", "?at=2100-01-01"):
        answer = bob.call("GET", f"/api/v2/jobs{query}")[1]
        assert (answer["jobs"], answer["total"]) == ([], 0), query
    for query in ("?user=*", f"?user={server.credentials()[0]}"):
        assert bob.call("GET", f"/api/v2/jobs{query}")[0] == 403, query
    assert bob.call("PUT", "/api/v2/queue", {"mode": "draining"})[0] == 403
    assert [a["name"] for a in bob.call("GET", "/api/v2/applications")[1]["applications"]] == ["default"]
    agent = bob.call("GET", "/api/v2/agents")[1]["agents"][0]
    assert agent["used"]["cpus"] == 1.0
    assert _running(server, number), "nothing of this did anything"
    _bobs_own_work(server, bob)
    bob.close()


def _bobs_own_work(server: ServerProcess, bob: Wire) -> None:
    status, answer = bob.call("POST", "/api/v2/jobs", {"key": "k", "jobs": [{"command": "echo bob"}]})
    assert status == 201
    (number,) = answer["ids"]
    assert bob.call("GET", f"/api/v2/jobs/{number}/wait?timeout_s=20")[1]["state"] == "FINISHED"
    # The same key of another user is another key.
    admin = Wire(server.uri, *server.credentials())
    status, answer = admin.call("POST", "/api/v2/jobs", {"key": "k", "jobs": [{"command": "true"}]})
    assert (status, answer["ids"] != [number]) == (201, True)
    assert admin.call("GET", f"/api/v2/jobs/{number}")[1]["owner"] == "bob", "administrators see everything"
    owners = {found["owner"] for found in admin.call("GET", "/api/v2/jobs?user=*&state=ALL")[1]["jobs"]}
    assert owners == {"bob", server.credentials()[0]}
    admin.close()
    assert retz(server, "killall", "--all", "--wait").code == 0


def test_the_store_is_a_tinydb_beside_the_running_server(server: ServerProcess) -> None:
    running = submit(server, "-t", "night", "-c", "sleep 60")
    held = [submit(server, "--hold", "--prio", "5", "--", "true") for _ in range(2)]
    until(lambda: _running(server, running), "its start")
    with Database.open(server.data, read_only=True) as db:
        assert {found.doc_id for found in db.jobs.search(where("held") == True)} == set(held)  # noqa: E712
        (found,) = db.jobs.search((where("state") == "STARTED") & where("tags").any(["night"]))
        assert found["command"] == "sleep 60"
        assert db.jobs.count(where("priority") > 0) == 2
        assert db.users.all()[0]["admin"] is True
        with pytest.raises(Exception, match="read-only"):
            db.jobs.update({"priority": 1}, doc_ids=held)
    assert job(server, held[0])["priority"] == 5, "and the server never noticed"
    assert retz(server, "killall", "--all", "--wait").code == 0


def test_a_client_that_nobody_told_anything(server: ServerProcess, tmp_path: Path) -> None:
    stranger = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": "", "RETZ_SERVER_URI": server.uri}
    said = retz(server, "list", environment=stranger)
    assert said.code == 1
    assert "retz.access.key" in said.err and "retz-server" in said.err
    said = retz(server, "ping", environment=stranger)
    assert said.code == 0
    assert not (tmp_path / ".config").exists()
