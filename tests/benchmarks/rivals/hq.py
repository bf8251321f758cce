"""HyperQueue through its Python package: server and worker in one process, without a journal, no command line."""

from __future__ import annotations

import subprocess
from pathlib import Path

import psutil

from tests.benchmarks.rivals.base import Queue, Reaped, until


def missing(python: str) -> bool:
    """Whether this Python has no HyperQueue."""
    command = [python, "-c", "import hyperqueue"]
    try:
        return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode != 0
    except OSError:
        return True


class HyperQueue(Queue):
    """A local cluster."""

    name = "HyperQueue"
    python = ""
    """The interpreter that has it."""

    def __init__(self, home: Path, slots: int) -> None:
        super().__init__(home, slots)
        (home / "server").mkdir()
        self._reaped: Reaped | None = None

    def start(self) -> None:
        self._reaped = Reaped(self._call("cluster", str(self.slots)), self.environment, self.home / "out", self.work)
        until(lambda: "ready" in (self.home / "out").read_text(), "a HyperQueue cluster")

    def _call(self, *arguments: str) -> list[str]:
        program = str(Path(__file__).with_name("hq_program.py"))
        return [self.python, program, str(self.home / "server"), *arguments]

    def daemons(self, *, holders: bool = False) -> list[psutil.Process]:
        assert self._reaped is not None
        return psutil.Process(self._reaped.process.pid).children()[:1]

    def stop(self) -> None:
        if self._reaped is not None:
            self._reaped.end()

    def submit(self, line: str) -> list[str]:
        return self._call("submit", line)

    def array(self, first: int, last: int, line: str) -> list[str]:
        return self._call("array", str(first), str(last), line)

    def run(self, line: str) -> list[str]:
        return self._call("run", line)

    def program(self, count: int, line: str) -> list[str]:
        return self._call("program", str(count), line)
