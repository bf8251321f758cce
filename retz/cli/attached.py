"""Being attached to a job: its two output streams copied to ours, Ctrl-C, and its end."""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType
from typing import Any

from retz.client import calls
from retz.client.errors import ApiError, RetzError
from retz.client.retry import Backoff
from retz.client.transport import Stream, Transport

from .app import App
from .errors import BROKEN_PIPE, INTERRUPTED, RUN_FAILED
from .output import is_terminal, note, printable
from .waiting import ENDED, exit_code_of

_QUEUED_POLL_S, _LONG_POLL_S = 1.0, 30.0
_INTERRUPTS = {signal.SIGINT, signal.SIGTERM}
_AGAIN_S = 0.2


class Outage:
    """The server is away: told once, and once that it is back, however many connections notice."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._on = False

    def began(self, error: Exception) -> None:
        """A connection broke, or cannot be made."""
        with self._lock:
            if not self._on:
                note("retz: the server does not answer; the job is not affected, looking for the server again")
            self._on = True

    def over(self) -> None:
        """A connection was made."""
        with self._lock:
            if self._on:
                note("retz: connected again")
            self._on = False


class Copier(threading.Thread):
    """Copies one stream of a job to a file descriptor of ours, byte for byte, until the job has ended.

    Attributes:
        error: What ended it early, if anything did.
        reader_gone: Our own output was closed.
    """

    def __init__(self, app: App, number: int, name: str, descriptor: int, outage: Outage) -> None:
        super().__init__(name=f"{name} of job {number}", daemon=True)
        self._transport = Transport(app.config)
        self._number = number
        self._path = name
        self._descriptor = descriptor
        self._stream: Stream | None = None
        self._outage = outage
        self.error: RetzError | None = None
        self.reader_gone = threading.Event()

    def run(self) -> None:
        """Copy."""
        try:
            for data in self._transport.follow(
                self._number, self._path, on_stream=self._opened, on_lost=self._outage.began
            ):
                self._write(data)
        except BrokenPipeError:
            self.reader_gone.set()
        except ApiError as error:
            # 404: it ended without ever having had output, killed in the queue for instance.
            self.error = None if error.status == 404 else error
        except RetzError as error:
            self.error = error
        finally:
            self._transport.close()

    def _opened(self, stream: Stream | None) -> None:
        self._stream = stream
        if stream is not None:
            self._outage.over()

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]


class Interrupts:
    """Raises :class:`KeyboardInterrupt` for Ctrl-C and SIGTERM (who terminates ``retz run`` means the job).

    While :attr:`insist` is set it does so until somebody takes it: one that falls into a finalizer is dropped by
    Python, and who pressed Ctrl-C would wait in vain. For the main thread only.
    """

    def __init__(self) -> None:
        self.insist = False
        for number in _INTERRUPTS:
            signal.signal(number, self._interrupt)
        signal.signal(signal.SIGALRM, self._again)
        sys.unraisablehook = self._dropped

    def _interrupt(self, _number: int, _frame: FrameType | None) -> None:
        if self.insist:
            signal.setitimer(signal.ITIMER_REAL, _AGAIN_S)
        raise KeyboardInterrupt

    def _again(self, number: int, frame: FrameType | None) -> None:
        if self.insist:
            self._interrupt(number, frame)

    def _dropped(self, args: sys.UnraisableHookArgs) -> None:
        if not isinstance(args.exc_value, KeyboardInterrupt):
            sys.__unraisablehook__(args)


class Attached:
    """Follows jobs one after the other, as ``retz run`` does.

    Attributes:
        stopped: The exit code to end with at once, after a detach or a kill.
    """

    def __init__(self, app: App, ids: list[int]) -> None:
        self._app = app
        self._ids = ids
        self._why = ""
        self._killing = False
        self._interrupts = Interrupts()
        self.stopped: int | None = None

    def follow(self, number: int) -> int:
        """Copy the job's output until it has ended; return its exit code."""
        outage = Outage()
        copiers = [Copier(self._app, number, n, fd, outage) for n, fd in (("stdout", 1), ("stderr", 2))]
        # Both wait until somebody is there to catch them: they may come with the first line, before all threads run.
        signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPTS)
        for copier in copiers:
            copier.start()
        job = None
        while job is None:
            try:
                self._interrupts.insist = True
                signal.pthread_sigmask(signal.SIG_UNBLOCK, _INTERRUPTS)
                job = self._ended(number, copiers)
                self._join(copiers)
                self._interrupts.insist = False
            except KeyboardInterrupt:
                self._interrupts.insist = False
                self._app.transport.close()  # an answer may be half read
                if not self._interrupted():
                    return self.stopped or 0
        return self._conclude(job, copiers)

    def _ended(self, number: int, copiers: list[Copier]) -> dict[str, Any]:
        """Wait for the end, telling what the job waits for on a terminal."""
        timeout_s = _QUEUED_POLL_S
        while True:
            backoff = Backoff(self._app.config.server_retry, refused_limit_s=None)
            job: dict[str, Any] = self._app.transport.call(calls.wait(number, timeout_s), backoff)
            if job["state"] in ENDED:
                return job
            self._show_why(job)
            if any(copier.reader_gone.is_set() for copier in copiers):
                self._kill(BROKEN_PIPE)
            # Short: a reader that goes away while the job writes must be noticed.
            timeout_s = _QUEUED_POLL_S if job["state"] == "QUEUED" or not _watched() else _LONG_POLL_S

    def _join(self, copiers: list[Copier]) -> None:
        for copier in copiers:
            copier.join()

    def _show_why(self, job: dict[str, Any]) -> None:
        why = job.get("why") or ""
        if why and why != self._why:
            hint = "" if self._why else " (Ctrl-C to kill it or to leave)"
            note(f"retz: job {job['id']} waits: {printable(why)}{hint}")
        self._why = why

    def _interrupted(self) -> bool:
        """Return False to stop following: detached."""
        if self._killing:
            return True
        answer = self._ask() if is_terminal(sys.stdin) and is_terminal(sys.stderr) else "y"
        if answer.startswith("d"):
            note(f"retz: detached; 'retz get-file --poll {self._ids[0]}' shows its output")
            self.stopped = 0
            return False
        if answer.startswith("y"):
            self._kill(INTERRUPTED)
        return True

    def _ask(self) -> str:
        what = f"job {self._ids[0]}" if len(self._ids) == 1 else f"jobs {self._ids[0]}-{self._ids[-1]}"
        try:
            print(f"\nkill {what}? [y/N/detach] ", end="", file=sys.stderr, flush=True)
            return sys.stdin.readline().strip().lower()
        except KeyboardInterrupt:
            print(file=sys.stderr)
            return "y"

    def _kill(self, code: int) -> None:
        if self._killing:
            return
        self._killing = True
        if code == BROKEN_PIPE or len(self._ids) > 1:
            self.stopped = code
        with Transport(self._app.config) as transport:
            transport.call(calls.many("kill", ids=self._ids), Backoff(self._app.config.server_retry))

    def _conclude(self, job: dict[str, Any], copiers: list[Copier]) -> int:
        if any(copier.reader_gone.is_set() for copier in copiers):
            return BROKEN_PIPE
        code = exit_code_of(job)
        if job["state"] != "FINISHED" and (job.get("reason") != "exit" or is_terminal(sys.stderr)):
            print(f"retz: {describe_end(job)}", file=sys.stderr)
        for copier in copiers:
            if copier.error is not None:
                print(f"retz: its output is not complete: {copier.error}", file=sys.stderr)
                return code or RUN_FAILED
        return code


def _watched() -> bool:
    return is_terminal(sys.stdout)


def describe_end(job: dict[str, Any]) -> str:
    """A sentence about how a job ended."""
    reason = job.get("reason")
    if reason == "user":
        return f"job {job['id']} was {printable(job.get('message') or 'killed')}"
    how = {
        "exit": f"exited with code {job.get('exit_code')}",
        "signal": f"was ended by signal {job.get('signal')}",
        "oom": "ran out of memory, ask for more with --mem",
        "disk": "ran out of disk, ask for more with --disk",
        "timeout": "ran out of time",
        "start": "could not be started",
        "lost": "was lost with its machine",
    }.get(str(reason), f"ended: {reason}")
    message = job.get("message")
    return f"job {job['id']} {how}" + (f": {printable(message)}" if message else "")
