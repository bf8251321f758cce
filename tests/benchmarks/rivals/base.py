"""What the benchmark asks of every queue, and how it learns what jobs did."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

READY_WITHIN_S = 30.0


class Queue(ABC):
    """One queue on this machine, all of it below ``home``.

    Attributes:
        name: As in the table of results.
        slots: Jobs of one processor that run at the same time.
        environment: For its commands.
        work: Directory that they are called in.
    """

    name: str

    def __init__(self, home: Path, slots: int) -> None:
        self.home, self.slots = home, slots
        self.work = home / "work"
        self.work.mkdir(parents=True)
        self.environment: Mapping[str, str] = os.environ

    @abstractmethod
    def start(self) -> None:
        """Start its daemons, also again after :meth:`kill`; return when jobs can run."""

    @abstractmethod
    def daemons(self, *, holders: bool = False) -> list[psutil.Process]:
        """Its processes that serve; with ``holders`` those, too, that each hold running jobs."""

    @abstractmethod
    def stop(self) -> None:
        """End all its processes and jobs, whatever state they are in."""

    @abstractmethod
    def submit(self, line: str) -> list[str]:
        """The command that submits a shell line and returns."""

    @abstractmethod
    def array(self, first: int, last: int, line: str) -> list[str]:
        """The command that submits one task for each number, which the line finds in ``$I``."""

    @abstractmethod
    def run(self, line: str) -> list[str]:
        """The command that submits a shell line and returns when it has ended."""

    def program(self, count: int, line: str) -> list[str]:
        """A program that connects, submits ``count`` jobs one by one and prints a JSON list of the ms each took.

        Empty if there is no such interface.
        """
        return []

    def results(self) -> dict[int, int | None]:
        """Of all tasks of arrays that it knows: number -> exit code, None before its end."""
        raise NotImplementedError

    def kill(self, *, holders: bool = False) -> None:
        """``kill -9``."""
        victims = self.daemons(holders=holders)
        for each in victims:
            each.kill()
        psutil.wait_procs(victims)

    def megabytes(self) -> float:
        """Resident memory of its daemons."""
        return sum(each.memory_info().rss for each in self.daemons(holders=True)) / 1e6

    def call(self, command: Sequence[str]) -> float:
        """Run one of its commands, output dropped; the seconds it took.

        Raises:
            RuntimeError: it failed; with what it said.
        """
        began = time.perf_counter()
        done = subprocess.run(
            command, env=self.environment, cwd=self.work, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        if done.returncode:
            raise RuntimeError(f"{self.name}: {command[0]} exited with {done.returncode}: {done.stderr[-2000:]}")
        return time.perf_counter() - began

    def ask(self, command: Sequence[str]) -> str:
        """What one of its commands prints; nothing if it fails, as it does while daemons start."""
        return subprocess.run(
            command, env=self.environment, cwd=self.work, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ).stdout


class Reaped:
    """A daemon below a reaper of its own, with all that it has left behind."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path, directory: Path) -> None:
        reaper = str(Path(__file__).with_name("reaper.py"))
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, reaper, *command],
                env=environment,
                cwd=directory,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
            )

    def below(self, *names: str) -> list[psutil.Process]:
        """Its live processes, of these names if any are given."""
        found = []
        with contextlib.suppress(psutil.NoSuchProcess):  # the reaper, and so all of it, has ended
            for each in psutil.Process(self.process.pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):  # it ended while we looked
                    if each.status() != psutil.STATUS_ZOMBIE and (not names or each.name() in names):
                        found.append(each)
        return found

    def end(self) -> None:
        """Kill everything; return when it is gone."""
        while self.process.poll() is None:
            for each in self.below():
                with contextlib.suppress(psutil.NoSuchProcess):  # it ended while we looked
                    each.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(0.05)
        if self.process.stdin is not None:
            self.process.stdin.close()


class Lines:
    """A FIFO that jobs write to: what has really run, and when, whatever a queue says."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        self._fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        self._partial = b""
        self.seen: list[str] = []

    def wait(self, count: int, limit_s: float) -> bool:
        """Return when so many lines have been written, or False after ``limit_s``."""
        ends = time.monotonic() + limit_s
        while len(self.seen) < count:
            left = ends - time.monotonic()
            if left <= 0 or not select.select([self._fd], [], [], left)[0]:
                return False
            *lines, self._partial = (self._partial + os.read(self._fd, 1 << 16)).split(b"\n")
            self.seen += [line.decode() for line in lines]
        return True

    def close(self) -> None:
        """Close and remove it."""
        os.close(self._fd)
        self.path.unlink()


class Gate:
    """Jobs that run ``: < PATH`` wait until it is opened."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        self._fd = -1

    def open(self) -> None:
        """Let all pass, later ones too."""
        self._fd = os.open(self.path, os.O_RDWR)

    def close(self) -> None:
        """Remove it."""
        if self._fd >= 0:
            os.close(self._fd)
        self.path.unlink()


def until(condition: Callable[[], bool], what: str) -> None:
    """Ask again and again until it holds.

    Raises:
        RuntimeError: it does not within ``READY_WITHIN_S``.
    """
    ends = time.monotonic() + READY_WITHIN_S
    while not condition():
        if time.monotonic() > ends:
            raise RuntimeError(f"waited {READY_WITHIN_S:.0f} s in vain: {what}")
        time.sleep(0.02)
