"""The connection to one server: what is asked, what it tells of itself, and whether it is there."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from retz.client import AsyncClient, RetzError
from retz.client.types import Event, Status
from retz.config import ClientConfig

Link = Literal["connecting", "live", "lost"]

BATCH_S = 0.05
"""Events are handed over in batches at most so often: twenty frames a second."""

RECENT = 200
"""Events that are kept to be shown."""

HOSTS_AT_ONCE = 100
"""Machines whose names are asked for in one request: a screen shows fewer."""

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 5.0

STATUS_S = 5.0
"""No event tells that the engine is in trouble: so often it is asked for."""


class Session:
    """One server, followed for ever. All methods run on the application's event loop.

    Attributes:
        client: For requests; it does not retry, so that a lost server is told at once.
        link: Whether the event stream stands.
        trouble: What to tell the user while it does not.
        lost_at: Since when, on this side's clock.
        status: The server's latest word on itself.
        recent: The latest events, each with the time at which it came.
    """

    def __init__(self, config: ClientConfig) -> None:
        self.config = config
        self.client = AsyncClient(replace(config, server_retry=0.0))
        self.link: Link = "connecting"
        self.trouble = ""
        self.lost_at = 0.0
        self.status: Status | None = None
        self.recent: deque[tuple[float, Event]] = deque(maxlen=RECENT)
        self.on_events: Callable[[list[Event]], None] = lambda events: None
        self.on_link: Callable[[], None] = lambda: None
        self.on_hosts: Callable[[], None] = lambda: None
        self._hosts: dict[str, str] = {}
        self._nameless: set[str] = set()
        self._asking: asyncio.Task[None] | None = None
        self._batch: list[Event] = []
        self._flushing: asyncio.TimerHandle | None = None

    @property
    def admin(self) -> bool:
        """Whether we may see everybody's jobs."""
        return self.status is not None and self.status.user.admin

    @property
    def warning(self) -> str:
        """Why a server that answers cannot do its work; empty if it can."""
        if self.link != "live" or self.status is None:
            return ""
        if self.status.read_only:
            return f"nothing can be changed: {self.status.read_only}"
        return f"no job can be started: {self.status.engine_failure}" if self.status.engine_failure else ""

    @property
    def everybody(self) -> dict[str, str]:
        """The filter that shows an administrator everybody's jobs."""
        return {"user": "*"} if self.admin else {}

    def now(self) -> float:
        """The time as the server sees it, so that a wrong clock on this side does not show in durations."""
        return time.time() + self.client.clock_offset_s

    def host(self, agent: str | None) -> str:
        """The host name of a machine; its id until the server has told, and of one that is gone."""
        if not agent:
            return ""
        if agent not in self._hosts and self.link == "live":
            self._nameless.add(agent)
            if self._asking is None:
                self._asking = asyncio.get_running_loop().create_task(self._ask_hosts())
        return self._hosts.get(agent) or agent

    async def named(self) -> None:
        """Wait until the names that were asked for are known."""
        if self._asking is not None:
            await self._asking

    async def _ask_hosts(self) -> None:
        """Ask for the names of a frame's machines together."""
        try:
            await asyncio.sleep(0)
            wanted = sorted(self._nameless)[:HOSTS_AT_ONCE]
            found = {agent.id: agent.host for agent in await self.client.agents(id=",".join(wanted))}
        except RetzError:
            return  # whatever is drawn next asks again
        else:
            self._nameless.difference_update(wanted)
            self._hosts.update({each: found.get(each, "") for each in wanted})
        finally:
            self._asking = None
        self.on_hosts()

    async def refresh_status(self) -> Status:
        """Ask the server about itself."""
        before = self.warning
        self.status = await self.client.status()
        if self.warning != before:
            self.on_link()
        return self.status

    async def watch(self) -> None:
        """Ask now and then, until cancelled."""
        while True:
            await asyncio.sleep(STATUS_S)
            if self.link == "live":
                with contextlib.suppress(RetzError):  # following the events tells of it
                    await self.refresh_status()

    async def follow(self) -> None:
        """Follow the events until cancelled; whatever is lost is taken up again."""
        pause = FIRST_PAUSE_S
        since: int | None = None
        while True:
            try:
                status = await self.refresh_status()
                since = status.seq if since is None else since
                self._set("live", "")
                pause = FIRST_PAUSE_S
                # A server that went away and came back may have forgotten nothing, but we may have missed much.
                self._hand_over(Event(kind="reset", seq=since))
                async for event in self.client.events(since, user="*" if self.admin else None):
                    since = event.seq or since
                    self._hand_over(event)
            except RetzError as error:
                self._set("lost", str(error))
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)

    async def close(self) -> None:
        """Drop the connections."""
        if self._flushing is not None:
            self._flushing.cancel()
        if self._asking is not None:
            self._asking.cancel()
        with contextlib.suppress(RetzError):
            await self.client.close()

    def _hand_over(self, event: Event) -> None:
        self._batch.append(event)
        self.recent.append((self.now(), event))
        if self._flushing is None:
            self._flushing = asyncio.get_running_loop().call_later(BATCH_S, self._flush)

    def _flush(self) -> None:
        self._flushing = None
        batch, self._batch = self._batch, []
        self.on_events(batch)

    def _set(self, link: Link, trouble: str) -> None:
        if (link, trouble) != (self.link, self.trouble):
            if link == "lost" and self.link != "lost":
                self.lost_at = time.time()
            self.link, self.trouble = link, trouble
            self.on_link()
