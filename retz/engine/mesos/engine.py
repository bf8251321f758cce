"""The engine that drives a Mesos cluster.

It wires the parts: the driver child (scheduler API), the observer child (agents, usage), the table of tasks, the book
of offers, the sandboxes. Everything here happens on the event loop; what takes time happens in the children or in
aiohttp. The subscription comes and goes; the engine says so (``failed``, ``recovered``) and the queue stays open.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from retz.engine.base import Assignment, FileEntry, FileReader, FilesUnavailable, KnownTask, Listener, Task, Update
from retz.model.agent import Agent, Offer
from retz.model.container import Container
from retz.model.job import Usage
from retz.model.resources import Resources

from . import wire
from .agents import AgentTable, slot
from .compat import require_pymesos
from .demand import Demand
from .framework import MesosOptions, RegistrationFile, framework_info, replaced
from .offers import Bundle, MesosBook, News, pick_ports
from .process import Child
from .reconciling import Reconciler
from .sandbox import Sandboxes
from .tasks import NoRoom, Pool
from .tracker import Outcome, Tracker
from .usage import UsageBook

log = logging.getLogger("retz.engine.mesos")

TICK_S = 1.0
SHORT_TICK_S = 0.1
"""While something waits for its moment."""

IMPLICIT_JITTER_S = 60.0

QUIET_S = 5.0
"""No subscription for so long after the start is worth telling."""

SAVE_AGAIN_S = 5.0

LOST_BEFORE = "the connection to Mesos was lost before it was launched"

TURN_S = 0.003
"""How long one turn of the loop may make launches: a group commit can release hundreds."""


class MesosEngine:
    """See the module's text, and :mod:`retz.engine.base` for the contract.

    Args:
        directory: Holds the framework id; made if it is not there.
        clock: Monotonic seconds.
        wall: Seconds since the epoch.
    """

    name = "mesos"
    honours = frozenset(("files", "user", "container"))
    shared = True

    def __init__(
        self,
        directory: Path,
        options: MesosOptions,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._directory, self._options = directory, options
        self._clock, self._wall = clock, wall
        self._file = RegistrationFile(directory / "framework.json")
        self._tracker = Tracker(unreachable_wait_s=options.unreachable_wait_s)
        self._book = MesosBook()
        self._demand = Demand()
        self._agents = AgentTable(telemetry=options.exporter is not None)
        self._usage = UsageBook(options.sample_s)
        self._reconciler = Reconciler(lambda: random.uniform(0.0, IMPLICIT_JITTER_S), self._tracker.everything)
        self._sandboxes = Sandboxes(principal=options.principal, secret=options.secret)
        self._driver = Child(
            "mesos driver",
            "driver",
            msgspec.msgpack.Decoder(wire.FromDriver),
            on_start=self._driver_started,
            on_message=self._heard,
            on_gone=self._driver_gone,
        )
        self._observer = Child(
            "mesos observer",
            "observer",
            msgspec.msgpack.Decoder(wire.FromObserver),
            on_start=self._observer_started,
            on_message=self._heard,
            on_gone=lambda why: log.warning("the observer of the cluster ended and is started again: %s", why),
        )
        self._handlers: dict[type, Callable[[Any], None]] = {
            wire.Subscribed: self._subscribed,
            wire.Disconnected: lambda message: self._disconnected(message.why),
            wire.Offers: lambda message: self._offered(message.offers),
            wire.Rescinded: lambda message: self._tell(self._book.rescind(message.offers)),
            wire.Statuses: self._statuses,
            wire.AgentLost: self._agent_lost,
            wire.Accepted: self._accepted,
            wire.NotAccepted: self._not_accepted,
            wire.Refused: self._refused,
            wire.Malformed: lambda message: log.warning("an event of Mesos is ignored: %s", message.why),
            wire.Agents: self._observed,
            wire.AgentsGone: self._observed,
            wire.Telemetry: self._observed,
            wire.Samples: lambda message: self._usage.apply(message.samples, self._tracker.started),
            wire.Trouble: self._observer_trouble,
        }
        self._call_numbers = itertools.count(1)
        self._launches: deque[tuple[Bundle, Sequence[Task]]] = deque()
        """To be sent in the next turns; ``_sending``: the loop is going to."""
        self._sending = False
        self._calls: dict[int, list[str]] = {}
        """ACCEPTs not answered yet: their tasks."""
        self._promised: dict[str, set[str]] = {}
        """GPU slots of tasks about to be launched, by offer."""
        self._early: list[wire.MesosOffer] = []
        """Offers that came before the framework id was on disk."""
        self._master = ""
        self._subscription = False
        """The driver has one; ``_connected``: and the framework id is on disk."""
        self._connected = False
        self._superseded = False
        self._stopping = False
        self._failure: str | None = None
        self._lost_at = 0.0
        self._watched: set[str] = set()
        self._agents_told = True
        self._saving: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    # -- start and stop ---------------------------------------------------------------------------------

    @property
    def master(self) -> str | None:
        """The leading master that we are subscribed to."""
        return self._master if self._connected else None

    async def start(self, listener: Listener, known: Sequence[KnownTask]) -> None:
        """Adopt ``known`` and begin to look for the master; does not wait for it: the queue is open meanwhile.

        Raises:
            EngineError: pymesos is missing, or the framework id on disk cannot be read.
        """
        require_pymesos()
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        await asyncio.to_thread(self._directory.mkdir, mode=0o700, parents=True, exist_ok=True)
        self._registration = await asyncio.to_thread(self._file.load)
        self._lost_at = self._clock()
        self._tracker.adopt(known, self._clock())
        await self._sandboxes.start()
        await self._observer.start()
        await self._driver.start()
        self._tick()

    async def stop(self) -> None:
        """Disconnect without a TEARDOWN; tasks keep running, and Mesos waits for our return."""
        self._stopping = True
        if self._timer is not None:
            self._timer.cancel()
        if self._saving is not None:
            self._saving.cancel()
            await asyncio.gather(self._saving, return_exceptions=True)
        await asyncio.gather(self._driver.stop(), self._observer.stop())
        await self._sandboxes.close()

    def _driver_started(self) -> Sequence[wire.Message]:
        return () if self._superseded else (self._connect(),)

    def _connect(self) -> wire.Connect:
        options = self._options
        info = framework_info(options, self._registration.id)
        return wire.Connect(options.master, info, options.principal, options.secret)

    def _observer_started(self) -> Sequence[wire.Message]:
        self._watched = set()
        return (self._observe(),)

    def _observe(self) -> wire.Observe:
        options = self._options
        return wire.Observe(
            self._master,
            self._registration.id or "",
            options.principal,
            options.secret,
            options.poll_s,
            options.sample_s,
            options.exporter,
        )

    def _driver_gone(self, why: str) -> None:
        calls, self._calls = self._calls, {}
        for tasks in calls.values():
            self._do(self._tracker.not_accepted(tasks, why, False, self._clock(), self._wall()))
        self._disconnected(f"the driver process is started again ({why})")

    # -- the subscription ---------------------------------------------------------------------------------

    def _heard(self, message: Any) -> None:
        handler = self._handlers.get(type(message))
        if handler is not None and not self._stopping:
            handler(message)

    def _subscribed(self, message: wire.Subscribed) -> None:
        self._master = message.master
        self._subscription = True
        if self._saving is not None:
            self._saving.cancel()
            self._saving = None
        if message.framework == self._registration.id:
            self._begin()
        else:
            self._saving = self._loop.create_task(self._register(message.framework))

    async def _register(self, framework_id: str | None) -> None:
        """Nothing is launched under an id that a crash would make us forget."""
        registration = replaced(self._registration, framework_id)
        while True:
            try:
                await asyncio.to_thread(self._file.save, registration)
                break
            except OSError as error:
                self._trouble(f"cannot save the framework id in {self._directory}: {error}; nothing is launched")
                await asyncio.sleep(SAVE_AGAIN_S)
        self._registration = registration
        if framework_id is None:
            self._driver.send(self._connect())
        else:
            log.info("registered with Mesos as framework %s", framework_id)
            if self._subscription:  # it may have been lost meanwhile
                self._begin()

    def _begin(self) -> None:
        log.info("subscribed to the Mesos master %s as %s", self._master, self._registration.id)
        self._connected = True
        self._demand.connected()
        self._observer.send(self._observe())
        if self._failure is not None:
            self._failure = None
            self._listener.recovered()
        self._reconciler.stop()
        self._do(self._tracker.subscribed(self._clock()))
        early, self._early = self._early, []
        self._offered(early)
        self._tick_soon()

    def _disconnected(self, why: str) -> None:
        if self._stopping or self._superseded:
            return
        if self._connected:
            self._lost_at = self._clock()
        self._subscription = self._connected = False
        self._early.clear()
        launches, self._launches = self._launches, deque()
        for _, tasks in launches:
            self._not_launched(_ids(tasks), LOST_BEFORE)
        self._tracker.disconnected()
        self._reconciler.stop()
        self._tell(News(self._book.clear(), []))
        self._trouble(f"not connected to Mesos: {why}; the master is looked for, running jobs go on")

    def _trouble(self, text: str) -> None:
        if text != self._failure:
            self._failure = text
            self._listener.failed(text)

    def _refused(self, message: wire.Refused) -> None:
        if message.kind == "removed":
            self._removed(message.why)
        elif message.kind == "superseded":
            self._disconnected(message.why)
            self._superseded = True
            self._trouble(
                f"another server has subscribed to Mesos as framework {self._registration.id} ({message.why}): two "
                "servers must not share a data directory or a copy of one; stop one of them, then restart this one"
            )
        else:
            self._trouble(f"the Mesos master refuses us: {message.why}")

    def _removed(self, why: str) -> None:
        """The id is worth nothing any more: everything that ran under it was killed."""
        running = len(self._tracker)
        text = f"Mesos has removed framework {self._registration.id} ({why}) and killed its tasks"
        log.critical("%s: %d running jobs are lost; registering anew", text, running)
        self._disconnected(why)
        self._do(self._tracker.removed(text, self._wall()))
        self._saving = self._loop.create_task(self._register(None))

    # -- offers -------------------------------------------------------------------------------------------

    def _offered(self, offers: Sequence[wire.MesosOffer]) -> None:
        if not self._connected:
            self._early += offers
            return
        new = [offer for offer in offers if self._agents.offered(offer)]
        if new:
            self._agents_changed()
        self._tell(self._book.add(offers))

    def _agent_lost(self, message: wire.AgentLost) -> None:
        self._tell(News(self._book.drop_agent(message.agent), []))
        self._do(self._tracker.agent_lost(message.agent))

    def _tell(self, news: News) -> None:
        if news.void:
            for offer_id in news.void:
                self._promised.pop(offer_id, None)
            self._listener.rescinded(news.void)
        if news.new:
            self._listener.offers(news.new)

    async def refusal(self, container: Container) -> str | None:
        """Only the agents know."""
        return None

    def assign(self, offer: Offer, resources: Resources, taken: Assignment) -> Assignment | None:
        """Ports out of the offer; GPUs as slots, for Mesos counts them only."""
        bundle = self._book.claim(offer.id)
        if bundle is None:
            return None
        ports = pick_ports(bundle.entries, resources.ports, taken.ports) if resources.ports else ()
        if ports is None:
            return None
        gpus = self._slots(offer, resources.gpus) if resources.gpus else ()
        return Assignment(gpus=gpus, ports=ports)

    def _slots(self, offer: Offer, wanted: int) -> tuple[str, ...]:
        held = set(self._tracker.gpus(offer.agent)).union(*self._promised.values())
        free = (name for n in itertools.count() if (name := slot(offer.agent, n)) not in held)
        slots = tuple(itertools.islice(free, wanted))
        self._promised.setdefault(offer.id, set()).update(slots)
        return slots

    def launch(self, offer: Offer, tasks: Sequence[Task]) -> None:
        """One ACCEPT. What is left of the offer comes back at the master's next round."""
        self._promised.pop(offer.id, None)
        self._tracker.launched(tasks, self._clock())
        bundle = self._book.take(offer.id)
        if bundle is None:
            self._not_launched(_ids(tasks), "its offer was void when it was to be launched")
            return
        self._launches.append((bundle, tasks))
        self._send_soon()

    def _send_soon(self) -> None:
        if not self._sending:
            self._sending = True
            self._loop.call_soon(self._send_some)

    def _send_some(self) -> None:
        self._sending = False
        self._send_launches(TURN_S)

    def _send_launches(self, seconds: float) -> None:
        """Many in one write, the rest in the next turn."""
        if self._stopping:
            return  # the next start finds out that they never ran
        until = time.perf_counter() + seconds
        messages: list[wire.Message] = []
        while self._launches:
            messages.append(self._accept(*self._launches.popleft()))
            if self._launches and time.perf_counter() > until:
                self._send_soon()
                break
        if messages and not self._driver.send(*messages):
            for message in messages:
                if isinstance(message, wire.Accept):
                    self._not_launched(self._calls.pop(message.call), LOST_BEFORE)

    def _accept(self, bundle: Bundle, tasks: Sequence[Task]) -> wire.Accept | wire.Decline:
        pool = Pool(bundle.entries)
        launches: list[wire.Launch] = []
        for task in tasks:
            try:
                launches.append(wire.Launch(task, pool.take(task)))
            except NoRoom as error:
                self._not_launched([task.id], str(error))
        if not launches:
            return wire.Decline(bundle.ids, 0.0)
        call = next(self._call_numbers)
        self._calls[call] = [launch.task.id for launch in launches]
        return wire.Accept(call, bundle.ids, launches)

    def _accepted(self, message: wire.Accepted) -> None:
        self._calls.pop(message.call, None)

    def _not_launched(self, tasks: list[str], why: str) -> None:
        """Told on another turn: the server is in the middle of launching."""
        self._loop.call_soon(self._not_accepted, wire.NotAccepted(0, why, True), tasks)

    def _not_accepted(self, message: wire.NotAccepted, tasks: Sequence[str] | None = None) -> None:
        if tasks is None:
            tasks = self._calls.pop(message.call, ())
            log.warning("Mesos did not take a launch of %d tasks: %s", len(tasks), message.why)
        self._do(self._tracker.not_accepted(tasks, message.why, message.certain, self._clock(), self._wall()))

    def decline(self, offer_ids: Sequence[str]) -> None:
        """Leave the room to others for a while."""
        bundles = [bundle for bundle in map(self._book.take, offer_ids) if bundle is not None]
        for offer_id in offer_ids:
            self._promised.pop(offer_id, None)
        if bundles:
            ids = [part for bundle in bundles for part in bundle.ids]
            self._driver.send(wire.Decline(ids, self._options.refuse_s))
            self._demand.declined()

    def revive(self) -> None:
        """REVIVE, at once or as soon as it is allowed again."""
        self._demand.revive()
        self._ask_for_offers()

    def suppress(self) -> None:
        """SUPPRESS, if nothing comes up within a second."""
        self._demand.suppress(self._clock())
        self._tick_soon()

    def _ask_for_offers(self) -> None:
        if not self._connected:
            return
        now = self._clock()
        if self._demand.due_revive(now):
            self._driver.send(wire.Revive())
        elif self._demand.due_suppress(now):
            self._driver.send(wire.Suppress())
        if self._demand.next_look(now) is not None:
            self._tick_soon()

    # -- tasks ----------------------------------------------------------------------------------------------

    def _statuses(self, message: wire.Statuses) -> None:
        for status in message.statuses:
            self._reconciler.answered(status.task)
        self._do(self._tracker.apply(message.statuses, self._clock(), self._wall()))

    def _do(self, outcome: Outcome) -> None:
        """What the table of tasks found out: tell the server, answer Mesos, ask it."""
        if outcome.acks:
            self._driver.send(wire.Acknowledge(outcome.acks))
        if outcome.kills:
            self._send_launches(math.inf)  # a task is not killed before it is launched
            self._driver.send(wire.Kill(outcome.kills))
        if outcome.asks:
            self._reconciler.start(outcome.asks, self._clock())
            self._tick_soon()
        if outcome.updates:
            self._listener.updates(
                [update if update.kind == "started" else self._complete(update) for update in outcome.updates]
            )

    def _complete(self, update: Update) -> Update:
        """With what it used, and with the host instead of an id that tells nobody anything."""
        message, agent_id = update.message, self._tracker.agent_of(update.task)
        agent = self._agents.get(agent_id) if agent_id else None
        if message and agent is not None:
            message = message.replace(f"agent {agent.id}", f"agent {agent.host}")
        return replace(update, usage=self._usage.end(update.task), message=message)

    def kill(self, task_id: str, grace_s: float) -> None:
        """KILL, repeated until Mesos confirms. The grace is the one the task was launched with: Mesos keeps to that."""
        self._do(self._tracker.kill(task_id, self._clock()))

    def acknowledge(self, seqs: Sequence[int]) -> None:
        """These updates are durable: Mesos may forget them."""
        acks = self._tracker.acknowledged(seqs)
        if acks:
            self._driver.send(wire.Acknowledge(acks))

    # -- time -----------------------------------------------------------------------------------------------

    def _tick_soon(self) -> None:
        if self._timer is not None and self._timer.when() - self._loop.time() > SHORT_TICK_S:
            self._timer.cancel()
            self._timer = self._loop.call_later(SHORT_TICK_S, self._tick)

    def _tick(self) -> None:
        self._timer = self._loop.call_later(TICK_S, self._tick)
        now = self._clock()
        self._do(self._tracker.tick(now, self._wall()))
        if not self._connected:
            if self._failure is None and now - self._lost_at > QUIET_S:
                self._trouble(f"no Mesos master answers at {self._options.master} yet; it is looked for")
            return
        self._reconcile(now)
        self._ask_for_offers()
        self._watch()

    def _reconcile(self, now: float) -> None:
        while (tasks := self._reconciler.due(now)) is not None:
            self._driver.send(wire.Reconcile(tasks))
        if self._reconciler.open:
            self._tick_soon()

    def _watch(self) -> None:
        """Tell the observer which agents run tasks of ours."""
        busy = self._tracker.agents()
        run = {agent: url for agent in busy - self._watched if (url := self._agents.url(agent)) is not None}
        idle = self._watched - busy
        if run or idle:
            self._observer.send(wire.Watch(run, list(idle)))
            self._watched = (self._watched - idle) | run.keys()

    # -- agents, usage, files -----------------------------------------------------------------------------------

    def _observed(self, message: wire.Agents | wire.AgentsGone | wire.Telemetry) -> None:
        if self._agents.apply(message):
            self._agents_changed()

    def _agents_changed(self) -> None:
        """Once a turn, however many messages came."""
        if self._agents_told:
            self._agents_told = False
            self._loop.call_soon(self._tell_agents)

    def _tell_agents(self) -> None:
        self._agents_told = True
        self._listener.agents_changed()

    def _observer_trouble(self, message: wire.Trouble) -> None:
        if message.why:
            log.warning("the cluster's agents cannot be seen: %s", message.why)

    def agents(self) -> Sequence[Agent]:
        """All agents known, those that are away included."""
        return self._agents.agents()

    async def usage(self, task_ids: Sequence[str], *, series: bool = True) -> dict[str, Usage]:
        """What the agents measured last."""
        found = ((task, self._usage.usage(task, series=series)) for task in task_ids)
        return {task: usage for task, usage in found if usage is not None}

    async def list_files(self, task_id: str, path: str, agent: str = "") -> list[FileEntry]:
        """A directory of the sandbox, as the agent lists it."""
        return await self._sandboxes.list_files(self._url(agent), self._registration.ids, task_id, path)

    async def open_file(self, task_id: str, path: str, agent: str = "") -> FileReader:
        """A file of the sandbox, read through the agent."""
        return await self._sandboxes.open_file(self._url(agent), self._registration.ids, task_id, path)

    def _url(self, agent: str) -> str:
        url = self._agents.url(agent)
        if url is None:
            raise FilesUnavailable(
                f"agent {agent or '?'} is not known to the cluster now: if it comes back its files do too; an agent "
                "that was removed takes them with it"
            )
        return url

    def collect(self, task_ids: Iterable[str]) -> None:
        """Nothing to do: agents remove old sandboxes by themselves (``--gc_delay``, a week)."""


def _ids(tasks: Iterable[Task]) -> list[str]:
    return [task.id for task in tasks]
