"""An engine that runs nothing: it accepts every task and reports it done. For benchmarks and tests."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Sequence

from retz.model.agent import Agent, Offer
from retz.model.container import Container
from retz.model.job import Usage
from retz.model.resources import Resources, Vector, add, subtract

from .base import Assignment, FileEntry, FileReader, KnownTask, Listener, Task, Update
from .offers import OfferBook

_FIRST_PORT = 31000


class NullEngine:
    """One agent with ``slots`` processors. Every task ends with exit code 0 on the next turn of the loop.

    Args:
        slots: Processors to offer.
        total: Everything to offer; None for ``slots`` processors and plenty of the rest.
    """

    name = "null"
    honours: frozenset[str] = frozenset()
    shared = False
    master: str | None = None

    def __init__(self, slots: int = 64, total: Resources | None = None) -> None:
        self._total = total or Resources(cpus=float(slots), mem=slots << 20, disk=slots << 20, ports=1000)
        self._free: Vector = self._total.vector
        self._agent = f"null-{uuid.uuid4().hex[:12]}"
        self._book = OfferBook(self._agent, "null", {})
        self._seq = 0
        self._due: list[tuple[Task, float]] = []
        self._unacknowledged: dict[int, Update] = {}
        self._next_port = 0
        self._stopped = True

    async def start(self, listener: Listener, known: Sequence[KnownTask]) -> None:
        """Nothing survives a restart: known tasks are lost."""
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._stopped = False
        updates = list(self._unacknowledged.values())
        reported = {update.task for update in updates}
        updates.extend(self._lost(task.id) for task in known if task.id not in reported)
        if updates:
            listener.updates(updates)
        self._make_offer()

    def _lost(self, task: str) -> Update:
        return Update(seq=0, task=task, kind="lost", at=time.time(), message="the null engine forgets its tasks")

    async def stop(self) -> None:
        """Forget what was launched and not reported."""
        self._stopped = True
        self._due.clear()
        self._book = OfferBook(self._agent, "null", {})
        self._free = self._total.vector

    def agents(self) -> Sequence[Agent]:
        """The one agent."""
        return [Agent(id=self._agent, host="null", total=self._total)]

    async def refusal(self, container: Container) -> str | None:
        """Jobs with containers are refused when they are submitted."""
        return None

    def assign(self, offer: Offer, resources: Resources, taken: Assignment) -> Assignment | None:
        """Made-up ports; there are no GPUs to hand out."""
        self._book.claim(offer)
        if resources.gpus:
            return None
        if not resources.ports:
            return Assignment()
        first, self._next_port = self._next_port, self._next_port + resources.ports
        return Assignment(ports=tuple(_FIRST_PORT + number % 1000 for number in range(first, self._next_port)))

    def launch(self, offer: Offer, tasks: Sequence[Task]) -> None:
        """Report every task started and ended on the next turn of the loop."""
        self._book.close([offer.id])
        if not self._due:
            self._loop.call_soon(self._report)
        now = time.time()
        for task in tasks:
            self._free = subtract(self._free, task.resources.vector)
            self._due.append((task, now))

    def _report(self) -> None:
        if self._stopped:
            return
        due, self._due = self._due, []
        now = time.time()
        updates = []
        for task, started in due:
            self._free = add(self._free, task.resources.vector)
            self._seq += 1
            end = Update(seq=self._seq, task=task.id, kind="ended", at=now, started=started, exit_code=0, usage=Usage())
            self._unacknowledged[end.seq] = end
            updates.append(Update(seq=0, task=task.id, kind="started", at=started, started=started))
            updates.append(end)
        if updates:
            self._listener.updates(updates)
        self._make_offer()

    def _make_offer(self) -> None:
        if self._stopped:
            return
        void, offer = self._book.renew(self._free)
        if void:
            self._listener.rescinded(void)
        if offer is not None:
            self._listener.offers([offer])

    def decline(self, offer_ids: Sequence[str]) -> None:
        """Offer the same again after a second."""
        if self._book.close(offer_ids):
            self._loop.call_later(1.0, self._make_offer)

    def revive(self) -> None:
        """What is offered stays offered: nobody else wants it."""

    def suppress(self) -> None:
        """Nobody else wants the room."""

    def kill(self, task_id: str, grace_s: float) -> None:
        """Too late by definition: its end is on its way."""

    def acknowledge(self, seqs: Sequence[int]) -> None:
        """Forget these updates."""
        for seq in seqs:
            self._unacknowledged.pop(seq, None)

    async def usage(self, task_ids: Sequence[str], *, series: bool = True) -> dict[str, Usage]:
        """Nothing runs, nothing is used."""
        return {}

    async def list_files(self, task_id: str, path: str, agent: str = "") -> list[FileEntry]:
        """There are no sandboxes."""
        raise FileNotFoundError(f"the null engine keeps no files for {task_id}")

    async def open_file(self, task_id: str, path: str, agent: str = "") -> FileReader:
        """There are no sandboxes."""
        raise FileNotFoundError(f"the null engine keeps no files for {task_id}")

    def collect(self, task_ids: Sequence[str]) -> None:
        """There is nothing to remove."""
