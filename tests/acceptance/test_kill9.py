"""``kill -9`` of server, launcher or both at random moments, under a mixed load of submits, kills and ending jobs.

Fifty cycles in the suite; ``RETZ_KILL9_CYCLES=1000`` for a long run, ``RETZ_KILL9_SEED=N`` to repeat one (the
seed is printed). What must hold at the end is in :func:`_check`.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.server_process import ServerProcess
from tests.wire import Wire

BACKLOG = 40
CYCLES = int(os.environ.get("RETZ_KILL9_CYCLES", "50"))


class Load(threading.Thread):
    """Submits and kills jobs until stopped, and remembers every promise the server made.

    A submit that was not answered is repeated with its key until it is, as the SDK does; a kill that was not
    answered promises nothing.
    """

    def __init__(self, server: ServerProcess, starts: Path, seed: int, pauses: Sequence[str]) -> None:
        super().__init__()
        self._pauses = pauses
        self._server = server
        self._credentials = server.credentials()
        self._random = random.Random(seed)
        self._starts = starts
        self._stop_now = threading.Event()
        self._pending: list[dict[str, Any]] = []
        self.expected: dict[int, int] = {}
        self.asked: set[int] = set()
        self.killed: set[int] = set()
        self.failure: AssertionError | None = None

    def run(self) -> None:
        while not self._stop_now.is_set() and self.failure is None:
            self._talk()

    def stop(self) -> None:
        """End after the present request."""
        self._stop_now.set()
        self.join()
        if self.failure is not None:
            raise self.failure

    def finish(self) -> None:
        """Repeat what was never answered, against a server that lives."""
        wire = Wire(self._server.uri, *self._credentials)
        for request in self._pending:
            self._submit(wire, request)
        self._pending.clear()
        wire.close()

    def _talk(self) -> None:
        try:
            wire = Wire(self._server.uri, *self._credentials)
            for request in list(self._pending):
                self._submit(wire, request)
                self._pending.remove(request)
            while not self._stop_now.is_set():
                if self.expected and self._random.random() < 0.25:
                    self._kill(wire, self._random.choice(list(self.expected)[-20:]))
                    continue
                request = self._request()
                self._pending.append(request)
                self._submit(wire, request)
                self._pending.remove(request)
                # The queue shall hold queued, running and ended jobs at any moment, and not grow without end.
                if len(self.expected) > BACKLOG:
                    wire.call("GET", f"/api/v2/jobs/{sorted(self.expected)[-BACKLOG]}/wait?timeout_s=10")
        except OSError:
            self._stop_now.wait(0.02)  # the server is down: its successor will answer
        except AssertionError as error:
            self.failure = error

    def _request(self) -> dict[str, Any]:
        code = self._random.choice([0, 0, 0, 1, 7])
        pause = self._random.choice(self._pauses)
        line = f"echo $RETZ_JOB_ID.$RETZ_ATTEMPT >> {self._starts}; {pause} exit {code}"
        count = self._random.choice([1, 1, 1, 4])
        return {
            "key": f"{self._random.getrandbits(64):x}",
            "jobs": [{"command": line, "resources": {"cpus": 0.5, "mem": 64}}] * count,
        }

    def _submit(self, wire: Wire, request: dict[str, Any]) -> None:
        status, answer = wire.call("POST", "/api/v2/jobs", request)
        assert status in (200, 201), answer
        code = int(request["jobs"][0]["command"].rsplit(" ", 1)[1])
        self.expected.update(dict.fromkeys(answer["ids"], code))

    def _kill(self, wire: Wire, job_id: int) -> None:
        self.asked.add(job_id)
        status, answer = wire.call("DELETE", f"/api/v2/jobs/{job_id}")
        assert status in (202, 409), answer
        if status == 202:
            self.killed.add(job_id)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    running = ServerProcess(tmp_path / "home", settings={"RETZ_LOCAL_CPUS": "2", "RETZ_RETRIES": "1000"})
    running.start()
    yield running
    running.destroy()


@pytest.mark.parametrize(
    ("pauses", "cycles"),
    [
        pytest.param(("", "sleep 0.05;", "sleep 0.4;", "sleep 1.5;"), CYCLES, id="mixed"),
        # All short: then starts are handed to the launcher ahead of time.
        pytest.param(("",), CYCLES // 3, id="short"),
    ],
)
def test_nothing_is_lost_and_nothing_runs_twice(
    server: ServerProcess, tmp_path: Path, pauses: Sequence[str], cycles: int
) -> None:
    seed = int(os.environ.get("RETZ_KILL9_SEED", time.time_ns() % 1_000_000))
    print(f"RETZ_KILL9_SEED={seed}")
    dice = random.Random(seed)
    starts = tmp_path / "starts"
    starts.touch()
    load = Load(server, starts, seed, pauses)
    load.start()
    launcher_kills = 0
    for _ in range(cycles):
        load.join(dice.uniform(0.02, 0.6))
        assert load.is_alive(), load.failure
        victim = dice.choice(["server", "server", "launcher", "both"])
        if victim != "launcher":
            server.kill()
        if victim != "server":
            launcher_kills += len(_kill_launcher(server))
        if victim != "launcher":
            server.start()
    load.stop()
    load.finish()
    _wait_until_idle(server)
    print(f"{len(load.expected)} jobs, {len(load.killed)} killed, {launcher_kills} launchers killed")
    _check(server, load, starts)


def _kill_launcher(server: ServerProcess) -> list[int]:
    pids = server.launcher_pids()
    for pid in pids:
        try:
            os.kill(pid, 9)
        except ProcessLookupError:
            continue
    return pids


def _wait_until_idle(server: ServerProcess) -> None:
    wire = Wire(server.uri, *server.credentials())
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        _, status = wire.call("GET", "/api/v2/status")
        if status["queued"] + status["starting"] + status["started"] == 0:
            wire.close()
            return
        time.sleep(0.05)
    raise AssertionError(f"the queue did not become empty: {status}")


def _check(server: ServerProcess, load: Load, starts: Path) -> None:
    wire = Wire(server.uri, *server.credentials())
    jobs = {job_id: wire.call("GET", f"/api/v2/jobs/{job_id}") for job_id in load.expected}
    assert [job_id for job_id, (status, _) in jobs.items() if status != 200] == [], "acknowledged submits are gone"
    for job_id, (_, job) in jobs.items():
        if job_id in load.killed:
            assert job["state"] == "KILLED", job
        elif job["state"] != "KILLED" or job_id not in load.asked:  # a kill without an answer may have been done
            assert job["state"] == ("FAILED" if load.expected[job_id] else "FINISHED"), job
            assert job["exit_code"] == load.expected[job_id], job
    lines = starts.read_text().split()
    twice = [task for task, count in Counter(lines).items() if count > 1]
    assert twice == [], "an attempt was started twice"
    for job_id, count in Counter(int(line.split(".")[0]) for line in lines).items():
        assert job_id in jobs, f"job {job_id} ran, but the queue does not know it"
        attempts = jobs[job_id][1]["attempts"]
        assert count <= 1 + sum(attempt["reason"] == "lost" for attempt in attempts), (count, attempts)
    wire.close()
    server.stop()
    _assert_nothing_runs(server)


def _assert_nothing_runs(server: ServerProcess) -> None:
    """No job's process is left: all of them carry the sandbox's path in their environment."""
    needle = str(server.data).encode()
    left = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if b"RETZ_JOB_ID=" in (environ := (entry / "environ").read_bytes()) and needle in environ:
                    left.append((entry / "cmdline").read_bytes())
            except OSError:
                continue  # it ended while we looked
    assert left == []
