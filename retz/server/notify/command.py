"""The operator's command (``retz.notify.command``): run for each job that ended, its JSON on standard input."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections import Counter, deque
from collections.abc import Callable
from typing import NamedTuple

log = logging.getLogger("retz.notify")

AT_ONCE = 4
TIMEOUT_S = 30.0
MOST_WAITING = 10_000
"""Documents are made when their turn comes: what waits is a reference to the job's record."""


class Work(NamedTuple):
    """One thing to run the command for. ``make`` makes what it reads."""

    event: str
    job_id: int
    make: Callable[[], bytes]


class Command:
    """Runs one shell line for many documents, a few at a time.

    Args:
        line: For ``/bin/sh -c``. Nothing of a job ever becomes part of it.
        counts: Counted here: ``ok``, ``failed``, ``timeout``, ``dropped``.
    """

    def __init__(self, line: str, counts: Counter[str], timeout_s: float = TIMEOUT_S) -> None:
        self._line = line
        self._counts = counts
        self._timeout_s = timeout_s
        self._waiting: deque[Work] = deque()
        self._runs: set[asyncio.Task[None]] = set()
        self._running = 0

    def offer(self, work: Work) -> None:
        """Run it for this soon; dropped if too many wait."""
        if len(self._waiting) >= MOST_WAITING:
            self._counts["dropped"] += 1
            if self._counts["dropped"] % 1000 == 1:
                log.warning("retz.notify.command is too slow: %d jobs wait for it, more are dropped", MOST_WAITING)
            return
        self._waiting.append(work)
        if self._running < AT_ONCE:
            self._running += 1
            run = asyncio.get_running_loop().create_task(self._run())
            self._runs.add(run)
            run.add_done_callback(self._runs.discard)

    async def stop(self) -> None:
        """End what runs; what waits is forgotten."""
        self._waiting.clear()
        for run in self._runs:
            run.cancel()
        await asyncio.gather(*self._runs, return_exceptions=True)

    async def _run(self) -> None:
        while self._waiting:
            work = self._waiting.popleft()
            try:
                self._counts[await self._run_one(work)] += 1
            except Exception:
                log.exception("retz.notify.command could not be run for job %d", work.job_id)
                self._counts["failed"] += 1
        self._running -= 1

    async def _run_one(self, work: Work) -> str:
        process = await self._spawn(work)
        try:
            async with asyncio.timeout(self._timeout_s):
                await process.communicate(work.make())
        except TimeoutError:
            log.warning("retz.notify.command ran longer than %g s for job %d: ended", self._timeout_s, work.job_id)
            return "timeout"
        finally:
            await _end(process)
        if process.returncode:
            log.warning("retz.notify.command ended with %d for job %d", process.returncode, work.job_id)
        return "failed" if process.returncode else "ok"

    async def _spawn(self, work: Work) -> asyncio.subprocess.Process:
        """Start it. A stop in the middle waits: asyncio would end the shell alone, and not what that has started."""
        spawning = asyncio.ensure_future(
            asyncio.create_subprocess_exec(
                "/bin/sh", "-c", self._line,
                stdin=asyncio.subprocess.PIPE, stdout=2, stderr=2,
                env=_environment(work), cwd="/", start_new_session=True,
            )
        )  # fmt: skip
        try:
            return await asyncio.shield(spawning)
        except asyncio.CancelledError:
            await _end(await spawning)
            raise


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill it with what it started, if it still runs."""
    if process.returncode is not None:
        return
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        log.debug("the command ended by itself just now")
    await process.wait()


def _environment(work: Work) -> dict[str, str]:
    """The server's own, without its configuration, where secrets may be."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RETZ_")}
    return {**kept, "RETZ_EVENT": work.event, "RETZ_JOB_ID": str(work.job_id)}
