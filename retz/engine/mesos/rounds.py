"""Asks many machines in turn, again and again, so that a slow one delays nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from .failures import words_of
from .operator_stream import FAILURES

AT_A_TIME = 80
SUSPECTS_AT_A_TIME = 20
"""Those that did not answer last time share these places: however many are away, the others do not wait."""
TIMEOUT_S = 10.0
MAX_SKIPPED = 16
_STEP_S = 0.01


class Rounds:
    """One question per machine and interval, spread over the interval.

    Args:
        what: What is asked for, for messages.
        targets: Whom to ask now: id -> URL.
        ask: Asks one; raises one of :data:`FAILURES` when it cannot be asked.
        trouble: Told when nobody at all answers; empty once somebody does.
    """

    def __init__(
        self,
        what: str,
        interval_s: float,
        targets: Callable[[], Mapping[str, str]],
        ask: Callable[[str, str], Awaitable[None]],
        trouble: Callable[[str], None],
        *,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._what = what
        self._interval_s = interval_s
        self._targets = targets
        self._ask = ask
        self._trouble = trouble
        self._timeout_s = timeout_s
        self._places = asyncio.Semaphore(AT_A_TIME)
        self._suspect_places = asyncio.Semaphore(SUSPECTS_AT_A_TIME)
        self._asked: set[str] = set()
        self._failures: dict[str, int] = {}
        self._skip: dict[str, int] = {}
        self._why = ""

    async def run(self) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as group:
            while True:
                begin = loop.time()
                targets = dict(self._targets())
                self._failures = {key: count for key, count in self._failures.items() if key in targets}
                self._judge(len(targets))
                for place, (key, url) in enumerate(targets.items()):
                    wait = begin + self._interval_s * place / len(targets) - loop.time()
                    if wait > _STEP_S:
                        await asyncio.sleep(wait)
                    if self._due(key):
                        self._asked.add(key)
                        group.create_task(self._one(key, url))
                await asyncio.sleep(max(_STEP_S, begin + self._interval_s - loop.time()))

    def _judge(self, targets: int) -> None:
        """All failing is one trouble; some failing are machines that are away, and shown as such."""
        if targets and len(self._failures) == targets:
            which = "the agent does not answer" if targets == 1 else f"none of {targets} agents answers"
            self._trouble(f"{which} when asked for {self._what}: {self._why}")
        else:
            self._trouble("")

    def _due(self, key: str) -> bool:
        if key in self._asked:
            return False
        skip = self._skip.pop(key, 0)
        if skip:
            self._skip[key] = skip - 1
        return not skip

    async def _one(self, key: str, url: str) -> None:
        failures = self._failures.get(key, 0)
        try:
            async with self._suspect_places if failures else self._places, asyncio.timeout(self._timeout_s):
                await self._ask(key, url)
            self._failures.pop(key, None)
        except FAILURES as error:
            late = isinstance(error, TimeoutError) and not str(error)
            self._why = f"no answer within {self._timeout_s:g} s" if late else words_of(error)
            self._failures[key] = failures + 1
            self._skip[key] = min(MAX_SKIPPED, 2**failures - 1)
        finally:
            self._asked.discard(key)
