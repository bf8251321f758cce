"""The table of tasks: what we know of each, what the server is told, what Mesos is answered.

Pure: no clock, no I/O. ``now`` is monotonic seconds, ``wall`` seconds since the epoch. Every method returns what is
to be done about it as an :class:`Outcome`.

A task is in the table from its launch (or adoption) until the server has acknowledged its one final update. Of a task
that is not there nothing is ever told: alive, it is an orphan and killed. A status with a uuid that makes an update
is acknowledged to Mesos when the server has acknowledged that update; any other one at once.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Literal

from msgspec import Struct

from retz.engine.base import KnownTask, Task, Update

from .statuses import Verdict, read
from .wire import Ack, Status, TaskRef

KILL_AGAIN_S = 10.0
ASK_AGAIN_S = 60.0
AGAIN_MOST_S = 300.0
"""A kill, and a question about a task of which nothing is heard, are repeated after so long, then twice as long..."""

TELL_AGAIN_S = 30.0
"""A final update of our own making is told again if the server has not acknowledged it."""

RESULT_WAIT_S = 60.0
"""How long the agent's own update may take once the master has said that a task is over."""

SETTLE_S = 30.0
"""Nothing is given up so soon after a subscription: the master's answers about it are on their way."""

PER_TICK = 1_000
"""So many things at most are seen to in one tick: a few milliseconds."""

_Kind = Literal["kill", "ask", "wait", "tell"]


class Outcome(Struct):
    """What is to be done.

    Attributes:
        updates: News for the server, in order per task.
        acks: To be sent to Mesos now.
        kills: To be sent now; they are repeated in later outcomes.
        asks: Tasks to ask the master about, paced (:mod:`.reconciling`). To be iterated once; falsy if there is
            nothing to ask.
    """

    updates: list[Update] = []
    acks: list[Ack] = []
    kills: list[TaskRef] = []
    asks: Iterable[TaskRef] = ()


class _Entry(Struct, gc=False):
    """A task.

    Attributes:
        alive: It was seen alive, or on an agent that nobody reaches: it may have run.
        told: The server was told that it runs; ``started`` is since when.
        asked: A kill was asked for.
        asking: A timer will ask the master about it again.
        until: When it is given up, or, with ``over``, concluded without its agent's word; 0 if nothing is waited for.
        over: What the master's summary said of its end.
        start: Number of the update that it runs, until that is acknowledged; ``end``: of its final update.
        given_up: Its final update said that nothing of it runs, which was not its own end.
    """

    agent: str
    gpus: tuple[str, ...] = ()
    alive: bool = False
    told: bool = False
    asked: bool = False
    asking: bool = False
    given_up: bool = False
    started: float | None = None
    until: float = 0.0
    over: Verdict | None = None
    start: int = 0
    end: int = 0


class _Pending(Struct, gc=False):
    """An update that the server has not acknowledged, and what Mesos is told when it has."""

    update: Update
    acks: list[Ack]


class _Case(Struct, gc=False):
    """A status of a task that is not over, with all that its rule may need. ``at``: when, never in the future."""

    entry: _Entry
    status: Status
    verdict: Verdict
    now: float
    at: float
    out: Outcome


class Tracker:
    """See the module's text.

    Args:
        unreachable_wait_s: How long an agent may be away before its tasks are given up as lost.
    """

    def __init__(self, *, unreachable_wait_s: float) -> None:
        self._wait_s = unreachable_wait_s
        self._tasks: dict[str, _Entry] = {}
        self._by_agent: dict[str, set[str]] = {}
        self._asked: set[str] = set()
        self._kills: deque[str] = deque()
        self._pending: dict[int, _Pending] = {}
        self._timers: list[tuple[float, str, _Kind, float]] = []
        self._seq = 0
        self._connected = False
        self._settled = 0.0
        self._rules: dict[str, Callable[[_Case], None]] = {
            "starting": self._starting,
            "running": self._running,
            "unreachable": self._away,
            "unknown_agent": self._away,
            "over": self._over,
            "gone": self._gone,
            "ended": self._final,
            "lost": self._final,
            "not_started": self._final,
        }

    def __len__(self) -> int:
        """Tasks that are not over."""
        return sum(map(len, self._by_agent.values()))

    # -- what it knows ------------------------------------------------------------------------------------

    def agent_of(self, task: str) -> str | None:
        """The agent of a task in the table."""
        entry = self._tasks.get(task)
        return None if entry is None else entry.agent

    def started(self, task: str) -> float | None:
        """Since when a task in the table runs; None if that is not known."""
        entry = self._tasks.get(task)
        return None if entry is None else entry.started

    def agents(self) -> set[str]:
        """Agents that have tasks which are not over."""
        return set(self._by_agent)

    def tasks(self, agent: str) -> Sequence[str]:
        """The tasks of an agent that are not over."""
        return tuple(self._by_agent.get(agent, ()))

    def running(self) -> Iterator[str]:
        """All tasks that are not over."""
        return chain.from_iterable(self._by_agent.values())

    def gpus(self, agent: str) -> Iterator[str]:
        """The GPUs that tasks of this agent hold (:attr:`retz.engine.base.Assignment.gpus`)."""
        return (gpu for task in self._by_agent.get(agent, ()) for gpu in self._tasks[task].gpus)

    # -- what the server does -----------------------------------------------------------------------------

    def adopt(self, known: Sequence[KnownTask], now: float) -> None:
        """Tasks of an earlier life of the server. The next :meth:`subscribed` asks about them, and kills."""
        for task in known:
            self._add(task.id, task.agent, task.assignment.gpus)
            if task.kill:
                self._mark_killed(task.id, self._tasks[task.id], now)

    def launched(self, tasks: Sequence[Task], now: float) -> None:
        """An ACCEPT with these tasks is about to be sent."""
        for task in tasks:
            self._add(task.id, task.agent, task.assignment.gpus)
            self._ask_later(task.id, self._tasks[task.id], now)

    def not_accepted(self, tasks: Sequence[str], why: str, certain: bool, now: float, wall: float) -> Outcome:
        """An ACCEPT failed. ``certain``: nothing of it runs; else the master is asked."""
        out = Outcome()
        asks: list[TaskRef] = []
        for task in tasks:
            entry = self._tasks.get(task)
            if entry is None or entry.end or entry.alive:
                continue
            if certain:
                self._conclude(task, entry, Verdict("not_started", message=why), now, wall, out)
            else:
                asks.append(TaskRef(task, entry.agent))
        out.asks = asks
        return out

    def kill(self, task: str, now: float) -> Outcome:
        """End it. Repeated, with growing pauses and at every subscription, until Mesos says that it is over."""
        entry = self._tasks.get(task)
        if entry is None or entry.end:
            return Outcome()
        if not entry.asked:
            self._mark_killed(task, entry, now)
        return Outcome(kills=[TaskRef(task, entry.agent)])

    def acknowledged(self, seqs: Sequence[int]) -> list[Ack]:
        """These updates are durable. Returns what Mesos may forget now; tasks that are over leave the table."""
        acks: list[Ack] = []
        for seq in seqs:
            pending = self._pending.pop(seq, None)
            if pending is None:
                continue
            acks += pending.acks
            task = pending.update.task
            entry = self._tasks.get(task)
            if entry is None:
                continue
            if entry.end == seq:
                del self._tasks[task]
            elif entry.start == seq:
                entry.start = 0
        return acks

    # -- what Mesos does ----------------------------------------------------------------------------------

    def subscribed(self, now: float) -> Outcome:
        """The master knows us (again): ask about every task, kill again what is to be killed."""
        self._connected = True
        self._settled = now + min(SETTLE_S, self._wait_s)
        self._kills = deque(self._asked)
        out = Outcome(asks=self.everything())
        self._kill_again(out)
        return out

    def everything(self) -> Iterable[TaskRef]:
        """All tasks that are not over, as questions; to be iterated once, whenever."""
        return _Everything(self._tasks)

    def agent_lost(self, agent: str) -> Outcome:
        """The master has removed an agent: ask about those of its tasks of which it has said nothing."""
        return Outcome(asks=[TaskRef(task, agent) for task in self.tasks(agent) if not self._tasks[task].until])

    def disconnected(self) -> None:
        """The master is away: nothing can be sent, and no silence means anything."""
        self._connected = False

    def removed(self, why: str, wall: float) -> Outcome:
        """The framework id is no more, and with it all its tasks: all are lost."""
        out = Outcome()
        for task in list(self.running()):
            self._conclude(task, self._tasks[task], Verdict("lost", message=why), 0.0, wall, out)
        for pending in self._pending.values():
            pending.acks.clear()
        return out

    def apply(self, statuses: Sequence[Status], now: float, wall: float) -> Outcome:
        """Task status updates, in the order in which they came."""
        out = Outcome()
        for status in statuses:
            entry = self._tasks.get(status.task)
            if entry is None:
                self._stranger(status, out)
                continue
            if entry.end:
                self._late(entry, status, out)
                continue
            verdict = read(status, asked=entry.asked, alive=entry.alive)
            rule = self._rules.get(verdict.kind)
            if rule is not None:
                rule(_Case(entry, status, verdict, now, min(status.at or wall, wall), out))
            else:
                self._acknowledge(None, status, out)
        return out

    def tick(self, now: float, wall: float) -> Outcome:
        """About once a second: waits that are over, kills and questions that are due again."""
        out = Outcome()
        if self._connected:
            self._kill_again(out)
            asks: list[TaskRef] = []
            for _ in range(PER_TICK):
                if not self._timers or self._timers[0][0] > now:
                    break
                _, task, kind, pause = heapq.heappop(self._timers)
                entry = self._tasks.get(task)
                if entry is not None:
                    self._ring(task, entry, kind, pause, now, wall, out, asks)
            out.asks = asks
        return out

    # -- rules, by kind of verdict ------------------------------------------------------------------------

    def _starting(self, case: _Case) -> None:
        self._seen_alive(case)
        self._acknowledge(None, case.status, case.out)

    def _running(self, case: _Case) -> None:
        self._seen_alive(case)
        entry, status = case.entry, case.status
        if not entry.told:
            entry.told = True
            entry.start = self._next()
            at = entry.started = case.at
            update = Update(seq=entry.start, task=status.task, kind="started", at=at, started=at)
            case.out.updates.append(update)
            self._pending[entry.start] = _Pending(update, [])
        self._acknowledge(self._pending.get(entry.start), status, case.out)

    def _away(self, case: _Case) -> None:
        """Its agent is not there: it is waited for, and asked about, for no news would come of some returns."""
        entry, task = case.entry, case.status.task
        entry.alive = True
        if not entry.until:
            self._wait(task, entry, case.now + self._wait_s - self._away_for(case.status))
        self._ask_later(task, entry, case.now)

    def _over(self, case: _Case) -> None:
        entry = case.entry
        if entry.over is None:
            entry.alive = True
            entry.over = case.verdict
            self._wait(case.status.task, entry, case.now + RESULT_WAIT_S)

    def _gone(self, case: _Case) -> None:
        agent = case.status.agent or case.entry.agent
        if case.entry.alive:
            case.verdict = Verdict("lost", message=f"agent {agent} does not know it any more")
        else:
            case.verdict = Verdict("not_started", message=f"it never reached agent {agent}")
        self._final(case)

    def _final(self, case: _Case) -> None:
        entry, status, verdict = case.entry, case.status, case.verdict
        if entry.over is not None and status.uuid is None:
            verdict = _without_result(entry, entry.over)
        elif verdict.kind == "not_started" and entry.alive:
            verdict = Verdict("lost", message=verdict.message)
        again = case.now if status.uuid is None else None
        pending = self._conclude(status.task, entry, verdict, again, case.at, case.out)
        self._acknowledge(pending, status, case.out)

    # -- parts ------------------------------------------------------------------------------------------------

    def _add(self, task: str, agent: str, gpus: tuple[str, ...]) -> None:
        self._tasks[task] = _Entry(agent, gpus)
        there = self._by_agent.get(agent)
        if there is None:
            there = self._by_agent[agent] = set()
        there.add(task)

    def _next(self) -> int:
        self._seq += 1
        return self._seq

    def _conclude(
        self, task: str, entry: _Entry, verdict: Verdict, again: float | None, at: float, out: Outcome
    ) -> _Pending:
        """The one final update. ``again``: now, if nobody but us would tell it again."""
        entry.end = self._next()
        entry.given_up = verdict.kind != "ended"
        self._release(task, entry)
        update = Update(
            seq=entry.end,
            task=task,
            kind=verdict.kind,  # type: ignore[arg-type]  # only final kinds come here
            at=at,
            started=entry.started,
            exit_code=verdict.exit_code,
            signal=verdict.signal,
            reason=verdict.reason,
            message=verdict.message,
        )
        out.updates.append(update)
        pending = self._pending[entry.end] = _Pending(update, [])
        if again is not None:
            heapq.heappush(self._timers, (again + TELL_AGAIN_S, task, "tell", TELL_AGAIN_S))
        return pending

    def _release(self, task: str, entry: _Entry) -> None:
        self._asked.discard(task)
        there = self._by_agent[entry.agent]
        there.discard(task)
        if not there:
            del self._by_agent[entry.agent]

    def _acknowledge(self, pending: _Pending | None, status: Status, out: Outcome) -> None:
        """To Mesos: with the update that the server still has to acknowledge, or at once if there is none."""
        if status.uuid is None:
            return
        ack = Ack(status.task, status.agent, status.uuid)
        if pending is None:
            out.acks.append(ack)
        elif ack not in pending.acks:
            pending.acks.append(ack)

    def _stranger(self, status: Status, out: Outcome) -> None:
        """A task that nobody waits for: alive, it must go."""
        if read(status).kind in ("starting", "running"):
            out.kills.append(TaskRef(status.task, status.agent))
        self._acknowledge(None, status, out)

    def _late(self, entry: _Entry, status: Status, out: Outcome) -> None:
        """After the final update: out of order if that was a real end; else an orphan, for it is tried again."""
        if entry.given_up and read(status).kind in ("starting", "running"):
            out.kills.append(TaskRef(status.task, status.agent))
        self._acknowledge(self._pending.get(entry.end), status, out)

    def _seen_alive(self, case: _Case) -> None:
        entry, status = case.entry, case.status
        if status.state != "TASK_STAGING":
            entry.alive = True
        if not entry.until or (entry.over is not None and status.uuid is not None):
            return  # an agent sends again what came before the end that the master knows of already
        entry.until, entry.over = 0.0, None
        if entry.asked:
            case.out.kills.append(TaskRef(status.task, entry.agent))

    def _away_for(self, status: Status) -> float:
        """Both times are the master's: whether our clocks agree does not matter."""
        if status.unreachable_since is None or not status.at:
            return 0.0
        return max(0.0, min(status.at - status.unreachable_since, self._wait_s))

    def _wait(self, task: str, entry: _Entry, until: float) -> None:
        entry.until = until
        heapq.heappush(self._timers, (until, task, "wait", 0.0))

    def _ask_later(self, task: str, entry: _Entry, now: float) -> None:
        if not entry.asking:
            entry.asking = True
            heapq.heappush(self._timers, (now + ASK_AGAIN_S, task, "ask", ASK_AGAIN_S))

    def _mark_killed(self, task: str, entry: _Entry, now: float) -> None:
        entry.asked = True
        self._asked.add(task)
        heapq.heappush(self._timers, (now + KILL_AGAIN_S, task, "kill", KILL_AGAIN_S))

    def _kill_again(self, out: Outcome) -> None:
        for _ in range(min(PER_TICK, len(self._kills))):
            task = self._kills.popleft()
            if task in self._asked:
                out.kills.append(TaskRef(task, self._tasks[task].agent))

    def _ring(
        self,
        task: str,
        entry: _Entry,
        kind: _Kind,
        pause: float,
        now: float,
        wall: float,
        out: Outcome,
        asks: list[TaskRef],
    ) -> None:
        """A timer is due. Many are for nothing: what they waited for has happened."""
        if kind == "tell":
            if entry.end:
                out.updates.append(self._pending[entry.end].update)
                heapq.heappush(self._timers, (now + pause, task, kind, pause))
        elif entry.end:
            return
        elif kind == "wait":
            self._give_up(task, entry, now, wall, out)
        elif kind == "ask":
            if entry.alive and not entry.until:
                entry.asking = False
                return
            asks.append(TaskRef(task, entry.agent))
            self._push_again(task, kind, pause, now)
        else:
            out.kills.append(TaskRef(task, entry.agent))
            self._push_again(task, kind, pause, now)

    def _push_again(self, task: str, kind: _Kind, pause: float, now: float) -> None:
        pause = min(pause * 2, AGAIN_MOST_S)
        heapq.heappush(self._timers, (now + pause, task, kind, pause))

    def _give_up(self, task: str, entry: _Entry, now: float, wall: float, out: Outcome) -> None:
        if not entry.until or entry.until > now:
            return
        if now < self._settled:
            self._wait(task, entry, self._settled)
            return
        if entry.over is not None:
            verdict = _without_result(entry, entry.over)
        else:
            verdict = Verdict("lost", message=f"agent {entry.agent} could not be reached for {self._wait_s:.0f} s")
        self._conclude(task, entry, verdict, now, wall, out)


def _without_result(entry: _Entry, over: Verdict) -> Verdict:
    """The agent never told how it ended: good if the master says so, or if it was to be killed."""
    if over.exit_code == 0:
        return Verdict("ended", exit_code=0)
    return Verdict("ended" if entry.asked else "lost", message=over.message)


class _Everything:
    """All tasks of the moment, as references made when they are wanted: there may be 100 000. Always true."""

    def __init__(self, tasks: dict[str, _Entry]) -> None:
        self._tasks = tasks
        self._names = list(tasks)

    def __iter__(self) -> Iterator[TaskRef]:
        for name in self._names:
            entry = self._tasks.get(name)
            if entry is not None and not entry.end:
                yield TaskRef(name, entry.agent)
