"""The clients against a real server: the SDK's documented examples, and every command of the command line."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from retz.client import ApiError, AsyncClient, Client, JobSpec
from retz.client.types import FileRange
from retz.config import ClientConfig, load_client
from retz.model.submission import ResourcesSpec
from tests.server_process import ServerProcess

ROOT = Path(__file__).parents[2]
PATIENCE_S = 30


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    running = ServerProcess(tmp_path_factory.mktemp("server"))
    running.start()
    yield running
    running.destroy()


@pytest.fixture
def config(server: ServerProcess) -> ClientConfig:
    return load_client(environ=server.environment, cwd=server.home)


def command(server: ServerProcess, *words: str, **more: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", "from retz.cli import main; main()", *words],
        env={**server.environment, **more.pop("env", {})},
        cwd=more.pop("cwd", server.home),
        stdin=more.pop("stdin", subprocess.DEVNULL),
        stdout=more.pop("stdout", subprocess.PIPE),
        stderr=more.pop("stderr", subprocess.PIPE),
        text=True,
        **more,
    )


def retz(server: ServerProcess, *words: str, code: int = 0, **more: Any) -> str:
    with command(server, *words, **more) as process:
        try:
            out, err = process.communicate(timeout=PATIENCE_S)
        finally:
            process.kill()
    assert process.returncode == code, f"{words}: {process.returncode}: {err}"
    return out


def examples() -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / "docs/sdk.md").read_text(), re.DOTALL)


def test_the_examples_of_the_docs_run(server: ServerProcess) -> None:
    programs = examples()
    assert len(programs) >= 5
    outputs = []
    for program in programs:
        done = subprocess.run(
            [sys.executable, "-c", program], env=server.environment, cwd=server.home, capture_output=True, text=True,
            timeout=PATIENCE_S, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{program}\n{done.stderr}"
        outputs.append(done.stdout)
    assert outputs[0] == "FAILED 3\nhello\noops\n"
    assert outputs[2].startswith("5 ended well\n5 [")
    assert outputs[3] == "FINISHED 3\n2\n"
    assert outputs[4] == "1\n2\n3\n"
    assert outputs[5].splitlines()[-1].endswith("FINISHED")
    assert outputs[6].startswith("422 unprocessable")


def test_the_sdk_end_to_end(config: ClientConfig, tmp_path: Path) -> None:
    with Client(config) as client:
        spec = JobSpec(command=("sh", "-c", "echo $X; printf data > file"), environment={"X": "y"}, name="typed",
                       resources=ResourcesSpec(cpus=0.5, mem="64m"))  # fmt: skip
        job = client.wait(client.submit(spec, tags=["sdk"]))
        assert (job.ok, job.name, job.resources.cpus, job.resources.mem, job.tags) == (True, "typed", 0.5, 64, ("sdk",))
        assert {e.name for e in client.files(job.id)} >= {"stdout", "stderr", "file"}
        assert client.read_file(job.id, "stdout") == b"y\n"
        assert client.read_file(job.id, "file", offset=1, length=2) == b"at"
        part = client.read_range(job.id, "file", offset=1, length=2)
        assert (part.data, part.offset, part.size, part.attempt) == (b"at", 1, 4, 1)
        assert client.read_range(job.id, "file", offset=-3) == FileRange(data=b"ata", offset=1, size=4, attempt=1)
        assert client.read_range(job.id, "file", offset=4, length=9) == FileRange(data=b"", offset=4, size=4, attempt=0)
        with pytest.raises(ApiError):
            client.read_range(job.id, "no-such-file", offset=-3)
        assert client.download(job.id, "file", tmp_path / "copy") == 4
        assert client.why(job.id).state == "FINISHED" and client.usage(job.id).attempt == 1
        report = client.efficiency(name="typed")
        assert (report.total.jobs, report.worst[0].id, report.worst[0].cpus) == (1, job.id, 0.5)
        again = client.resubmit(job.id)
        assert client.wait(again).name == "typed"
        held = client.submit("true", held=True)
        assert client.update(held, priority=7).priority == 7
        assert client.release(held).held is False
        sleeper = client.submit(["sleep", "60"])
        assert client.kill_many([sleeper]).ok == 1
        assert client.wait(sleeper).state == "KILLED"
        assert client.put_application("sdk-app", enabled=True).name == "sdk-app"
        assert "sdk-app" in {a.name for a in client.applications()}
        client.delete_application("sdk-app")
        with pytest.raises(ApiError) as caught:
            client.application("sdk-app")
        assert caught.value.status == 404
        assert client.agents()[0].total.cpus > 0 and client.status().mode == "open"
        assert client.aggregates().step_s > 0


def test_the_asynchronous_sdk(config: ClientConfig) -> None:
    async def main() -> None:
        async with AsyncClient(config) as client:
            jobs = await asyncio.gather(*(client.run(f"echo {n}") for n in range(4)))
            assert all(job.ok for job in jobs)
            outputs = [await client.read_file(job.id) for job in jobs]
            assert (await client.read_range(jobs[3].id, offset=-1)).data == b"\n"
            assert outputs == [b"0\n", b"1\n", b"2\n", b"3\n"]

    asyncio.run(main())


def test_run_passes_streams_bytes_and_code_through(server: ServerProcess) -> None:
    line = r"printf 'out\000\377\n'; echo err >&2; exit 7"
    done = subprocess.run(
        [sys.executable, "-c", "from retz.cli import main; main()", "run", "-c", line],
        env=server.environment, cwd=server.home, capture_output=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (7, b"out\0\xff\n", b"err\n")


def test_run_happens_here_with_our_environment(server: ServerProcess, tmp_path: Path) -> None:
    out = retz(server, "run", "-c", "pwd; echo $LANG; echo $OTHER", cwd=tmp_path, env={"LANG": "C", "OTHER": "o"})
    assert out.split() == [str(tmp_path), "C"]
    assert retz(server, "run", "--env-all", "-c", "echo $OTHER", env={"OTHER": "o"}) == "o\n"
    out = retz(server, "run", "--sandbox", "-c", 'pwd; echo "$RETZ_SANDBOX"')
    assert out.split()[0] == out.split()[1]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["-c", "kill -9 $$"], 137),
        (["--timeout", "0.3s", "--", "sleep", "60"], 124),
        (["--", "/no/such/program"], 127),
        (["-A", "no-such-application", "--", "true"], 125),
    ],
)
def test_exit_codes_of_run(server: ServerProcess, words: list[str], code: int) -> None:
    retz(server, "run", *words, code=code)


def test_each_line_in_order_with_the_worst_code(server: ServerProcess) -> None:
    with command(server, "run", "--each-line", "-", stdin=subprocess.PIPE) as process:
        out, _ = process.communicate("sleep 0.2; echo 1\necho 2\nexit 4\nexit 3\n", timeout=PATIENCE_S)
    assert (process.returncode, out) == (4, "1\n2\n")


def wait_for_text(descriptor: int, text: str) -> str:
    seen = ""
    while text not in seen:
        ready, _, _ = select.select([descriptor], [], [], PATIENCE_S)
        assert ready, f"never saw {text!r} in {seen!r}"
        seen += os.read(descriptor, 4096).decode(errors="replace")
    return seen


def test_an_interrupt_without_a_terminal_kills_the_job(server: ServerProcess, config: ClientConfig) -> None:
    with command(server, "run", "-N", "int", "-c", "echo ready; sleep 60") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 143 and "was killed" in err
    with Client(config) as client:
        assert [j.state for j in client.jobs(state="ALL", name="int")] == ["KILLED"]


@pytest.mark.parametrize(
    ("answers", "state", "code"), [(["y\n"], "KILLED", 143), (["\x03"], "KILLED", 143), (["d\n"], "STARTED", 0)]
)
def test_an_interrupt_on_a_terminal_asks(
    server: ServerProcess, config: ClientConfig, answers: list[str], state: str, code: int
) -> None:
    controller, terminal = pty.openpty()
    name = f"asked-{answers[0]!r}"
    try:
        process = command(
            server, "run", "-N", name, "-c", "echo ready; sleep 60", stdin=terminal, stdout=terminal, stderr=terminal,
            preexec_fn=_own_terminal,
        )  # fmt: skip
        with process:
            wait_for_text(controller, "ready")
            os.write(controller, b"\x03")
            wait_for_text(controller, "[y/N/detach]")
            for answer in answers:
                os.write(controller, answer.encode())
            assert process.wait(timeout=PATIENCE_S) == code
    finally:
        os.close(controller)
        os.close(terminal)
    with Client(config) as client:
        (job,) = client.jobs(state="ALL", name=name)
        assert job.state == state
        if not job.over:
            client.kill(job.id)


def _own_terminal() -> None:
    import fcntl
    import termios

    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def test_a_reader_that_goes_away_ends_the_job(server: ServerProcess, config: ClientConfig) -> None:
    with command(server, "run", "-N", "pipe", "-c", "yes") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "y\n"
        process.stdout.close()
        assert process.wait(timeout=PATIENCE_S) == 141
    with Client(config) as client:
        assert [j.state for j in client.jobs(state="ALL", name="pipe")] == ["KILLED"]


def test_run_survives_the_server(server: ServerProcess, tmp_path: Path) -> None:
    go = tmp_path / "go"
    line = f"echo before; while [ ! -e {go} ]; do sleep 0.05; done; echo after; echo late >&2; exit 5"
    with command(server, "run", "-c", line) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "before\n"
        server.kill()
        server.start()
        go.touch()
        out, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, out, err) == (5, "after\n", "late\n")


def test_looking_and_changing(server: ServerProcess) -> None:
    first = int(retz(server, "schedule", "--hold", "-t", "cli", "--", "true"))
    second = int(retz(server, "schedule", "--hold", "-t", "cli", "-N", "second", "--", "true"))
    assert f"held: retz release {first}" in retz(server, "why", str(first))
    listed = retz(server, "list", "--tag", "cli").splitlines()
    assert [line.split()[0] for line in listed] == ["ID", str(second), str(first)]
    retz(server, "update", f"{first}-{second}", "--prio", "-3")
    document = json.loads(retz(server, "get-job", "last", "--json"))
    assert (document["jobs"][0]["id"], document["jobs"][0]["priority"]) == (second, -3)
    retz(server, "release", str(first))
    assert retz(server, "watch", str(first)).splitlines()[-1].split()[2:4] == ["✔", "finished"]
    retz(server, "hold", str(first), code=1)
    assert retz(server, "killall", "-t", "cli", "--wait") == f"job {second}: killed\n"
    again = int(retz(server, "resubmit", str(first)))
    assert retz(server, "watch", str(again)) and again > second
    assert "finished" in retz(server, "list", str(again))


def test_files(server: ServerProcess, tmp_path: Path) -> None:
    number = retz(
        server, "schedule", "--wait", "--sandbox", "-c", "mkdir d; printf 0123456789 > 'd/odd + name'; echo done"
    ).strip()
    assert retz(server, "get-file", number) == "done\n"
    assert retz(server, "get-file", "--poll", number) == "done\n"
    assert retz(server, "get-file", number, "--path", "d/odd + name", "--offset", "2", "--length", "3") == "234"
    retz(server, "get-file", "-i", number, "--path", "d/odd + name", "-R", str(tmp_path / "r"), "--binary")
    assert (tmp_path / "r" / "odd + name").read_text() == "0123456789"
    assert "d/odd + name" in retz(server, "list-files", number, "--path", "d")
    retz(server, "get-file", number, "--path", "../../../etc/passwd", code=1)
    retz(server, "get-file", number, "--path", "absent", code=1)


def test_following_ends_at_its_timeout(server: ServerProcess) -> None:
    number = retz(server, "schedule", "-c", "echo begun; sleep 60").strip()
    assert retz(server, "get-file", "--poll", "--timeout", "0.5s", number) in ("begun\n", "")
    retz(server, "kill", "--wait", number)


def test_the_queue(server: ServerProcess) -> None:
    assert retz(server, "drain", "--pause") == "the queue is paused, 0 jobs running\n"
    number = retz(server, "schedule", "--", "true").strip()
    assert "paused" in retz(server, "why", number)
    assert "paused" in retz(server, "status")
    retz(server, "drain", "--wait")
    retz(server, "schedule", "--", "true", code=1)
    assert "open" in retz(server, "drain", "--resume")
    assert retz(server, "watch", number)
    assert retz(server, "ping").startswith("OK")


def test_last_is_the_newest_job_even_when_an_older_one_outlives_it(server: ServerProcess) -> None:
    older = retz(server, "schedule", "--hold", "--", "true").strip()
    newest = retz(server, "schedule", "--", "true").strip()
    archived = f'"id":{newest},'
    deadline = time.monotonic() + PATIENCE_S
    while not any(archived in path.read_text() for path in (server.data / "archive").glob("segment-*.jsonl")):
        assert time.monotonic() < deadline
        threading.Event().wait(0.05)
    assert json.loads(retz(server, "get-job", "last", "--json"))["jobs"][0]["id"] == int(newest)
    retz(server, "kill", older)


def test_applications(server: ServerProcess) -> None:
    assert retz(server, "load-app", "-A", "app1", "--enabled", "false") == "Application app1 has been registered.\n"
    assert json.loads(retz(server, "get-app", "app1"))["enabled"] is False
    assert "app1" in retz(server, "list-app")
    retz(server, "schedule", "-A", "app1", "--", "true", code=1)


def test_completion(server: ServerProcess) -> None:
    number = retz(server, "schedule", "--hold", "--", "true").strip()
    environment = {"_RETZ_COMPLETE": "bash_complete", "COMP_WORDS": f"retz kill {number[:1]}", "COMP_CWORD": "2"}
    assert f"plain,{number}" in retz(server, env=environment).splitlines()
    environment["COMP_WORDS"] = "retz res"
    environment["COMP_CWORD"] = "1"
    assert "resubmit" in retz(server, env=environment)
    assert "_RETZ_COMPLETE" in retz(server, "completion", "zsh")
    retz(server, "kill", number)
