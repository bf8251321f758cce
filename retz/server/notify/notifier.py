"""Listens to the journal and hands on what is to be told outside."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

from retz.model.job import ENDED_STATES, Job
from retz.model.notice import notice_id
from retz.store.database import Event

from ..core import Core
from .command import Command, Work
from .courier import Courier, Sends
from .document import document
from .sender import Sender


class Notifier:
    """Webhooks and the operator's command of one server.

    Args:
        sender: Makes the calls; None for one that really does.
        ticks: Seconds that never jump.
    """

    def __init__(self, core: Core, sender: Sends | None = None, ticks: Callable[[], float] = time.monotonic) -> None:
        self._core = core
        self._given = sender
        self._own: Sender | None = None
        self._ticks = ticks
        self._unsubscribe: Callable[[], None] | None = None
        self.courier: Courier | None = None
        line = core.config.notify_command
        self.command = None if line is None else Command(line, core.outbox.tally.commands)

    async def start(self) -> None:
        """Begin; after the core."""
        core = self._core
        await core.settled()  # what is told must not vanish in a crash
        if self._given is None:
            self._own = Sender(core.config.notify_networks)
        self.courier = Courier(
            core.outbox,
            self._given or self._own,  # type: ignore[arg-type]
            job=core.find,
            user=lambda key: core.db.users.record(key),
            apply=core.dispatcher.apply,
            clock=core.clock,
            ticks=self._ticks,
        )
        self._unsubscribe = core.db.subscribe(self._take)
        self.courier.start()

    async def stop(self) -> None:
        """Stop telling. Webhooks that were not told yet are after the next start; runs of the command are ended."""
        if self._unsubscribe is not None:
            self._unsubscribe()
        if self.courier is not None:
            await self.courier.stop()
        if self._own is not None:
            await self._own.close()
        if self.command is not None:
            await self.command.stop()

    def _take(self, events: Sequence[Event]) -> None:
        """Durable changes."""
        notices = [str(e.id) for e in events if e.table == "notices" and e.record and e.record.state == "waiting"]
        if notices and self.courier is not None:
            self.courier.take(notices)
        if self.command is not None:
            for event in events:
                if event.table == "jobs" and event.record is not None and event.record.state in ENDED_STATES:
                    self._run_command(self.command, event.record)

    def _run_command(self, command: Command, job: Job) -> None:
        at = self._core.clock() if job.ended is None else job.ended
        command.offer(Work("ended", job.id, partial(document, job, "ended", at, notice_id(job.id, "ended"))))
