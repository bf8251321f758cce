"""Every example of docs/workflows.md, run: by its own tool if there is one here, else its command line by a shell."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.doubles.old_client import OldClient
from tests.doubles.old_client import job as old_job
from tests.server_process import ServerProcess
from tests.wire import Wire

DOCS = Path(__file__).parents[2] / "docs" / "workflows.md"
SETTINGS = {"RETZ_LOCAL_CPUS": "4", "RETZ_LOCAL_MEM": "4g"}
POLL_BYTES = 65_536


def block(language: str, holding: str = "") -> str:
    """The example in a language that holds a text."""
    blocks: list[str] = re.findall(rf"```{language}\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    (found,) = [each for each in blocks if holding in each]
    return found


class Place(NamedTuple):
    """A running server, a directory, and ``retz`` on the PATH."""

    server: ServerProcess
    directory: Path
    environment: dict[str, str]

    def run(self, words: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words, cwd=self.directory, env=self.environment,
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    def sh(self, line: str) -> subprocess.CompletedProcess[str]:
        return self.run(["bash", "-c", line])

    def jobs(self) -> list[dict[str, Any]]:
        wire = Wire(self.server.uri, *self.server.credentials())
        listed: list[dict[str, Any]] = wire.call("GET", "/api/v2/jobs?state=ALL&sort=id&limit=1000")[1]["jobs"]
        wire.close()
        return listed


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    server = ServerProcess(tmp_path_factory.mktemp("workflows") / "home", settings=SETTINGS)
    try:
        server.start()
        yield server
    finally:
        server.destroy()


@pytest.fixture
def place(running: ServerProcess, tmp_path: Path) -> Place:
    programs = tmp_path / "bin"
    programs.mkdir()
    retz = programs / "retz"
    retz.write_text(f'#!/bin/sh\nexec {sys.executable} -c "from retz.cli import main; main()" "$@"\n')
    retz.chmod(0o755)
    directory = tmp_path / "work"
    directory.mkdir()
    path = f"{programs}:{running.environment['PATH']}"
    return Place(running, directory, {**running.environment, "PATH": path})


def new(place: Place, before: list[dict[str, Any]]) -> list[dict[str, Any]]:
    known = {each["id"] for each in before}
    return [each for each in place.jobs() if each["id"] not in known]


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make here")
def test_make(place: Place) -> None:
    (place.directory / "Makefile").write_text(block("make"))
    before = place.jobs()
    done = place.run(["make", "-j", "4"])
    assert done.returncode == 0, done.stderr
    assert (place.directory / "report.txt").read_text() == "result of a\nresult of b\nresult of c\n"
    assert [each["state"] for each in new(place, before)] == ["FINISHED"] * 4
    (place.directory / "b.out").unlink()
    before = place.jobs()
    assert place.run(["make", "-j", "4"]).returncode == 0
    assert [each["name"] for each in new(place, before)] == ["b.out", ""]


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make here")
def test_make_fails_when_a_job_does_and_leaves_no_half_file(place: Place) -> None:
    (place.directory / "Makefile").write_text(block("make").replace("echo result", "exit 3; echo result"))
    done = place.run(["make", "-k"])
    assert done.returncode == 2 and "Error 3" in done.stderr
    assert [each.name for each in place.directory.iterdir()] == ["Makefile"]


def test_cron(place: Place) -> None:
    path, line = block("crontab").splitlines()
    assert path.startswith("PATH=")
    fields = line.split(None, 5)
    assert all(re.fullmatch(r"[\d*/,-]+", field) for field in fields[:5])
    command = fields[5].replace("\\%", "%")
    assert "%" not in fields[5].replace("\\%", "")
    # What cron gives, and where the test's retz is.
    given = {name: place.environment[name] for name in ("HOME", "PATH", "XDG_CONFIG_HOME", "PYTHONPATH")}
    before = place.jobs()
    for _ in range(2):
        done = subprocess.run(
            ["/bin/sh", "-c", command], env={**given, "SHELL": "/bin/sh"}, cwd=place.directory,
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (0, "nightly work done\n"), done.stderr
    (made,) = new(place, before)
    assert (made["state"], made["timeout_s"]) == ("FINISHED", 7200.0)


def digdag(line: str, **variables: str) -> str:
    """A command as Digdag hands it to the shell."""
    return re.sub(r"\$\{(\w+)\}", lambda found: variables[found[1]], line)


def test_digdag_sh(place: Place) -> None:
    prepare, train = re.findall(r"sh>: (.*)", block("yaml", "sh>"))
    session = {"session_uuid": "8a6cb2a3", "attempt_id": "17"}
    before = place.jobs()
    for _ in range(2):
        done = place.sh(digdag(prepare, task_name="+flow+prepare", **session))
        assert (done.returncode, done.stdout) == (0, "prepared\n"), done.stderr
    assert len(new(place, before)) == 1
    before = place.jobs()
    for _ in range(2):
        done = place.sh(digdag(train, task_name="+flow+train", **session))
        assert (done.returncode, done.stdout) == (0, "trained\n"), done.stderr
    assert len(new(place, before)) == 2


def test_airflow(place: Place) -> None:
    (call,) = [
        node
        for node in ast.walk(ast.parse(block("python", "airflow")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "BashOperator"
    ]
    arguments = {each.arg: each.value for each in call.keywords}
    template = ast.literal_eval(arguments["bash_command"])
    values = {"run_id": "scheduled__2026-11-20T00:00:00+00:00", "task.task_id": "train", "ti.try_number": "1"}

    def line() -> str:
        return re.sub(r"\{\{ ([\w.]+) \}\}", lambda found: values[found[1]], template)

    before = place.jobs()
    for _ in range(2):
        done = place.sh(line())
        assert (done.returncode, done.stdout) == (0, "trained\n"), done.stderr
    assert len(new(place, before)) == 1
    values["ti.try_number"] = "2"
    assert place.sh(line()).returncode == 0
    assert len(new(place, before)) == 2


def test_a_python_script_that_may_be_started_again(place: Place) -> None:
    script = place.directory / "flow.py"
    script.write_text(block("python", "retz.client"))
    before = place.jobs()
    for _ in range(2):
        done = place.run([sys.executable, str(script)])
        assert (done.returncode, done.stdout) == (0, "merged\n"), done.stderr
    made = new(place, before)
    assert [each["state"] for each in made] == ["FINISHED"] * 4
    assert made[3]["after"] == [str(each["id"]) for each in made[:3]]


# -- what the page says about keys and exit codes ---------------------------------------------------------------------


def test_the_same_key_is_the_same_failure_and_another_try_another_job(place: Place) -> None:
    before = place.jobs()
    line = "retz run --key {} -c 'echo once; exit 7'"
    for _ in range(2):
        done = place.sh(line.format("failing-1"))
        assert (done.returncode, done.stdout) == (7, "once\n")
    assert place.sh(line.format("failing-2")).returncode == 7
    assert len(new(place, before)) == 2


def test_the_same_key_for_other_work_is_refused(place: Place) -> None:
    assert place.sh("retz run --key work -- true").returncode == 0
    done = place.sh("retz run --key work -- false")
    assert done.returncode == 125 and "was used for another request" in done.stderr


def test_a_workflow_that_is_ended_ends_its_job(place: Place) -> None:
    process = subprocess.Popen(
        ["bash", "-c", "exec retz run --key doomed -- sh -c 'echo begun; exec sleep 600'"],
        cwd=place.directory, env=place.environment, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) != 0
    number = place.jobs()[-1]["id"]
    assert place.sh(f"retz wait {number}").returncode != 0
    assert place.jobs()[-1]["state"] == "KILLED"


# -- Digdag's own operator -------------------------------------------------------------------------------------------


def parameters() -> dict[str, Any]:
    """The task of the page, as the plugin gets it."""
    found: dict[str, Any] = {}
    for line in block("yaml", "retz_run>").splitlines()[1:]:
        name, _, value = line.strip().partition(": ")
        found[name] = re.findall(r"[\w=]+", value) if value.startswith("[") else value
    return found


def mebibytes(text: str) -> int:
    """The plugin's own sizes: whole numbers and a unit."""
    found = re.fullmatch(r"(\d+)(|m|mb|g|gb|t|tb)", text.lower())
    assert found is not None
    return int(found[1]) * {"": 1, "m": 1, "g": 1024, "t": 1024 * 1024}[found[2].removesuffix("b")]


class Operator:
    """What ``retz_run>`` does with a task: submit, poll, copy the output as it comes, tell how it ended."""

    def __init__(self, client: OldClient, task: Mapping[str, Any]) -> None:
        self.client = client
        self.log = ""
        self.job_id = client.schedule(
            old_job(
                task["retz_run>"], task["appname"], int(task["cpu"]), mebibytes(task["mem"]), 32,
                name="5:+flow+echo"[:32], tags=task.get("tags", []),
                props=dict(pair.split("=", 1) for pair in task.get("env", [])),
            )
        )["id"]  # fmt: skip
        self._offset = 0

    def _copy(self, path: str, offset: int) -> int:
        while (part := self.client.get_file(self.job_id, path, offset, POLL_BYTES)["file"]) and part["data"]:
            self.log += part["data"]
            offset += len(part["data"].encode())
        return offset

    def run(self) -> dict[str, Any]:
        """Poll until the end; what the task came to."""
        found = self.client.wait(self.job_id, ("STARTING", "STARTED", "FINISHED", "KILLED"))
        while found["state"] in ("STARTING", "STARTED"):
            self._offset = self._copy("stdout", self._offset)
            found = self.client.wait(self.job_id)
        self._copy("stdout", self._offset)
        self._copy("stderr", 0)
        return found


@pytest.fixture
def client(place: Place) -> OldClient:
    host, _, port = place.server.uri.removeprefix("http://").partition(":")
    return OldClient(host, int(port), *place.server.credentials())


def test_digdag_retz_run(place: Place, client: OldClient) -> None:
    properties = [line.partition(" = ")[0] for line in block("properties").splitlines()]
    assert properties == ["retz.server.uri", "retz.authentication", "retz.access.key", "retz.access.secret"]
    assert place.sh("retz load-app -A echo-app").returncode == 0
    operator = Operator(client, parameters())
    ended = operator.run()
    assert (ended["state"], ended["result"], ended["name"]) == ("FINISHED", 0, "5:+flow+echo")
    assert operator.log == "hello from digdag\ncareful\n"
    assert ended["resources"]["memMB"] == 64 and ended["props"] == {"GREETING": "hello"}
    listed = place.sh("retz list -t nightly --state ALL --json")
    assert str(operator.job_id) in listed.stdout


def test_digdag_retz_run_fails_with_the_reason(place: Place, client: OldClient) -> None:
    assert place.sh("retz load-app -A echo-app").returncode == 0
    operator = Operator(client, {**parameters(), "retz_run>": "echo no; exit 3"})
    ended = operator.run()
    assert ended["result"] != 0
    message = f"Job(id={ended['id']}) failed. | retz-info: state={ended['state']}, reason={ended['reason']}"
    assert message.endswith("state=KILLED, reason=Command exited with status 3")


def test_digdag_in_mode_cli_runs_a_client_with_these_words(place: Place) -> None:
    """``client_mode: cli``: the plugin starts ``client_cmd`` with ``run``; ours understands the same words."""
    words = (
        "run -A default -cmd 'echo hello' -cpu 1 -mem 64 --disk 32 -gpu 0 -ports 0 --prio 0 -N n --tags a,b --stderr"
    )
    done = place.run(["retz", *shlex.split(words)])
    assert (done.returncode, done.stdout) == (0, "hello\n"), done.stderr
