"""Retz, as it is by default."""

from __future__ import annotations

import sys
from pathlib import Path

import psutil

from retz.client import Client
from tests.benchmarks.rivals.base import Queue
from tests.server_process import ServerProcess

PROGRAM = """
import json, sys, time
from retz.client import Client
taken = []
with Client() as client:
    client.list(limit=1)
    for _ in range(int(sys.argv[1])):
        began = time.perf_counter()
        client.submit(sys.argv[2])
        taken.append((time.perf_counter() - began) * 1e3)
print(json.dumps(taken))
"""


class Retz(Queue):
    """Server and launcher on a fresh data directory."""

    name = "Retz"

    def __init__(self, home: Path, slots: int) -> None:
        super().__init__(home, slots)
        self._server = ServerProcess(home, settings={"RETZ_LOCAL_CPUS": str(slots)})
        self._command = str(Path(sys.executable).with_name("retz"))

    def start(self) -> None:
        self._server.start()
        self.environment = {**self._server.environment, "RETZ_SERVER_URI": self._server.uri}

    def daemons(self, *, holders: bool = False) -> list[psutil.Process]:
        assert self._server.process is not None
        pids = [self._server.process.pid, *(self._server.launcher_pids() if holders else ())]
        return [psutil.Process(pid) for pid in pids]

    def kill(self, *, holders: bool = False) -> None:
        launchers = self.daemons(holders=holders)[1:]
        self._server.kill()
        for each in launchers:
            each.kill()
        psutil.wait_procs(launchers)

    def stop(self) -> None:
        self._server.destroy()

    def submit(self, line: str) -> list[str]:
        return [self._command, "schedule", "--mem", "64", "-c", line]

    def array(self, first: int, last: int, line: str) -> list[str]:
        line = f"I=$RETZ_ARRAY_INDEX; {line}"
        return [self._command, "schedule", "--mem", "64", "--array", f"{first}-{last}", "-c", line]

    def run(self, line: str) -> list[str]:
        return [self._command, "run", "--mem", "64", "-c", line]

    def program(self, count: int, line: str) -> list[str]:
        return [sys.executable, "-c", PROGRAM, str(count), line]

    def results(self) -> dict[int, int | None]:
        key, secret = self._server.credentials()
        with Client(uri=self._server.uri, key=key, secret=secret) as client:
            tasks = [job for job in client.jobs(state="ALL") if job.array_index is not None]
        return {job.array_index: job.exit_code for job in tasks if job.array_index is not None}
