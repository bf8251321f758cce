"""A real ``retz-server`` process on a data directory of its own, for tests, benchmarks and whoever kills it."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

STARTED_WITHIN_S = 30.0


class ServerProcess:
    """Starts, kills and restarts a server.

    Attributes:
        home: Everything of this server is below it: XDG directories, data, client configuration.
        uri: Where it listens; stays the same over restarts.
        environment: For clients in subprocesses: they find configuration and server through it.
    """

    def __init__(
        self,
        home: Path,
        *,
        engine: str = "local",
        settings: Mapping[str, str] | None = None,
        module: str = "retz.server.main",
    ) -> None:
        self.home = home
        self.data = home / "data"
        self.environment = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', '/usr/bin:/bin')}",
            "HOME": str(home),
            "XDG_CONFIG_HOME": str(home / "config"),
            "XDG_STATE_HOME": str(home / "state"),
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(Path(__file__).parent.parent),
        }
        self._module = module
        if os.geteuid() == 0:  # a server of root's must be told; most tests run jobs as themselves
            self.environment |= {"RETZ_LOCAL_USER": "root", "RETZ_MESOS_USER": "root"}
        self._settings = {"RETZ_ENGINE": engine, **(settings or {})}
        self._bind = "http://127.0.0.1:0"
        self.uri = ""
        self.process: subprocess.Popen[str] | None = None

    def start(self, arguments: Sequence[str] = (), *, default_directory: bool = False) -> float:
        """Start it and wait until it listens. Returns the seconds that took.

        Args:
            default_directory: Do not tell it where its data belongs.

        Raises:
            RuntimeError: it ended or said nothing in time; with its log.
        """
        began = time.monotonic()
        self.home.mkdir(parents=True, exist_ok=True)
        log = (self.home / "server.log").open("ab")
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                self._module,
                "--bind",
                self._bind,
                *(() if default_directory else ("--data-dir", str(self.data))),
                *arguments,
            ],
            env={**self.environment, **self._settings},
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            cwd=self.home,
        )
        log.close()
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], STARTED_WITHIN_S)
        line = self.process.stdout.readline() if ready else ""
        if not line.startswith("listening on "):
            self.kill()
            raise RuntimeError(f"server did not start:\n{self.log()[-4000:]}")
        self.uri = self._bind = line.split()[-1]
        return time.monotonic() - began

    def log(self) -> str:
        """What it has logged so far, over all its lives."""
        return (self.home / "server.log").read_text(errors="replace")

    def credentials(self) -> tuple[str, str]:
        """Access key and secret of the admin user."""
        document = tomllib.loads((self.home / "config/retz/retz.toml").read_text())
        access = document["retz"]["access"]
        return access["key"], access["secret"]

    def kill(self) -> None:
        """``kill -9``: no farewell."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        return self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> int:
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(timeout=30)
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.process = None
        return code

    def launcher_pids(self) -> list[int]:
        """Processes of this server's launcher and of whatever it left behind: they name its directory."""
        found = []
        needle = str(self.data).encode()
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue  # it ended while we looked
            if needle in command and b"engine/local/" in command:
                found.append(int(entry.name))
        return found

    def job_pids(self) -> list[int]:
        """Processes of this server's jobs: their environment names its directory."""
        needle = f"RETZ_SANDBOX={self.data}/".encode()
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):  # it ended while we looked, or is another user's
                if entry.name.isdigit() and needle in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
        return found

    def destroy(self) -> None:
        """Kill server, launcher and jobs, whatever state they are in."""
        self.kill()
        for pid in [*self.launcher_pids(), *self.job_pids()]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
