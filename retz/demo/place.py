"""Where the demo happens: a server of its own below a temporary directory, and ``retz`` as a user types it."""

from __future__ import annotations

import json
import os
import select
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

BIN = Path(sys.executable).parent
PATIENCE_S = 120.0
SETTINGS = {
    "RETZ_PLANNER_NAME": "priority",
    "RETZ_LOCAL_SAMPLE_INTERVAL": "0.2s",  # its jobs take seconds
    "RETZ_ESTIMATOR_INTERVAL": "1s",
}

Job = dict[str, Any]


class Place:
    """A server that can be killed and started again, and the command line that finds it.

    Attributes:
        work: The directory in which commands are typed and jobs run.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.work = home / "work"
        self.work.mkdir()
        kept = {name: value for name, value in os.environ.items() if not name.startswith("RETZ_")}
        self.environment = {
            **kept,
            **SETTINGS,
            "PATH": f"{BIN}:{kept.get('PATH', '')}",
            "HOME": str(home),
            "XDG_CONFIG_HOME": str(home / "config"),
            "XDG_STATE_HOME": str(home / "state"),
        }
        if not sys.stdout.isatty():
            self.environment["COLUMNS"] = "80"
        if os.geteuid() == 0:  # the demo's jobs are the demo's own
            self.environment["RETZ_LOCAL_USER"] = "root"
        self._bind = "http://127.0.0.1:0"
        self._server: subprocess.Popen[str] | None = None

    # -- the server --------------------------------------------------------------------------------------------

    def start_server(self) -> None:
        """Start it and wait until it listens."""
        with (self.home / "server.log").open("ab") as log:
            self._server = subprocess.Popen(
                [str(BIN / "retz-server"), "--bind", self._bind],
                env=self.environment,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=self.home,
            )
        assert self._server.stdout is not None
        ready, _, _ = select.select([self._server.stdout], [], [], PATIENCE_S)
        line = self._server.stdout.readline() if ready else ""
        if not line.startswith("listening on "):
            raise SystemExit(f"the server did not start:\n{(self.home / 'server.log').read_text()}")
        self._bind = line.split()[-1]
        say(f"  server {self._server.pid} listens on {self._bind}")

    def end_server(self, number: signal.Signals) -> None:
        """Send it a signal and wait for its end."""
        if self._server is not None:
            self._server.send_signal(number)
            self._server.wait(PATIENCE_S)
            if self._server.stdout is not None:
                self._server.stdout.close()
            self._server = None

    # -- the command line --------------------------------------------------------------------------------------

    def retz(self, *arguments: str, show: bool = True, capture: bool = True) -> str:
        """Run ``retz`` as a user would and return what it printed; without ``capture`` it prints for itself."""
        if show:
            shown = shlex.join(arguments)
            say(f"  $ retz {shown if len(shown) <= 71 else shown[:68] + '...'}")
        done = subprocess.run(
            [str(BIN / "retz"), *arguments],
            env=self.environment,
            cwd=self.work,
            stdout=subprocess.PIPE if capture else None,
            stderr=subprocess.PIPE if capture else None,
            text=True,
        )
        if done.returncode:
            raise SystemExit(f"retz {arguments[0]} failed with {done.returncode}:\n{done.stderr}{done.stdout}")
        return done.stdout or ""

    def schedule(self, *arguments: str, show: bool = True) -> list[int]:
        """Queue jobs; their ids."""
        return [int(word) for word in self.retz("schedule", *arguments, show=show).split()]

    def jobs(self) -> dict[int, Job]:
        """All jobs as the API shows them, by id."""
        document = json.loads(self.retz("list", "--state", "ALL", "--json", "--limit", "1000", show=False))
        return {job["id"]: job for job in document["jobs"]}

    def wait_for(self, done: Callable[[dict[int, Job]], bool]) -> dict[int, Job]:
        """Show progress until ``done`` holds for the jobs; returns them."""
        deadline = time.monotonic() + PATIENCE_S
        shown = ""
        while True:
            jobs = self.jobs()
            over = sum(job["ended"] is not None for job in jobs.values())
            line = f"  {'#' * over}{'.' * (len(jobs) - over)} {over} of {len(jobs)} ended"
            if sys.stdout.isatty():
                print(f"\r{line}", end="", flush=True)
            elif line != shown:
                say(line)
            shown = line
            if done(jobs):
                break
            if time.monotonic() > deadline:
                raise SystemExit(f"this took more than {PATIENCE_S:.0f} s; {self.retz('list')}")
            time.sleep(0.1)
        if sys.stdout.isatty():
            print()
        return jobs


def say(text: str) -> None:
    """Print at once, whoever reads."""
    print(text, flush=True)
