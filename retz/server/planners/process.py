"""The server's end of a worker: start it, ask it within a time, end it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys

import msgspec

from retz.server.ending import ended

from .wire import HEADER, MAX_ANSWER, Answer, decode_answer

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
        # Imports what the server itself would, wherever that came from.
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", f"{__package__}.worker", name, str(os.getpid())),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env=environment,
                cwd="/",
                start_new_session=True,
            )
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
                return decode_answer(await self._frame())
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

    async def _frame(self) -> bytes:
        reading = self._process.stdout
        assert reading is not None
        size = int.from_bytes(await reading.readexactly(HEADER), "big")
        if size > MAX_ANSWER:
            raise msgspec.ValidationError(f"{size} bytes long, where {MAX_ANSWER} are allowed")
        return await reading.readexactly(size)

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
