"""``retz-server --engine mesos`` as users and operators see it: real processes, and a double of a cluster whose agents
really run the commands."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tarfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doubles.mesos.cluster import AgentSpec, Cluster, ClusterThread
from tests.doubles.mesos.model import Timing
from tests.server_process import ServerProcess

from .conftest import MakeServer
from .terminal import Terminal, command, job, retz, submit, until

SETTINGS = {"RETZ_MESOS_POLL": "1s", "RETZ_MESOS_SAMPLE_INTERVAL": "1s", "RETZ_MESOS_UNREACHABLE_WAIT": "1s"}


def _cluster(directory: Path, port: int = 0, **more: object) -> ClusterThread:
    """Two machines, one of them with GPUs."""
    timing = Timing(allocation_interval=0.05, executor_linger=0.05, update_retry=1.0, **more)  # type: ignore[arg-type]
    specs = [
        AgentSpec(cpus=4.0, attributes={"rack": "r1"}, hostname="plain.lan", ip="127.0.0.1"),
        AgentSpec(cpus=4.0, gpus=2.0, attributes={"rack": "r2"}, hostname="gpus.lan", ip="127.0.0.1"),
    ]
    return ClusterThread(lambda: Cluster(specs, work_dir=directory, timing=timing, port=port))


def _settings(address: str) -> dict[str, str]:
    return {"RETZ_MESOS_MASTER": address, **SETTINGS}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterThread]:
    """One for all tests that leave it as they find it."""
    with _cluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture(scope="module")
def shared(cluster: ClusterThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server for all of them."""
    home = tmp_path_factory.mktemp("shared") / "home"
    server = ServerProcess(home, engine="mesos", settings=_settings(cluster.address))
    try:
        server.start()
        until(lambda: retz(server, "status", "--json").json["agents"] == 2, "agents")
        yield server
    finally:
        server.destroy()


@pytest.mark.parametrize(
    ("words", "code", "out", "err"),
    [
        (["--", "printf", "%s|", "a b", "*", "$HOME"], 0, "a b|*|$HOME|", ""),
        (["-c", "echo out; echo err >&2; exit 3"], 3, "out\n", "err\n"),
        (["-c", "kill -9 $$"], 137, "", "was ended by signal 9"),
        (["--timeout", "1s", "--", "sleep", "60"], 124, "", "ran out of time"),
        (["--", "no-such-program"], 127, "", "no-such-program"),
        (["-w", "/no/such/place", "--", "true"], 1, "", "/no/such/place"),
        (["-E", "GREETING=a,b=c", "-c", "echo $GREETING"], 0, "a,b=c\n", ""),
        (["-c", 'test "$RETZ_TASK" = "$RETZ_JOB_ID.$RETZ_ATTEMPT" && echo $RETZ_CPUS'], 0, "1\n", ""),
        (["-c", "cd \"$RETZ_SANDBOX\" && test \"$PWD\" = \"$HOME\" && ls"], 0, "stderr\nstdout\n", ""),
        (["--ports", "2", "-c", 'test "$PORT0" -ne "$PORT1" && echo ok'], 0, "ok\n", ""),
        (["--gpus", "1", "-c", "echo $RETZ_GPUS"], 0, "1\n", ""),
    ],
)  # fmt: skip
def test_run(shared: ServerProcess, words: list[str], code: int, out: str, err: str) -> None:
    said = retz(shared, "run", *words)
    assert (said.code, said.out) == (code, out), said
    assert err in said.err


def test_attributes_choose_the_machine_and_its_name_is_shown(shared: ServerProcess) -> None:
    number = submit(shared, "--attributes", "rack=r2", "--gpus", "1", "--", "sleep", "60")
    until(lambda: job(shared, number)["state"] == "STARTED", "start")
    assert retz(shared, "why", str(number)).out == "running on gpus.lan\n"
    assert " gpus.lan " in retz(shared, "list").out
    assert "agent        gpus.lan\ngpus         gpu0\n" in retz(shared, "get-job", str(number)).out
    assert retz(shared, "kill", str(number)).code == 0
    ended = until(lambda: (found := job(shared, number))["ended"] and found, "end")
    assert (ended["state"], ended["signal"]) == ("KILLED", 15)


def test_output_is_followed_while_it_is_written(shared: ServerProcess, tmp_path: Path) -> None:
    go = tmp_path / "go"
    number = submit(shared, "-c", f"echo first; until test -e {go}; do sleep 0.02; done; echo second")
    process = subprocess.Popen(
        command(["get-file", "--poll", str(number)]), stdout=subprocess.PIPE, env=shared.environment, cwd=shared.home
    )
    assert process.stdout is not None
    with process:
        assert process.stdout.readline() == b"first\n"
        go.touch()
        assert process.stdout.read() == b"second\n"
    assert process.returncode == 0


def test_files_of_any_bytes_come_back_whole(shared: ServerProcess, tmp_path: Path) -> None:
    data = bytes(range(256)) * 1024
    (tmp_path / "data").write_bytes(data)
    number = submit(shared, "--wait", "-c", f"mkdir -p a/b; cp {tmp_path}/data a/b/copy; cat a/b/copy")
    assert [each["path"] for each in retz(shared, "list-files", str(number), "--json").json["entries"]] == [
        "a", "stderr", "stdout",
    ]  # fmt: skip
    for path in ("a/b/copy", "stdout"):
        said = retz(shared, "get-file", str(number), "--path", path, "-R", str(tmp_path / "got"))
        assert said.code == 0, said
        assert (tmp_path / "got" / Path(path).name).read_bytes() == data
    gone = retz(shared, "get-file", str(number), "--path", "nothing")
    assert (gone.code, "no such file" in gone.err) == (1, True)


def test_an_application_with_files(shared: ServerProcess, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("plain\n")
    with tarfile.open(tmp_path / "tree.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "notes.txt", "tree/packed.txt")
    words = ["-A", "tools", "-F", (tmp_path / "notes.txt").as_uri(), "-L", (tmp_path / "tree.tar.gz").as_uri()]
    assert retz(shared, "load-app", *words).code == 0
    assert retz(shared, "run", "-A", "tools", "-c", "cat notes.txt tree/packed.txt").out == "plain\nplain\n"


@pytest.mark.parametrize(
    ("words", "code", "err"),
    [
        (["-F", "file:///no/such/file"], 125, "could be fetched: stderr in its sandbox says which"),
        (["-U", "nosuchuser"], 127, "there is no user 'nosuchuser' on agent "),
        (["--container", "docker", "--image", "ubuntu:24.04"], 125, "takes no images: its operator must start it with"),
    ],
)
def test_applications_that_cannot_start_say_why(shared: ServerProcess, words: list[str], code: int, err: str) -> None:
    assert retz(shared, "load-app", "-A", "broken", *words).code == 0
    said = retz(shared, "run", "-A", "broken", "--", "true")
    assert (said.code, err in said.err) == (code, True), said


def test_an_interrupted_run_kills_its_job(shared: ServerProcess) -> None:
    terminal = Terminal(shared, "run", "-c", "echo begun; sleep 60")
    terminal.read_until("begun")
    terminal.type("\x03")
    terminal.read_until("?")
    terminal.type("\x03")
    assert terminal.close() != 0
    last = retz(shared, "list", "--state", "KILLED", "--json").json["jobs"][0]["id"]
    assert until(lambda: job(shared, last)["ended"], "end")


def test_a_pipeline_that_ran_is_predicted(shared: ServerProcess) -> None:
    for run in ("monday", "tuesday", "wednesday"):
        assert retz(shared, "schedule", "--wait", "--pipeline", "nightly", "--run", run, "--", "sleep", "0.2").code == 0
    said = until(lambda: (said := retz(shared, "predict", "nightly", "--json")).code == 0 and said, "prediction")
    assert said.json["prediction"]["pipeline"] == "nightly"


def test_status_shows_the_cluster(shared: ServerProcess) -> None:
    status = retz(shared, "status").out
    assert "engine mesos" in status and "agents    2\n" in status and " of 2 in use" in status
    assert "ENGINE" not in status


def test_a_job_too_large_for_any_machine_is_told_so_at_once(shared: ServerProcess) -> None:
    """It is not refused but with ``--strict``: machines of a cluster come and go."""
    never = "would never fit: needs 64 cpus, the largest agent has 4"
    first = submit(shared, "--cpu", "64", "--", "true")
    until(lambda: never in retz(shared, "why", str(first)).out, "agents' sizes, which are asked for after their offers")
    told = retz(shared, "schedule", "--cpu", "64", "--", "true")
    assert (told.code, never in told.err) == (0, True), told
    refused = retz(shared, "schedule", "--strict", "--cpu", "64", "--", "true")
    assert (refused.code, refused.out, never in refused.err) == (1, "", True), refused
    assert retz(shared, "kill", str(first), told.out.strip()).code == 0


# -- the operator ------------------------------------------------------------------------------------------------


def _health(server: ServerProcess) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"{server.uri}/healthz") as answer:
            return answer.status, json.load(answer)["status"]
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)["status"]


def test_an_upgrade_while_jobs_run(make_server: MakeServer, tmp_path: Path) -> None:
    go = tmp_path / "go"
    with _cluster(tmp_path / "cluster") as cluster:
        server = make_server(engine="mesos", settings=_settings(cluster.address))
        server.start()
        waits = submit(server, "-c", f"until test -e {go}; do sleep 0.02; done; echo done; exit 5")
        ends = submit(server, "-c", f"touch {tmp_path}/runs; sleep 0.3; exit 6")
        until(lambda: (tmp_path / "runs").exists() and job(server, waits)["state"] == "STARTED", "start")
        assert server.stop() == 0
        until(lambda: len(cluster.do(lambda it: [run for agent in it.agents for run in agent.live()])) == 1, "an end")
        server.start()
        for number, code in ((ends, 6), (waits, 5)):
            ended = until(lambda number=number: (found := job(server, number))["ended"] and found, "its end")  # type: ignore[misc]
            assert (ended["state"], ended["exit_code"], len(ended["attempts"])) == ("FAILED", code, 1)
            go.touch()
        assert retz(server, "get-file", str(waits)).out == "done\n"
        assert retz(server, "run", "--", "echo", "after").out == "after\n"
        assert cluster.do(lambda it: (it.teardowns, len(it.master.frameworks))) == (0, 1)
        server.kill()
        server.start()
        assert retz(server, "run", "--", "echo", "again").out == "again\n"
        assert cluster.do(lambda it: it.teardowns) == 0


def test_no_process_is_left_behind(make_server: MakeServer, tmp_path: Path) -> None:
    with _cluster(tmp_path / "cluster") as cluster:
        server = make_server(engine="mesos", settings=_settings(cluster.address))
        for end in (signal.SIGTERM, signal.SIGKILL):
            server.start()
            assert retz(server, "run", "--", "echo", "hello").out == "hello\n"
            assert server.process is not None
            children = _children(server.process.pid)
            assert len(children) == 2
            if end is signal.SIGTERM:
                server.stop()
            else:
                server.kill()
            until(lambda children=children: not any(map(_alive, children)), "their end")  # type: ignore[misc]


def _children(parent: int) -> list[int]:
    """The driver and the observer of a server."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                words = (entry / "cmdline").read_bytes()
            except OSError:
                continue  # it ended while we looked
            if int(fields[1]) == parent and b"retz.engine.mesos" in words:
                found.append(int(entry.name))
    return found


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_master_that_comes_later_and_goes_away(make_server: MakeServer, tmp_path: Path) -> None:
    with _cluster(tmp_path / "first") as first:
        address = first.address
    server = make_server(engine="mesos", settings=_settings(address))
    server.start()
    until(lambda: _health(server) == (503, "engine-failure"), "trouble")
    status = retz(server, "status").out
    assert "ENGINE    not connected to Mesos: " in status and address in status
    number = submit(server, "--", "echo", "late")
    assert retz(server, "why", str(number)).out.startswith("nothing can be started now: not connected to Mesos")
    with _cluster(tmp_path / "second", port=int(address.rpartition(":")[2])):
        until(lambda: job(server, number)["state"] == "FINISHED", "the job")
        assert _health(server) == (200, "ok")
        assert retz(server, "get-file", str(number)).out == "late\n"
    until(lambda: _health(server) == (503, "engine-failure"), "trouble")
    away = retz(server, "get-file", str(number))
    assert (away.code, "can be read once it is back" in away.err) == (1, True), away
    assert "Traceback" not in server.log()
