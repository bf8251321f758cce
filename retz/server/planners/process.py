"""The server's end of a worker: start it, ask it within a time, end it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal

import msgspec

from ..children import ended, receive, start
from .wire import MAX_ANSWER, Answer, decode_answer

LOAD_S = 10.0
"""So long a planner may take to be imported."""


class Fault(Exception):
    """A planner lost its turn.

    Attributes:
        kind: Faults of one kind are logged once.
        trace: Where in the planner's code, if that is known.
    """

    def __init__(self, kind: str, text: str, trace: str = "") -> None:
        super().__init__(text)
        self.kind = kind
        self.trace = trace


class Worker:
    """A process that plans. Made by :meth:`start`; after a fault other than an exception in a plan it is gone."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.alive = True

    @classmethod
    async def start(cls, name: str) -> Worker:
        """A worker whose planner is loaded.

        Raises:
            Fault: it cannot be loaded.
        """
        try:
            process = await start(f"{__package__}.worker", name, str(os.getpid()))
        except OSError as error:
            raise Fault("load", f"no process can be started for it: {error.strerror}") from None
        worker = cls(process)
        answer = await worker._answer(LOAD_S, f"it took longer than {LOAD_S:g} s to be imported")
        if answer.fault:
            await worker.stop()
            raise Fault(answer.fault, answer.text, answer.trace)
        return worker

    async def ask(self, situation: bytes, budget_s: float) -> Answer:
        """Send a framed situation; return what the worker answers within the budget.

        Raises:
            Fault: it did not, or the answer is none. Exceptions in the planner's code are faults, too.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(situation)
        answer = await self._answer(budget_s, f"its plan took longer than {budget_s:g} s (retz.planner.budget)")
        if answer.fault:
            raise Fault(answer.fault, answer.text, answer.trace)
        return answer

    async def _answer(self, budget_s: float, late: str) -> Answer:
        try:
            async with asyncio.timeout(budget_s):
                return decode_answer(await receive(self._process, MAX_ANSWER))
        except TimeoutError:
            fault = Fault("late", late)
        except (asyncio.IncompleteReadError, OSError):
            fault = Fault("died", "its process ended")
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            fault = Fault("nonsense", f"its answer is no plan: {error}")
        except BaseException:
            self._kill()
            raise
        await self.stop()
        if fault.kind == "died":
            fault = Fault("died", f"its process ended ({_status(self._process.returncode)})")
        raise fault

    async def stop(self) -> None:
        """End it, with whatever it started."""
        self._kill()
        await ended(self._process)

    def _kill(self) -> None:
        if not self.alive:
            return
        self.alive = False
        with contextlib.suppress(ProcessLookupError, PermissionError):  # gone already
            os.killpg(self._process.pid, signal.SIGKILL)


def _status(code: int | None) -> str:
    return f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
