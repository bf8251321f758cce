"""The server's end of the forecast worker: start it when it is needed, ask it within a time, end it."""

from __future__ import annotations

import asyncio
import contextlib

import msgspec

from retz.scheduler.forecast import Foreseen

from ..children import ended, receive, start
from .wire import MAX_FRAME, End, decode_answer

IDLE_S = 60.0
"""A worker that nobody asked for so long ends: it holds some ten megabytes."""


class Fault(Exception):
    """There is no forecast; the text says why."""


class Worker:
    """At most one process, for one request at a time."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._lock = asyncio.Lock()
        self._idle: asyncio.TimerHandle | None = None

    @property
    def pid(self) -> int | None:
        """Its process id; None while there is none."""
        return self._process.pid if self._process is not None else None

    async def ask(self, request: bytes, budget_s: float) -> tuple[dict[int, Foreseen], End]:
        """Send a framed request; return what is foreseen, and the rest of the answer.

        Raises:
            Fault: no answer within the budget, or the process ended.
        """
        async with self._lock:
            if self._idle is not None:
                self._idle.cancel()
            try:
                async with asyncio.timeout(budget_s):
                    return await self._answer(request)
            except TimeoutError:
                await self._end()
                raise Fault(f"it took longer than {budget_s:g} s") from None
            except (asyncio.IncompleteReadError, OSError, msgspec.MsgspecError) as error:
                await self._end()
                raise Fault(f"its process ended ({type(error).__name__}); see the server's log") from error
            except BaseException:
                await self._end()
                raise
            finally:
                self._idle = asyncio.get_running_loop().call_later(IDLE_S, self._rest)

    async def stop(self) -> None:
        """End it."""
        if self._idle is not None:
            self._idle.cancel()
        self._kill()
        async with self._lock:  # who reads its answer notices first
            await self._end()

    async def _answer(self, request: bytes) -> tuple[dict[int, Foreseen], End]:
        process = self._process
        if process is None or process.returncode is not None:
            process = self._process = await start(f"{__package__}.worker")
        assert process.stdin is not None
        process.stdin.write(request)
        await process.stdin.drain()
        jobs: dict[int, Foreseen] = {}
        while True:
            answer = decode_answer(await receive(process, MAX_FRAME))
            if isinstance(answer, End):
                return jobs, answer
            jobs.update(answer.jobs)
            await asyncio.sleep(0)

    def _rest(self) -> None:
        """Nobody asked for a while. It ends by itself when its input is closed."""
        if not self._lock.locked() and self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            self._process = None

    async def _end(self) -> None:
        self._kill()
        process, self._process = self._process, None
        if process is not None:
            await ended(process)

    def _kill(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):  # gone already
                self._process.kill()
