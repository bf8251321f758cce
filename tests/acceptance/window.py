"""``retz-tui`` in a pseudo-terminal: a person looks at it and presses keys."""

from __future__ import annotations

import codecs
import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.acceptance.screen import Screen

PATIENCE_S = 30.0
PROGRAM = "from tui.main import main; main()"


class Window:
    """The running program.

    Attributes:
        screen: What is seen.
        raw: Every byte that it wrote.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        *words: str,
        columns: int = 120,
        rows: int = 40,
        cwd: Path | None = None,
        program: str = PROGRAM,
    ) -> None:
        self.screen = Screen(columns, rows)
        self.raw = bytearray()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._master, slave = pty.openpty()
        # Its modes outlive the program only while somebody holds this end.
        self._slave = slave
        self._set_size(columns, rows)
        self.modes_before = termios.tcgetattr(slave)
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", program, *words],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={"TERM": "xterm-256color", "COLORTERM": "truecolor", **environment},
            cwd=cwd,
            start_new_session=True,
            preexec_fn=_take_terminal,
        )

    # -- the person ----------------------------------------------------------------------------------------------

    def press(self, keys: str) -> None:
        """Type; ``\\x1b`` is escape, ``\\r`` enter."""
        os.write(self._master, keys.encode())

    def paste(self, text: str) -> None:
        """Paste from a terminal that says so."""
        self.press(f"\x1b[200~{text}\x1b[201~")

    def resize(self, columns: int, rows: int) -> None:
        """Another size of the terminal."""
        self.screen.resize(columns, rows)
        self._set_size(columns, rows)
        self.process.send_signal(signal.SIGWINCH)

    def until(self, condition: Callable[[str], object], what: str, patience_s: float = PATIENCE_S) -> str:
        """Look until the text on the screen fulfils something; the text."""
        deadline = time.monotonic() + patience_s
        while not condition(self.screen.text):
            left = deadline - time.monotonic()
            alive = left > 0 and self.read(min(left, 1.0))
            if left <= 0 or (not alive and self.process.poll() is not None):
                raise AssertionError(f"{what}: in vain, while this is seen:\n{self.screen.text}")
        return self.screen.text

    def sees(self, text: str, patience_s: float = PATIENCE_S) -> str:
        """Look until this is on the screen."""
        return self.until(lambda seen: text in seen, f"waited for {text!r}", patience_s)

    def loses(self, text: str) -> str:
        """Look until this is no longer on the screen."""
        return self.until(lambda seen: text not in seen, f"waited for {text!r} to go")

    # -- the terminal ----------------------------------------------------------------------------------------------

    def read(self, patience_s: float) -> int:
        """Take what it writes within this time; how many bytes."""
        if not select.select([self._master], [], [], patience_s)[0]:
            return 0
        try:
            data = os.read(self._master, 1 << 16)
        except OSError:  # EIO: nobody has the other end any more
            return 0
        self.raw += data
        self.screen.feed(self._decoder.decode(data))
        return len(data)

    def ended(self) -> int:
        """Wait for its end; the exit code."""
        deadline = time.monotonic() + PATIENCE_S
        while self.process.poll() is None and time.monotonic() < deadline:
            self.read(0.05)
        while self.read(0):
            continue
        code = self.process.poll()
        assert code is not None, f"it does not end; this is seen:\n{self.screen.text}"
        return code

    def quit(self) -> int:
        """``q``; the exit code."""
        self.press("q")
        return self.ended()

    @property
    def modes_now(self) -> list[object]:
        """The terminal's settings, to compare with ``modes_before``."""
        return list(termios.tcgetattr(self._slave))

    def hang_up(self) -> None:
        """The terminal goes away under it."""
        for end in (self._slave, self._master):
            if end >= 0:
                os.close(end)
        self._slave = self._master = -1

    def close(self) -> None:
        """End it, whatever it does."""
        if self.process.poll() is None:
            self.process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(PATIENCE_S)
        self.hang_up()

    def _set_size(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def _take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
