"""An old client against a real server on this machine: the scenarios that Retz itself was tested with, retold."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.doubles.old_client import OldClient, Refused, job
from tests.server_process import ServerProcess
from tests.wire import Wire

KEY, SECRET = "deadbeef", "cafebabe"
SETTINGS = {
    "RETZ_LOCAL_CPUS": "8",
    "RETZ_LOCAL_MEM": "8g",
    "RETZ_ACCESS_KEY": KEY,
    "RETZ_ACCESS_SECRET": SECRET,
    "RETZ_SHARED_UID": "true",
}
ECHO = 'echo "$0"; exit "$0"'
"""Says its argument and exits with it."""
UNICODE = ("ε=ε=ε=ε=ε=ε=", "◟⚫͈ω⚫̤◞")


def client_of(server: ServerProcess, key: str = KEY, secret: str = SECRET) -> OldClient:
    host, _, port = server.uri.removeprefix("http://").partition(":")
    return OldClient(host, int(port), key, secret)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    server = ServerProcess(tmp_path_factory.mktemp("protocol") / "home", settings=SETTINGS)
    try:
        server.start()
        client_of(server).load_app("t")
        yield server
    finally:
        server.destroy()


@pytest.fixture
def old(running: ServerProcess) -> OldClient:
    return client_of(running)


def lengths(old: OldClient) -> tuple[int, int, int]:
    """Jobs finished, queued, running."""
    sizes = {state: len(old.list(state)["jobs"]) for state in ("FINISHED", "QUEUED", "STARTING", "STARTED")}
    return sizes["FINISHED"], sizes["QUEUED"], sizes["STARTING"] + sizes["STARTED"]


def names(listing: dict[str, Any]) -> list[str]:
    return [entry["path"].rpartition("/")[2] for entry in listing["entries"]]


def test_e1_applications_are_listed(old: OldClient) -> None:
    assert "t" in [each["appid"] for each in old.apps()]


def test_e2_an_application_with_a_file_runs(old: OldClient, tmp_path: Path) -> None:
    script = tmp_path / "spawn.sh"
    script.write_text("exit 0\n")
    old.load_app("echo-app", files=[f"file://{script}"])
    assert "echo-app" in [each["appid"] for each in old.apps()]
    ended = old.run(job("echo hoge from echo-app via Retz", "echo-app", 2, 256, 32, ports=1))
    assert (ended["state"], ended["result"]) == ("FINISHED", 0)
    assert "hoge from echo-app via Retz" in old.whole_file(ended["id"], "stdout").splitlines()
    assert old.whole_file(ended["id"], "stderr") == ""
    finished, queued, now_running = lengths(old)
    assert finished > 0 and (queued, now_running) == (0, 0)
    old.unload_app("echo-app")


def test_e3_files_in_directories(old: OldClient) -> None:
    ended = old.run(job("mkdir -p a/b/c/d; echo PPAP > a/b/c/e"))
    assert old.get_file(ended["id"], "a/b/c/e", 0, 1024)["file"] == {"data": "PPAP\n", "offset": 0}
    assert names(old.list_files(ended["id"], "a/b/c")) == ["d", "e"]


def test_e4_a_running_job_is_killed(old: OldClient) -> None:
    job_id = old.schedule(job("sleep 60", ports=2))["id"]
    first = old.get_job(job_id)
    assert first is not None and first["state"] in ("QUEUED", "STARTING", "STARTED")
    old.wait(job_id, ("STARTED",))
    old.kill(job_id)
    ended = old.wait(job_id)
    assert (ended["state"], ended["reason"]) == ("KILLED", "Canceled by user")
    assert ended["taskId"] is not None


@pytest.mark.parametrize("command", [ECHO, 'echo "$0"'], ids=["e5-scheduleApp", "e6-scheduleApp2"])
def test_e5_e6_many_jobs_of_every_exit_code(old: OldClient, command: str) -> None:
    numbers = [*range(33), 42, 63, 64, 127, 128, 151, 192, 255]
    before = lengths(old)[0] + len(old.list("KILLED")["jobs"])
    ids = [old.schedule(job(f"sh -c '{command}' {number}", ports=3))["id"] for number in numbers]
    for number, job_id in zip(numbers, ids, strict=True):
        ended = old.wait(job_id)
        good = command != ECHO or number == 0
        assert (ended["state"], ended["result"]) == (("FINISHED", 0) if good else ("KILLED", -1))
        assert ended["retry"] == 0
        if not good:
            assert ended["reason"] == f"Command exited with status {number}"
        assert old.whole_file(job_id, "stdout") == f"{number}\n"
    finished, queued, now_running = lengths(old)
    assert (queued, now_running) == (0, 0)
    assert finished + len(old.list("KILLED")["jobs"]) >= before + 41


def test_e7_e8_e9_names_with_plus_and_beyond_ascii_and_lists_by_tag(old: OldClient) -> None:
    plus = old.run(job("mkdir d++; touch d++/e++; touch d++/f", tags=["tag1-listFilesTest"]))
    listing = old.list_files(plus["id"], "d++")
    assert [entry["path"].endswith(each) for entry, each in zip(listing["entries"], ("d++/e++", "d++/f"), strict=True)]
    command = f"mkdir d++; touch {' '.join(UNICODE)}"
    unicode = old.run(job(command, tags=["tag1-listFilesTest", "multibytes"]))
    assert names(old.list_files(unicode["id"])) == ["d++", "stderr", "stdout", *UNICODE]
    for tag, count in (("tag1-listFilesTest", 2), ("multibytes", 1)):
        answer = old.list("FINISHED", tag)
        assert (len(answer["jobs"]), answer["more"]) == (count, False)
    assert len(old.list("FINISHED")["jobs"]) >= 2


def test_e10_a_job_that_does_not_exist(old: OldClient) -> None:
    assert old.get_job(102345) is None
    assert old.get_file(102345, "stdout")["job"] is None


def test_e11_a_file_that_does_not_exist(old: OldClient) -> None:
    ended = old.run(job("echo 42"))
    answer = old.get_file(ended["id"], "non-existent-file", 0, -1)
    assert answer["job"] is not None and answer["file"] is None
    with pytest.raises(FileNotFoundError):
        old.whole_file(ended["id"], "no-such-file")


def test_e12_a_job_larger_than_any_machine_is_refused(old: OldClient) -> None:
    with pytest.raises(Refused, match="does not fit system limit"):
        old.schedule(job("echo 42", cpu=1024))
    assert old.list("QUEUED")["jobs"] == []


def test_e14_a_disabled_user(running: ServerProcess) -> None:
    wire = Wire(running.uri, KEY, SECRET)
    made = wire.call("POST", "/api/v2/users", {"users": [{"info": "farboom"}]})[1]["users"][0]
    other = client_of(running, made["key"], made["secret"])
    other.load_app("t")
    job_id = other.run(job("ls"))["id"]
    for _ in range(2):
        assert wire.call("PATCH", f"/api/v2/users/{made['key']}", {"enabled": False})[0] == 200
        with pytest.raises(Refused, match="disabled"):
            other.get_job(job_id)
        with pytest.raises(Refused, match="disabled"):
            other.load_app("t2")
        with pytest.raises(Refused, match="disabled"):
            other.schedule(job("ls"))
        assert wire.call("PATCH", f"/api/v2/users/{made['key']}", {"enabled": True})[0] == 200
        assert other.run(job("ls"))["state"] == "FINISHED"
    wire.close()


def test_f6_binary_files(old: OldClient) -> None:
    command = (
        "mkdir d && dd if=/dev/urandom of=d/binary count=1024 bs=16 && tar czf d/binary.tgz d/binary"
        " && md5sum d/binary.tgz > binary.tgz.md5"
    )
    ended = old.run(job(command, cpu=2, mem=256))
    assert names(old.list_files(ended["id"])) == ["binary.tgz.md5", "d", "stderr", "stdout"]
    reply = old.download(ended["id"], "d/binary.tgz")
    told = old.whole_file(ended["id"], "binary.tgz.md5").split()[0]
    assert reply.code == 200 and hashlib.md5(reply.body).hexdigest() == told
    # As text it is of no use, but reading it as text ends.
    assert len(old.whole_file(ended["id"], "d/binary").encode()) >= 1024 * 16


def test_f7_an_odd_name(old: OldClient) -> None:
    ended = old.run(job("echo palmface > 'dead + poet + society.txt'"))
    reply = old.download(ended["id"], "dead + poet + society.txt")
    assert (reply.code, reply.body) == (200, b"palmface\n")


def test_ports_and_environment_reach_the_job(old: OldClient) -> None:
    """Retz's default planner admitted such jobs and gave them no ports."""
    ended = old.run(job('echo "$PORT0 $PORT1 $LANG_OF_JOB"', ports=2, props={"LANG_OF_JOB": "C"}))
    first, second, language = old.whole_file(ended["id"], "stdout").split()
    assert int(first) != int(second) and language == "C"


def test_an_application_that_cannot_work_here_is_registered_as_it_is_and_its_jobs_tell_why(old: OldClient) -> None:
    """Retz's own example among them: a volume below the sandbox, of a driver that is not allowed here."""
    volume = {
        "driver": "nfs", "containerPath": "my-nfs", "mode": "RW", "name": "192.168.0.1/", "options": {"user": "u"},
    }  # fmt: skip
    asked: dict[str, Any] = {
        "container": {"type": "docker", "image": "ubuntu:16.04", "volumes": [volume]},
        "files": ["file:///a", "hdfs://nn/b"],
        "largeFiles": ["http://h/large.tgz"],
    }
    old.load_app("elsewhere", **asked)
    found = old.get_app("elsewhere")
    assert {name: found[name] for name in asked} == asked
    old.load_app("lost", files=["file://foo/bar/baz"])
    ended = old.run(job("true", "lost"))
    assert ended["state"] == "KILLED" and "not of 'foo'" in ended["reason"]
    for name in ("elsewhere", "lost"):
        old.unload_app(name)


def test_f5_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path / "home", settings=SETTINGS)
    try:
        server.start()
        old = client_of(server)
        old.load_app("t", files=[])
        ids = [old.schedule(job(f"echo {number}", mem=64))["id"] for number in range(64)]
        # In the order of a job's life, so that one that moves on meanwhile is seen.
        seen = {
            each["id"] for state in ("QUEUED", "STARTING", "STARTED", "FINISHED") for each in old.list(state)["jobs"]
        }
        assert seen == set(ids) and len(ids) == 64
        assert server.stop() == 0
        server.start()
        assert old.get_app("t")["owner"] == KEY
        for number, job_id in enumerate(ids):
            ended = old.wait(job_id)
            assert (ended["state"], ended["result"], ended["retry"]) == ("FINISHED", 0, 0)
            assert old.whole_file(job_id, "stdout") == f"{number}\n"
        assert lengths(old) == (64, 0, 0)
    finally:
        server.destroy()


def test_f9_a_running_job_is_not_started_again_by_a_restart_and_a_kill_is_not_forgotten(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path / "home", settings=SETTINGS)
    starts = tmp_path / "starts"
    try:
        server.start()
        old = client_of(server)
        old.load_app("t")
        go_on = tmp_path / "go-on"
        os.mkfifo(go_on)
        job_id = old.schedule(job(f"echo $$ >> {starts}; read line < {go_on}; echo $line"))["id"]
        doomed = old.schedule(job("sleep 600"))["id"]
        old.wait(job_id, ("STARTED",))
        old.wait(doomed, ("STARTED",))
        _until(lambda: starts.exists() and starts.read_text() != "")
        old.kill(doomed)
        server.kill()
        server.start()
        go_on.write_text("survived\n")
        ended = old.wait(job_id)
        assert (ended["state"], ended["retry"]) == ("FINISHED", 0)
        assert old.whole_file(job_id, "stdout") == "survived\n"
        assert len(starts.read_text().split()) == 1
        assert old.wait(doomed)["reason"] == "Canceled by user"
    finally:
        server.destroy()


def _until(condition: Any) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_server_of_these_tests_never_failed(running: ServerProcess) -> None:
    assert running.process is not None and running.process.poll() is None
    assert " ERROR " not in running.log()


def test_a_server_and_a_client_with_their_old_files(tmp_path: Path) -> None:
    server_file, client_file = tmp_path / "server.properties", tmp_path / "retz.properties"
    server_file.write_text(
        "retz.mesos = zk://10.0.0.1:2181/mesos\nretz.access.key = deadbeef\nretz.access.secret = cafebabe\n"
        "retz.max.stock = 16\nretz.database.url = jdbc:h2:mem:retz\nretz.max.cpus = 2\n"
    )
    server = ServerProcess(tmp_path / "home", engine="null")
    try:
        server.start(["--config", str(server_file)])
        for key in ("retz.max.stock", "retz.database.url"):
            assert server.log().count(f"{key}: has no meaning here") == 1
        old = client_of(server)
        old.load_app("t")
        with pytest.raises(Refused, match="2 cpus"):
            old.schedule(job("true", cpu=3))
        client_file.write_text(
            f"retz.server.uri = {server.uri}\nretz.authentication = true\nretz.access.key = deadbeef\n"
            "retz.access.secret = cafebabe\nretz.tls.insecure = false\nretz.jmx.port = 9999\n"
        )
        client_file.chmod(0o600)
        done = retz(server, client_file, "run", "--", "echo", "done")
        assert (done.returncode, done.stderr) == (0, "")
        (remark,) = json.loads(retz(server, client_file, "config", "--json").stdout)["notes"]
        assert "retz.jmx.port: has no meaning here" in remark
    finally:
        server.destroy()


def test_an_old_server_file_without_signatures_has_no_secret_either(tmp_path: Path) -> None:
    file = tmp_path / "retz.properties"
    file.write_text("retz.mesos = 10.0.0.1:5050\nretz.authentication = false\nretz.access.key = deadbeef\n")
    server = ServerProcess(tmp_path / "home", engine="null")
    try:
        server.start(["--config", str(file)])
        old = client_of(server, secret="")
        old.sign = lambda *_parts: "all-okay"
        old.load_app("t")
        assert old.run(job("true"))["state"] == "FINISHED"
    finally:
        server.destroy()


def retz(server: ServerProcess, config: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from retz.cli import main; main()", "-C", str(config), *words],
        env=server.environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
