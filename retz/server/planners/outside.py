"""Turns of a planner of a user's own: what it answers, what its faults cost, and when it is asked again.

A fault costs the planner its turn. After :data:`FAULTS` of them in a row jobs go in order of submission, and the
planner gets a turn now and then, until one is good.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from retz.scheduler.outside_work import Nonsense, OutsideWork
from retz.scheduler.work import Placement

from ..frames import frame
from .process import Fault, Worker

log = logging.getLogger("retz.planner")

FAULTS = 3
RETRY_S = 30.0
"""How often a planner that failed is tried again."""

ASK_AGAIN_S = 10.0
"""A planner that left jobs waiting is asked again after so long, though nothing changed: it may go by the clock."""

TOLD_S = 600.0
"""So long a fault is shown by ``retz status``."""

INLINE_SIZE = 500
"""Situations of more shapes and offers are built in a thread; below it takes a millisecond or two."""

MAX_CHOICES = 10_000


class OutsidePlanner:
    """See the module's text. Give every pass that is :meth:`due` to :meth:`solve`.

    Args:
        waiting_since: Since when a queued job has waited for room, by its id.
        try_again: Called when somebody else plans from now on.
        clock: Seconds, rising evenly.
    """

    def __init__(
        self,
        name: str,
        budget_s: float,
        waiting_since: Callable[[int], float],
        try_again: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self._budget_s = budget_s
        self._waiting_since = waiting_since
        self._try_again = try_again
        self._clock = clock
        self._worker: Worker | None = None
        self._in_row = 0
        self._faults = 0
        self._last: tuple[float, str] | None = None
        self._retry_at = 0.0
        self._asked_at = clock()
        self._logged: set[str] = set()

    # -- state -------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Load the planner, so that an operator learns at once if that is not possible."""
        try:
            await self._ready()
        except Fault as fault:
            self._lost(fault)

    async def stop(self) -> None:
        """End the worker."""
        if self._worker is not None:
            await self._worker.stop()
            self._worker = None

    @property
    def replaced(self) -> bool:
        """Whether jobs go in order of submission, because the planner failed."""
        return self._in_row >= FAULTS

    @property
    def due(self) -> bool:
        """Whether the next pass is the planner's."""
        return not self.replaced or self._clock() >= self._retry_at

    def asks_again(self) -> bool:
        """Whether a planner that was not asked for a while is to look at everything once more."""
        if self._clock() < self._asked_at + ASK_AGAIN_S or not self.due:
            return False
        self._asked_at = self._clock()
        self._try_again()
        return True

    @property
    def failure(self) -> str | None:
        """What went wrong lately, for operators."""
        if self._last is None or (not self.replaced and self._clock() > self._last[0] + TOLD_S):
            return None
        text = f"planner {self.name}: {self._last[1]} ({self._faults} turns lost since the start)"
        if self.replaced:
            text += f"; jobs go in order of submission until it works, which is tried every {RETRY_S:.0f} s"
        return text

    # -- turns -------------------------------------------------------------------------------------------

    async def solve(self, work: OutsideWork) -> list[Placement]:
        """The placements of a pass; none if the planner fails."""
        if due := work.due():
            return due
        self._asked_at = self._clock()
        try:
            placements = await self._turn(work)
        except Fault as fault:
            self._lost(fault)
            return []
        if self.replaced:
            log.warning("planner %s works again", self.name)
            self._logged.clear()
        self._in_row = 0
        return placements

    async def _turn(self, work: OutsideWork) -> list[Placement]:
        worker = await self._ready()
        if work.size + len(work.snapshot.rooms) > INLINE_SIZE:
            situation = await asyncio.to_thread(self._situation, work)
        else:
            situation = self._situation(work)
        answer = await worker.ask(situation, self._budget_s)
        if len(answer.choices) > MAX_CHOICES:
            raise Fault("nonsense", f"its plan has {len(answer.choices)} entries, where {MAX_CHOICES} are allowed")
        try:
            return work.adopt(answer.choices)
        except Nonsense as error:
            raise Fault(error.problem.kind, f"its plan cannot be used: {error}") from None

    def _situation(self, work: OutsideWork) -> bytes:
        return frame(work.show(self._waiting_since))

    async def _ready(self) -> Worker:
        if self._worker is None or not self._worker.alive:
            self._worker = None
            self._worker = await Worker.start(self.name)
        return self._worker

    def _lost(self, fault: Fault) -> None:
        self._faults += 1
        self._in_row += 1
        self._last = self._clock(), str(fault)
        if fault.kind not in self._logged:
            self._logged.add(fault.kind)
            log.warning("planner %s lost a turn: %s%s", self.name, fault, f"\n{fault.trace}" if fault.trace else "")
        if self.replaced:
            self._retry_at = self._clock() + RETRY_S
        if self._in_row == FAULTS:
            log.error("%s", self.failure)
            self._try_again()
