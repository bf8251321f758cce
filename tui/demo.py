"""``retz-tui --demo``: a server of its own with a lively load, gone without a trace when the window closes.

A *keeper* process owns the server and everything that runs there. The window holds the writing end of a pipe that
the keeper reads: however the window ends (quit, SIGTERM, a crash, ``kill -9``, the terminal hung up), the pipe
closes, and the keeper ends all processes and removes the directory.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import random
import secrets
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO

import msgspec
import psutil

from retz.config import ClientConfig

from .demo_jobs import ADMIN, TOTAL, USERS, Past
from .demo_load import Load, write_programs

PATIENCE_S = 30.0
GRACE_S = 5.0
TICK_S = 1.0
_PR_SET_CHILD_SUBREAPER = 36

SETTINGS = {
    "RETZ_LOCAL_CPUS": f"{TOTAL.cpus:g}",
    "RETZ_LOCAL_MEM": str(TOTAL.mem),
    "RETZ_LOCAL_DISK": str(TOTAL.disk),
    "RETZ_LOCAL_GPUS": str(TOTAL.gpus),
    "RETZ_LOCAL_SAMPLE_INTERVAL": "1s",
    "RETZ_PLANNER_NAME": "priority",
    "RETZ_SHARED_UID": "true",
    "RETZ_LOG_LEVEL": "warning",
}


class DemoFailed(Exception):
    """The demo could not be started; the text says why."""


@contextlib.contextmanager
def serving(config: ClientConfig | None = None) -> Iterator[ClientConfig]:
    """A demo server for as long as the context lasts; how to reach it as its administrator.

    Args:
        config: What else is configured (keys, for one) stays as it is there.

    Raises:
        DemoFailed: it did not start.
    """
    keeper = subprocess.Popen(
        [sys.executable, "-P", "-m", "tui.demo"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C and a hang-up are the window's: the keeper sees the pipe close
    )
    assert keeper.stdin is not None and keeper.stdout is not None and keeper.stderr is not None
    try:
        ready, _, _ = select.select([keeper.stdout], [], [], PATIENCE_S)
        line = keeper.stdout.readline() if ready else b""
        if not line:
            keeper.stdin.close()
            raise DemoFailed(f"the demo did not start:\n{keeper.stderr.read().decode(errors='replace').strip()}")
        said = json.loads(line)
        there = {"server_uri": said["uri"], "access_key": ADMIN, "access_secret": said["secret"]}
        yield replace(config or ClientConfig(), authentication=True, **there)
    finally:
        with contextlib.suppress(BrokenPipeError):
            keeper.stdin.close()
        keeper.wait()
        keeper.stdout.close()
        keeper.stderr.close()


# -- the keeper ------------------------------------------------------------------------------------------------------


class Keeper:
    """The server, its load and its directory."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.data = home / "data"
        self.secrets = {user: secrets.token_hex(16) for user in USERS}
        self.server: subprocess.Popen[str] | None = None
        self.load: Load | None = None

    def begin(self) -> str:
        """Make the past, start the server; its URI.

        Raises:
            DemoFailed: one of them went wrong.
        """
        dice = random.Random(42)
        self._seed(dice)
        write_programs(self.home / "work")
        uri = self._start()
        self.load = Load(ClientConfig(server_uri=uri), self.secrets, self.home / "work", dice)
        self.load.begin()
        self.load.tick()
        return uri

    def _environment(self) -> dict[str, str]:
        own = {name: value for name, value in os.environ.items() if not name.startswith(("RETZ_", "XDG_"))}
        path = f"{Path(sys.executable).parent}:{own.get('PATH', os.defpath)}"
        # A server of root's must be told: the demo's jobs are the demo's own.
        settings = SETTINGS | ({"RETZ_LOCAL_USER": "root"} if os.geteuid() == 0 else {})
        return {**own, **settings, "HOME": str(self.home), "PATH": path}

    def _seed(self, dice: random.Random) -> None:
        now = time.time()
        seed = {
            "users": [
                {"key": user, "secret": secret, "admin": user == ADMIN, "created": now - 90 * 86_400}
                for user, secret in self.secrets.items()
            ],
            "jobs": Past(now, dice, str(self.home / "work")).play(),
            "total": TOTAL,
            "until": now,
        }
        done = subprocess.run(
            [sys.executable, "-P", "-m", "retz.server.seed", str(self.data)],
            input=msgspec.json.encode(seed),
            capture_output=True,
            check=False,
        )
        if done.returncode:
            raise DemoFailed(done.stderr.decode(errors="replace"))

    def _start(self) -> str:
        with (self.home / "server.log").open("wb") as log:
            where = ("--bind", "http://127.0.0.1:0", "--data-dir", str(self.data))
            self.server = subprocess.Popen(
                [sys.executable, "-P", "-m", "retz.server.main", *where],
                env=self._environment(),
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self.server.stdout is not None
        ready, _, _ = select.select([self.server.stdout], [], [], PATIENCE_S)
        line = self.server.stdout.readline() if ready else ""
        if not line.startswith("listening on "):
            raise DemoFailed((self.home / "server.log").read_text(errors="replace"))
        return line.split()[-1]

    def serve(self, window: IO[bytes]) -> None:
        """Keep it lively until the window is gone."""
        assert self.load is not None
        while not select.select([window], [], [], TICK_S)[0]:
            self.load.tick()

    def end(self) -> None:
        """End every process below this one: server, launcher, jobs."""
        if self.load is not None:
            self.load.close()
        if self.server is not None:
            self.server.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.server.wait(GRACE_S)
        # The launcher, which outlives its server, is ours now: we reap whom others leave behind.
        self._end_all(signal.SIGTERM, GRACE_S)
        while self._end_all(signal.SIGKILL, GRACE_S):
            continue

    def _end_all(self, number: signal.Signals, patience_s: float) -> bool:
        """Whether there was anything."""
        everything = psutil.Process().children(recursive=True)
        if not everything:
            return False
        # The top ones end what is below them, in order; only force is for all.
        for process in psutil.Process().children() if number == signal.SIGTERM else everything:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)
        psutil.wait_procs(everything, timeout=patience_s)
        return True


def keep() -> None:
    """The keeper's life. Prints one line of JSON when the server is ready."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(0))
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    home = Path(tempfile.mkdtemp(prefix="retz-demo-"))
    keeper = Keeper(home)
    try:
        uri = keeper.begin()
        print(json.dumps({"uri": uri, "secret": keeper.secrets[ADMIN], "home": str(home)}), flush=True)
        keeper.serve(sys.stdin.buffer)
    except DemoFailed as error:
        sys.exit(str(error))
    finally:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # nothing interrupts the cleaning
        keeper.end()
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    keep()
