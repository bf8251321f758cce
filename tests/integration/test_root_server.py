"""A whole server that root has started: jobs of two users, and what of them the API serves."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from retz.client import ApiError, Client
from tests.server_process import ServerProcess

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can run jobs as other users")


@pytest.fixture
def server() -> Iterator[ServerProcess]:
    """Where every user can pass, as below pytest's own directories they cannot."""
    home = Path(tempfile.mkdtemp(prefix="retz-root-"))
    home.chmod(0o711)
    process = ServerProcess(home, settings={"RETZ_LOCAL_USER": "nobody", "RETZ_SHARED_UID": "true"})
    process.start()
    yield process
    process.destroy()
    subprocess.run(["rm", "-rf", home], check=True)


def client(server: ServerProcess, key: str = "", secret: str = "") -> Client:
    if not key:
        key, secret = server.credentials()
    return Client(uri=server.uri, key=key, secret=secret)


def words(it: Client, command: str, **fields: object) -> str:
    """What a job prints."""
    job = it.run(command, **fields)
    assert (job.state, job.message) == ("FINISHED", None)
    return it.read_file(job.id, "stdout").decode()


def test_everybody_runs_as_themselves(server: ServerProcess) -> None:
    with client(server) as admin:
        mapped = admin.create_user("mapped", unix_user="daemon")
        plain = admin.create_user("plain")
        assert words(admin, "id -un") == "nobody\n"
        admin.put_application("theirs", user="daemon")
        assert words(admin, "id -un", application="theirs") == "daemon\n"
        with pytest.raises(ApiError, match="root is only allowed with a container"):
            admin.put_application("root", user="root")
    assert mapped.secret is not None and plain.secret is not None
    with client(server, mapped.key, mapped.secret) as it:
        assert words(it, "id -un; echo $HOME") == "daemon\n/usr/sbin\n"
        it.put_application("mine", user="daemon")
        assert words(it, "id -un", application="mine") == "daemon\n"
    with client(server, plain.key, plain.secret) as it:
        assert words(it, "id -un") == "nobody\n"
        with pytest.raises(ApiError, match="'daemon' is not yours to use"):
            it.put_application("theirs", user="daemon")


def test_a_lost_right_is_not_used(server: ServerProcess) -> None:
    """An application that was allowed to its owner, who is somebody else by now."""
    with client(server) as admin:
        user = admin.create_user("moves", unix_user="daemon")
        assert user.secret is not None
        with client(server, user.key, user.secret) as it:
            it.put_application("mine", user="daemon")
            held = it.submit("id -un", application="mine", held=True)
            admin.change_user(user.key, unix_user="")
            it.release(held)
            job = it.wait(held)
            assert (job.state, job.reason, job.attempts) == ("FAILED", "start", ())
            assert "'daemon' is not yours to use" in (job.message or "") and "not started" in (job.message or "")
            assert words(it, "id -un") == "nobody\n"
            with pytest.raises(ApiError, match="'daemon' is not yours to use"):
                it.submit("id -un", application="mine")


def test_an_administrator_who_is_none_any_more(server: ServerProcess) -> None:
    """What they could have anybody's jobs run as, they cannot any longer; the jobs behind it go on."""
    with client(server) as admin:
        user = admin.create_user("was one", admin=True)
        assert user.secret is not None
        with client(server, user.key, user.secret) as it:
            it.put_application("theirs", user="daemon")
            queued = [it.submit("id -un", application="theirs", held=True) for _ in range(3)]
            array = it.submit("id -un", application="theirs", array="1-300", held=True)
            after = it.submit("id -un", after=[f"{array}:any"])
            admin.change_user(user.key, admin=False)
        with client(server, user.key, user.secret) as it:
            for job_id in (*queued, array):
                it.release(job_id)
            assert {(it.wait(job_id).state, it.job(job_id).reason) for job_id in queued} == {("FAILED", "start")}
            assert it.wait(after).state == "FINISHED"
            assert it.read_file(after, "stdout") == b"nobody\n"
            ended = it.job(array)
            assert (ended.state, ended.reason) == ("FAILED", "tasks")


def test_two_users_cannot_harm_or_see_each_other(server: ServerProcess) -> None:
    """Each with a Unix user: processes, environment, files, sockets, links. Command lines are open, as everywhere."""
    with client(server) as admin:
        victim, hostile = admin.create_user("victim", unix_user="daemon"), admin.create_user("hostile")
    assert victim.secret is not None and hostile.secret is not None
    with client(server, victim.key, victim.secret) as it:
        running = it.submit(
            "echo hushed >kept; echo $$ >pid; echo hushed; exec sleep 600", environment={"TOKEN": "hushed"}
        )
        wait_for(lambda: it.job(running).state == "STARTED" and it.read_file(running, "stdout") == b"hushed\n")
    box = server.data / "local/sandboxes/0" / f"{running}.1"
    pid = int((box / "pid").read_text())
    proc, local = f"/proc/{pid}", server.data / "local"
    tries = (
        f"cat {proc}/environ", f"cat {proc}/mem", f"ls {proc}/fd/", f"ls {proc}/cwd/", f"cat {proc}/cwd/kept",
        f"cat {box}/stdout", f"cat {box}/kept", f"ls {box}", f"ln {box}/kept hard", f"touch {box}/mine",
        f"rm -r {box}", f"kill -9 {pid}", f"kill -9 {server.process.pid if server.process else 0}",
        f"ls {local}", f"ls {box.parent}", f"cat {local}/records", f"mkdir {box.parent}/{running}.2",
        f"echo >{local}/launcher.sock", f"ls {local}/cache/1",
    )  # fmt: skip
    with client(server, hostile.key, hostile.secret) as it:
        for attempt in tries:
            job = it.run(attempt)
            assert job.state == "FAILED", attempt
            assert b"hushed" not in it.read_file(job.id, "stdout"), attempt
        seen = words(it, "cat /proc/[0-9]*/environ /proc/[0-9]*/cwd/kept 2>&-; true", environment={"MINE": "1"})
        assert "MINE=1" in seen and "hushed" not in seen
        assert "sleep" in words(it, f"tr '\\0' ' ' <{proc}/cmdline")
        waiting = it.submit("while [ ! -e go ]; do sleep 0.02; done")
        wait_for(lambda: it.job(waiting).state == "STARTED")
        mine = server.data / "local/sandboxes/0" / f"{waiting}.1"
        os.link(box / "kept", mine / "hard")  # where the kernel does not protect hard links, a job could do this itself
        os.link(server.home / "server.log", mine / "log")
        for path in ("hard", "log"):
            with pytest.raises(ApiError, match="another Unix user than the sandbox") as refused:
                it.read_file(waiting, path)
            assert refused.value.status == 403
        it.kill(waiting)
    with client(server, victim.key, victim.secret) as it:
        assert it.job(running).state == "STARTED"
        assert it.read_file(running, "kept") == b"hushed\n"


def wait_for(condition: Callable[[], bool]) -> None:
    """Ask until it holds."""
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.02)


def test_the_data_directory_keeps_its_secrets(server: ServerProcess) -> None:
    with client(server) as it:
        job = it.run(f"cd {server.data}; ls . store archive local; cat store/* lock; ls local")
        assert job.state == "FAILED"
        assert it.read_file(job.id, "stdout") == b""
        job = it.run(f"ln -s {server.home}/config/retz/retz.toml soft; cat soft")
        assert it.read_file(job.id, "stdout") == b""
        with pytest.raises(ApiError, match="symbolic link"):
            it.read_file(job.id, "soft")


def test_a_restart_finds_the_jobs_of_others(server: ServerProcess) -> None:
    with client(server) as it:
        running = it.submit("while [ ! -e go ]; do sleep 0.02; done; id -un")
        it.run("true")
        server.kill()
        server.start()
        (server.data / "local/sandboxes/0" / f"{running}.1" / "go").touch()
        assert it.wait(running).state == "FINISHED"
        assert it.read_file(running, "stdout") == b"nobody\n"
        assert len(it.job(running).attempts) == 1
