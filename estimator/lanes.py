"""Worker processes for a serving process: heavy libraries and long solves stay out of it.

There are two lanes, each at most one process that does one thing after the other: *store* for what is quick, *solve*
for what may take long, so that nobody who wants to read a history waits for somebody's solve. A process is started
when it is needed and ends when it was idle for a while.
"""

from __future__ import annotations

import asyncio
import pickle
import signal
from collections import Counter, deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from . import errors
from .child_process import command, environment
from .config import EstimatorConfig
from .errors import Busy, EstimatorError, WorkerFailed
from .frames import HEADER, Answer, pack
from .operations import SOLVING, WRITING, Outcome

MAX_WAITING = 64
"""Calls that may wait in a lane; one more is refused. A line longer than that is minutes of solving."""

_FINISH_S = 30.0
_STOP_S = 5.0
_ONE_THREAD = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


class LaneState(NamedTuple):
    """One lane, seen from outside.

    Attributes:
        pid: Of its process, None while there is none.
        calls: Done by the worker so far, refusals included.
        shared: Calls that were answered by another's execution.
        cancelled: Given up because nobody waited any more.
        failed: Calls that a worker's end or a fault in it made fail.
        started: Processes started.
    """

    name: str
    running: int
    waiting: int
    pid: int | None
    calls: int
    shared: int
    cancelled: int
    failed: int
    started: int


class Lanes:
    """Does operations in worker processes; one object for the life of the serving process, used on one event loop."""

    def __init__(self, config: EstimatorConfig) -> None:
        self._lanes = (_Lane("store", config, stoppable=False), _Lane("solve", config, stoppable=True))
        self._running: dict[object, _Call] = {}
        self._writes: Counter[Path] = Counter()
        self._closed = False

    async def call(self, place: Path, operation: str, /, **arguments: object) -> Outcome:
        """Do an operation (see :mod:`estimator.operations`) on the store at ``place``.

        Identical calls that only read share one execution, unless the store was written through this object since
        it was asked for. When everybody who waits for a call is cancelled, the call is given up: taken out of the
        line, or, if it may take long, its worker is killed. A quick one that has begun is finished.

        Raises:
            EstimatorError: what the operation raised, as the same class.
            WorkerFailed: the worker ended or hit a fault; the next call gets a new one.
            Busy: too many calls are waiting, or this object is closed.
        """
        if operation == "estimate" and self._lanes[True].busy:
            # What is stored and current need not wait for somebody else's solve.
            stored = await self.call(place, "current", **arguments)
            if stored.body != b"null":
                return stored
        call = self._find(place, operation, arguments)
        call.waiters += 1
        try:
            return await asyncio.shield(call.future)
        finally:
            call.waiters -= 1
            if not call.waiters and not call.future.done():
                self._forget(call)
                call.lane.give_up(call)

    def states(self) -> list[LaneState]:
        """How the lanes do."""
        return [lane.state() for lane in self._lanes]

    async def close(self) -> None:
        """End the workers. What is waiting or solving fails as busy; a quick call that has begun is finished."""
        self._closed = True
        await asyncio.gather(*(lane.close() for lane in self._lanes))

    def _find(self, place: Path, operation: str, arguments: Mapping[str, object]) -> _Call:
        if self._closed:
            raise Busy("the estimator is closing; try again")
        lane = self._lanes[operation in SOLVING]
        # A call may only be shared while nothing was written since: who has added a run must see it in what he asks.
        key = (place, self._writes[place], operation, repr(sorted(arguments.items())))
        found = None if operation in WRITING else self._running.get(key)
        if found is not None:
            lane.counts["shared"] += 1
            return found
        call = _Call(lane, pack((operation, place, lane.config, dict(arguments))), key)
        lane.submit(call)
        if operation in WRITING:
            call.future.add_done_callback(lambda _: self._writes.update([place]))
        else:
            self._running[key] = call
            call.future.add_done_callback(lambda _: self._forget(call))
        return call

    def _forget(self, call: _Call) -> None:
        if self._running.get(call.key) is call:
            del self._running[call.key]


class _Call:
    """One execution, and how many wait for it."""

    def __init__(self, lane: _Lane, frame: bytes, key: object) -> None:
        self.lane = lane
        self.frame = frame
        self.key = key
        self.future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self.waiters = 0

    def end(self, outcome: Outcome | EstimatorError) -> None:
        """Tell those who wait, if any: an error that nobody fetches would be complained about."""
        if self.future.done():
            return
        if not self.waiters:
            self.future.cancel()
        elif isinstance(outcome, EstimatorError):
            self.future.set_exception(outcome)
        else:
            self.future.set_result(outcome)


class _Lane:
    """A line of calls and the worker that does them in turn."""

    def __init__(self, name: str, config: EstimatorConfig, *, stoppable: bool) -> None:
        """``stoppable``: a call that nobody waits for any more is worth killing the worker for."""
        self.name = name
        self.config = config
        self.counts: Counter[str] = Counter()
        self._stoppable = stoppable
        self._waiting: deque[_Call] = deque()
        self._current: _Call | None = None
        self._worker: _Worker | None = None
        self._driver: asyncio.Task[None] | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._stopping: set[asyncio.Task[None]] = set()

    @property
    def busy(self) -> bool:
        return self._current is not None or bool(self._waiting)

    def submit(self, call: _Call) -> None:
        if len(self._waiting) >= MAX_WAITING:
            raise Busy(f"{len(self._waiting)} requests are waiting already; try again in a while")
        self._waiting.append(call)
        if self._idle is not None:
            self._idle.cancel()
        if self._driver is None:
            self._driver = asyncio.get_running_loop().create_task(self._drive())

    def give_up(self, call: _Call) -> None:
        if call in self._waiting:
            self._waiting.remove(call)
            call.end(Busy("given up"))
        elif call is not self._current or not self._stoppable:
            return
        elif self._worker is not None:
            self._worker.kill()
        self.counts["cancelled"] += 1

    async def close(self) -> None:
        while self._waiting:
            self._waiting.popleft().end(Busy("the estimator is closing; try again"))
        if self._current is not None and self._stoppable:
            self._current.end(Busy("the estimator is closing; try again"))
            if self._worker is not None:
                self._worker.kill()
        if self._driver is not None:
            await asyncio.wait([self._driver], timeout=_FINISH_S)
        self._retire()
        if self._stopping:
            await asyncio.wait(self._stopping)

    def state(self) -> LaneState:
        pid = self._worker.pid if self._worker is not None and self._worker.alive else None
        names = ("calls", "shared", "cancelled", "failed", "started")
        return LaneState(
            self.name, int(self._current is not None), len(self._waiting), pid, *(self.counts[name] for name in names)
        )

    async def _drive(self) -> None:
        while self._waiting:
            self._current = call = self._waiting.popleft()
            try:
                outcome: Outcome | EstimatorError = await self._execute(call)
            except EstimatorError as error:
                outcome = error
            finally:
                self._current = None
            self.counts["calls"] += 1
            self.counts["failed"] += isinstance(outcome, WorkerFailed) and call.waiters > 0
            call.end(outcome)
        self._driver = None
        self._idle = asyncio.get_running_loop().call_later(self.config.workers_idle_s, self._retire)

    async def _execute(self, call: _Call) -> Outcome:
        if self._worker is None or not self._worker.alive:
            self._worker = await _Worker.start()
            self.counts["started"] += 1
        if not call.waiters and self._stoppable:
            raise WorkerFailed("given up")  # while the worker was starting
        try:
            kind, content, text = await self._worker.ask(call.frame)
        except WorkerFailed:
            self._worker = None
            raise
        if kind == "done":
            return Outcome(content, text)
        raise _error(content, text) if kind == "refused" else WorkerFailed(f"the estimator's worker failed: {text}")

    def _retire(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
        if self._worker is not None:
            task = asyncio.get_running_loop().create_task(self._worker.stop())
            self._worker = None
            self._stopping.add(task)
            task.add_done_callback(self._stopping.discard)


class _Worker:
    """A worker process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._killed = False

    @classmethod
    async def start(cls) -> _Worker:
        """Start one.

        Raises:
            WorkerFailed: the system has no room for a process.
        """
        try:
            process = await asyncio.create_subprocess_exec(
                *command("estimator.worker"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env=environment(MPLBACKEND="Agg", **dict.fromkeys(_ONE_THREAD, "1")),
                start_new_session=True,  # Ctrl-C at the terminal is for the serving process, which then ends this one
            )
        except OSError as error:
            raise WorkerFailed(f"no worker process could be started: {error}") from error
        return cls(process)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it may be asked: one that was killed a moment ago has not always ended yet."""
        return self._process.returncode is None and not self._killed

    async def ask(self, frame: bytes) -> Answer:
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(frame)
            await self._process.stdin.drain()
            header = await self._process.stdout.readexactly(HEADER.size)
            content = await self._process.stdout.readexactly(HEADER.unpack(header)[0])
        except (OSError, asyncio.IncompleteReadError) as error:
            raise WorkerFailed(f"the estimator's worker process ended{await self._how()}; try again") from error
        answer: Answer = pickle.loads(content)
        return answer

    def kill(self) -> None:
        self._killed = True
        if self._process.returncode is None:
            self._process.kill()

    async def stop(self) -> None:
        """End it: with its input at first, with force if that does not help."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), _STOP_S)
        except TimeoutError:
            self.kill()
            await self._process.wait()

    async def _how(self) -> str:
        # Not killed at once: a process that has ended must be left for asyncio to find, or its status is lost.
        try:
            code = await asyncio.wait_for(self._process.wait(), _STOP_S)
        except TimeoutError:
            self.kill()  # its pipes are closed: whatever it does, it does for nobody
            code = await self._process.wait()
        return f" ({signal.strsignal(-code)})" if code < 0 else f" with code {code}"


def _error(name: str, text: str) -> EstimatorError:
    """The error of that name, as it was raised in the worker; one of a class of the user's own by its text."""
    found: Callable[..., Any] | None = getattr(errors, name, None)
    kind = found if isinstance(found, type) and issubclass(found, EstimatorError) else EstimatorError
    error = kind.__new__(kind)
    error.args = (text,)
    return error
