"""What a person does: types a command, reads what it says."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.server_process import ServerProcess

PATIENCE_S = 30.0


class Said(NamedTuple):
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def retz(
    server: ServerProcess,
    *words: str,
    stdin: bytes = b"",
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Said:
    """Run ``retz`` with these words in a process of its own."""
    done = subprocess.run(
        command(words),
        input=stdin,
        capture_output=True,
        env={**server.environment, **(environment or {})},
        cwd=cwd or server.home,
        timeout=PATIENCE_S,
        check=False,
    )
    return Said(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))


def command(words: Sequence[str]) -> list[str]:
    """The argument vector of ``retz``."""
    # -P: the working directory is no place to import from, and may be gone.
    return [sys.executable, "-P", "-c", "from retz.cli import main; main()", *words]


def submit(server: ServerProcess, *words: str, **options: Any) -> int:
    """``retz schedule``; the id."""
    said = retz(server, "schedule", *words, **options)
    assert said.code == 0, said
    return int(said.out)


def job(server: ServerProcess, number: int) -> dict[str, Any]:
    """The job's record."""
    found: dict[str, Any] = retz(server, "get-job", str(number), "--json").json["jobs"][0]
    return found


def until(condition: Callable[[], Any], what: str) -> Any:
    """Wait until something holds; return what it gave."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"waited {PATIENCE_S:g} s in vain: {what}")


class Terminal:
    """A command in a pseudo-terminal: a person sits there."""

    def __init__(self, server: ServerProcess, *words: str) -> None:
        self.seen = ""
        master, slave = pty.openpty()
        self._master = master
        self.process = subprocess.Popen(
            command(words),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**server.environment, "TERM": "xterm", "COLUMNS": "200"},
            cwd=server.home,
            start_new_session=True,
            preexec_fn=_take_terminal,
        )
        os.close(slave)

    def type(self, text: str) -> None:
        """Press keys; ``\\x03`` is Ctrl-C."""
        os.write(self._master, text.encode())

    def read_until(self, text: str) -> str:
        """Read what appears until this is among it."""
        deadline = time.monotonic() + PATIENCE_S
        while text not in self.seen:
            left = deadline - time.monotonic()
            assert left > 0 and self._read(left), f"{text!r} did not appear in {self.seen!r}"
        return self.seen

    def _read(self, patience: float) -> bool:
        if not select.select([self._master], [], [], patience)[0]:
            return False
        try:
            data = os.read(self._master, 65536)
        except OSError:  # EIO: nobody has the other end any more
            return False
        self.seen += data.decode(errors="replace")
        return bool(data)

    def close(self) -> int:
        """Wait for its end; the exit code."""
        while self.process.poll() is None or select.select([self._master], [], [], 0)[0]:
            if not self._read(PATIENCE_S):
                break
        code = self.process.wait(PATIENCE_S)
        os.close(self._master)
        return code


def _take_terminal() -> None:
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
