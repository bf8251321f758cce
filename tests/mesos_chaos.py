"""Random harm to a server, its driver, the masters and the agents of a cluster, and the accounts of what came of it.

A :class:`Load` makes promises (jobs with a known end) and remembers them, :class:`Chaos` breaks things and mends them,
a :class:`Witness` remembers what Mesos told. What must hold is in :mod:`.acceptance.test_mesos_chaos`.
"""

from __future__ import annotations

import functools
import heapq
import itertools
import random
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import psutil

from tests.doubles.mesos.agent import Agent
from tests.doubles.mesos.cluster import Cluster, ClusterThread
from tests.doubles.mesos.executor import Behaviour
from tests.doubles.mesos.model import Json
from tests.server_process import ServerProcess
from tests.wire import Wire

BACKLOG = 40
LONG_JOBS = 20
LONG_S = 600.0
ENDED = ("FINISHED", "FAILED", "KILLED")
_ENDING = re.compile(r"(?:sleep (?P<seconds>[\d.]+); )?(?:exit (?P<code>\d+)|kill -(?P<signal>\d+) \$\$)$")


class Fate(NamedTuple):
    """How a command ends if nobody interferes."""

    seconds: float
    code: int | None
    signal: int | None

    @classmethod
    def of(cls, command: str) -> Fate:
        """Read it off a command line."""
        found = _ENDING.search(command)
        assert found is not None, command
        code, number = found["code"], found["signal"]
        return cls(float(found["seconds"] or 0), code and int(code), number and int(number))  # type: ignore[arg-type]

    @property
    def state(self) -> str:
        """The state of its job then."""
        return "FINISHED" if self.code == 0 else "FAILED"


def pretend(info: Json) -> Behaviour:
    """What a pretending agent makes of a task."""
    fate = Fate.of(info["command"]["value"])
    return Behaviour(fate.seconds, fate.code if fate.code is not None else -(fate.signal or 0))


# -- promises ----------------------------------------------------------------------------------------------------------


class Promises:
    """What the server has acknowledged.

    Attributes:
        jobs: What was submitted, by job id.
        asked: Jobs that somebody tried to kill; ``killed``: the server said that it will.
        requests: All submissions that were answered, with the ids.
    """

    def __init__(self) -> None:
        self.jobs: dict[int, dict[str, Any]] = {}
        self.asked: set[int] = set()
        self.killed: set[int] = set()
        self.requests: list[tuple[dict[str, Any], list[int]]] = []

    def long(self) -> list[int]:
        """Jobs that will not end by themselves and were not killed."""
        return [job for job, spec in self.jobs.items() if job not in self.killed and is_long(spec)]

    def short(self) -> list[int]:
        """Jobs that end by themselves, oldest first."""
        return sorted(job for job, spec in self.jobs.items() if not is_long(spec))


def is_long(spec: dict[str, Any]) -> bool:
    """Whether only a kill ends it in time."""
    return Fate.of(spec["command"]).seconds >= LONG_S


class Load(threading.Thread):
    """Submits and kills jobs until stopped.

    A submission without an answer is repeated with its key until it has one, and now and then one that had: it must
    give the same jobs again. A kill without an answer promises nothing.

    Args:
        prefix: What each command does first.
    """

    def __init__(self, server: ServerProcess, promises: Promises, seed: int, prefix: str = "") -> None:
        super().__init__(name="load")
        self.failure: Exception | None = None
        self._server, self._promises, self._prefix = server, promises, prefix
        self._credentials = server.credentials()
        self._dice = random.Random(seed)
        self._enough = threading.Event()
        self._pending: dict[str, Any] | None = None

    def run(self) -> None:
        while not self._enough.is_set() and self.failure is None:
            try:
                self._talk()
            except OSError:
                self._enough.wait(0.02)  # the server is down: its successor will answer
            except Exception as error:  # noqa: BLE001  # told by stop(), in the test's thread
                self.failure = error

    def stop(self) -> None:
        """End after the present request; repeat what was never answered, against a server that lives."""
        self._enough.set()
        self.join()
        if self.failure is not None:
            raise self.failure
        wire = Wire(self._server.uri, *self._credentials)
        if self._pending is not None:
            self._submit(wire)
        for job in self._promises.long():
            if job in self._promises.asked:  # nobody knows whether that kill arrived
                self._kill(wire, job)
        wire.close()

    def _talk(self) -> None:
        wire = Wire(self._server.uri, *self._credentials)
        try:
            if self._pending is not None:
                self._submit(wire)
            while not self._enough.is_set():
                self._act(wire)
        finally:
            wire.close()

    def _act(self, wire: Wire) -> None:
        what = self._dice.random()
        long, short = self._promises.long(), self._promises.short()
        if len(long) > LONG_JOBS or (long and what < 0.03):
            self._kill(wire, self._dice.choice(long))
        elif short and what < 0.12:
            self._kill(wire, self._dice.choice(short[-20:]))
        elif self._promises.requests and what < 0.2:
            self._repeat(wire, *self._dice.choice(self._promises.requests[-20:]))
        else:
            self._pending = self._request()
            self._submit(wire)
            # The queue shall hold queued, running and ended jobs at any moment, and not grow without end.
            if len(short) > BACKLOG:
                wire.call("GET", f"/api/v2/jobs/{short[-BACKLOG]}/wait?timeout_s=1")
        self._enough.wait(self._dice.uniform(0.0, 0.03))

    def _request(self) -> dict[str, Any]:
        dice = self._dice
        end = dice.choice(["exit 0", "exit 0", "exit 0", "exit 1", "exit 7", "kill -9 $$", "kill -11 $$"])
        seconds = dice.choice([0.0, 0.0, 0.1, 0.3, 0.8, 1.5, LONG_S if dice.random() < 0.7 else 0.2])
        pause = f"sleep {seconds}; " if seconds else ""
        # Those that run on and on leave most GPUs to the others.
        gpus = dice.choice([0, 0, 0, 0, 1]) if seconds < LONG_S or self._free_of_gpus() else 0
        resources = {"cpus": dice.choice([0.25, 0.5]), "mem": 64, "ports": dice.choice([0, 0, 0, 2]), "gpus": gpus}
        job = {"command": f"{self._prefix}{pause}{end}", "resources": resources, "kill_grace_s": 0.2}
        return {"key": f"{dice.getrandbits(64):x}", "jobs": [job] * (1 if gpus else dice.choice([1, 1, 1, 4]))}

    def _free_of_gpus(self) -> bool:
        return not any(self._promises.jobs[job]["resources"]["gpus"] for job in self._promises.long())

    def _submit(self, wire: Wire) -> None:
        request = self._pending
        assert request is not None
        ids = submit(wire, request)
        self._promises.jobs.update(dict.fromkeys(ids, request["jobs"][0]))
        self._promises.requests.append((request, ids))
        self._pending = None

    def _repeat(self, wire: Wire, request: dict[str, Any], ids: list[int]) -> None:
        again = submit(wire, request)
        assert again == ids, f"the same key gave {again} instead of {ids}"

    def _kill(self, wire: Wire, job: int) -> None:
        self._promises.asked.add(job)
        status, answer = wire.call("DELETE", f"/api/v2/jobs/{job}")
        assert status in (202, 409), answer
        if status == 202 or is_long(self._promises.jobs[job]):  # only a kill can have ended those
            self._promises.killed.add(job)


def submit(wire: Wire, request: dict[str, Any]) -> list[int]:
    """Submit; gives the ids."""
    status, answer = wire.call("POST", "/api/v2/jobs", request)
    assert status in (200, 201), answer
    return list(answer["ids"])


# -- what Mesos said ---------------------------------------------------------------------------------------------------


class Told(NamedTuple):
    """A status that went to the framework."""

    at: float
    state: str
    reason: str
    message: str
    uuid: str

    @property
    def result(self) -> bool:
        """It is the end of the command, as its own executor saw it."""
        if not self.uuid or self.state not in ("TASK_FINISHED", "TASK_FAILED", "TASK_KILLED"):
            return False
        return self.reason in ("", "REASON_MAX_COMPLETION_TIME_REACHED")

    @property
    def loss(self) -> bool:
        """A reason to try the task again."""
        states = ("TASK_STAGING", "TASK_STARTING", "TASK_RUNNING", "TASK_KILLING", "TASK_FINISHED")
        return self.state not in states and not self.result


class Witness:
    """All statuses that went to the framework, by task."""

    def __init__(self, cluster: Cluster) -> None:
        self.told: dict[str, list[Told]] = {}
        for master in cluster.masters:
            master.witnesses.append(self._hear)

    def _hear(self, _framework: str, status: Json) -> None:
        text = {name: str(status.get(name, "")) for name in ("state", "reason", "message", "uuid")}
        self.told.setdefault(status["task_id"]["value"], []).append(Told(time.time(), **text))


def launches(cluster: Cluster) -> Counter[str]:
    """How often each task was in an ACCEPT."""
    return Counter(
        info["task_id"]["value"]
        for body in cluster.bodies("ACCEPT")
        for operation in body["accept"]["operations"]
        for info in operation["launch"]["task_infos"]
    )


def acknowledged(cluster: Cluster) -> dict[str, float]:
    """The uuids that the framework acknowledged, and when it did so first."""
    calls = [call for master in cluster.masters for call in master.calls if call.type == "ACKNOWLEDGE"]
    return {call.body["acknowledge"]["uuid"]: call.at for call in sorted(calls, key=lambda call: -call.at)}


# -- harm --------------------------------------------------------------------------------------------------------------


class Chaos:
    """Breaks things; each is mended by itself after a while, or by :meth:`heal`.

    Attributes:
        done: How often each fault happened.
        processes: Everything that ever belonged to the server.
    """

    def __init__(self, server: ServerProcess, cluster: ClusterThread, dice: random.Random) -> None:
        self.done: Counter[str] = Counter()
        self.processes: dict[int, psutil.Process] = {}
        self._server, self._cluster, self._dice = server, cluster, dice
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._whole: list[Agent] = list(cluster.cluster.agents)
        self._masters = ThreadPoolExecutor(1)
        self._changing: Future[None] | None = None
        self._server_up = True
        self._stopped: list[psutil.Process] = []
        self._faults: dict[str, Callable[[], None]] = {
            "server": self._kill_server,
            "driver": lambda: self._kill_child("driver"),
            "server and driver": self._kill_both,
            "observer": lambda: self._kill_child("observer"),
            "driver stopped": lambda: self._stop("driver"),
            "server stopped": lambda: self._stop("server"),
            "failover": self._fail_over,
            "other leader": self._other_leader,
            "stall": self._stall,
            "streams": lambda: self._cluster.do(Cluster.drop_streams),
            "crash": lambda: self._hurt(Agent.crash, Agent.restart, 5.0),
            "short crash": lambda: self._hurt(Agent.crash, Agent.restart, 0.2),
            "partition": lambda: self._hurt(Agent.lose, Agent.find, 5.0),
            "goodbye": lambda: self._hurt(Agent.shutdown_gracefully, Agent.restart, 1.0),
            "wipe": lambda: self._hurt(Agent.wipe, lambda agent: None, 0.5),
            "drain": self._drain,
            "gone": self._gone,
            "updates": self._disturb,
        }

    def cycle(self, faults: int) -> None:
        """Some faults, one after the other."""
        for name in self._dice.sample(sorted(self._faults), faults):
            self.done[name] += 1
            self._faults[name]()
            self.pass_time(self._dice.uniform(0.0, 0.3))

    def pass_time(self, seconds: float) -> None:
        """Let things go on, and mend what is due."""
        until = time.monotonic() + seconds
        while self._due and self._due[0][0] <= until:
            at, _, mend = heapq.heappop(self._due)
            threading.Event().wait(max(0.0, at - time.monotonic()))
            mend()
        threading.Event().wait(max(0.0, until - time.monotonic()))

    def heal(self) -> None:
        """Mend everything now."""
        while self._due:
            heapq.heappop(self._due)[2]()
        if self._changing is not None:
            self._changing.result()
        self._cluster.do(Cluster.calm_updates)

    def ask_where(self) -> None:
        """Server and driver write to their log where they are."""
        for name, process in self.family().items():
            if name in ("server", "driver"):
                _signal(process, signal.SIGUSR1)
                time.sleep(0.5)  # for a person to read; nothing depends on it

    def close(self) -> None:
        """Let nothing stay stopped, whatever became of the test."""
        for process in self._stopped:
            _signal(process, signal.SIGCONT)
        self._masters.shutdown()

    def _later(self, longest: float, mend: Callable[[], None]) -> None:
        at = time.monotonic() + self._dice.uniform(0.0, longest)
        heapq.heappush(self._due, (at, next(self._numbers), mend))

    # -- our processes -------------------------------------------------------------------------------------------------

    def family(self) -> dict[str, psutil.Process]:
        """The server and its children, by their names."""
        if self._server.process is None:
            return {}
        found = {"server": psutil.Process(self._server.process.pid)}
        for child in found["server"].children():
            try:
                name = child.cmdline()[-1].rpartition(".")[2].removeprefix("hurried_")
            except (psutil.Error, IndexError):
                continue  # it just ended
            found[name] = child
        self.processes.update({each.pid: each for each in found.values()})
        return found

    def _kill_server(self) -> None:
        if self._server_up:
            self.family()
            self._server_up = False
            self._server.kill()
            self._later(0.5, self._start_server)

    def _start_server(self) -> None:
        self._server.start()
        self._server_up = True

    def _kill_child(self, name: str) -> None:
        if (child := self.family().get(name)) is not None:
            _signal(child, signal.SIGKILL)

    def _kill_both(self) -> None:
        if self._dice.random() < 0.5:
            self._kill_child("driver")
        driver = self.family().get("driver")
        self._kill_server()
        if driver is not None:
            _signal(driver, signal.SIGKILL)

    def _stop(self, name: str) -> None:
        if (process := self.family().get(name)) is not None:
            self._stopped.append(process)
            _signal(process, signal.SIGSTOP)
            self._later(self._dice.choice([0.8, 3.0]), lambda: _signal(process, signal.SIGCONT))

    # -- masters -------------------------------------------------------------------------------------------------------

    def _change(self, what: Callable[[Cluster], Any]) -> None:
        """One change of masters at a time, beside everything else."""
        if self._changing is None or self._changing.done():
            if self._changing is not None:
                self._changing.result()
            self._changing = self._masters.submit(self._cluster.do, what)

    def _fail_over(self) -> None:
        away, agents_after = self._dice.uniform(0.0, 0.7), self._dice.choice([0.0, 0.0, 0.3, 1.0])
        self._change(lambda cluster: cluster.fail_over(away, agents_after=agents_after))

    def _other_leader(self) -> None:
        election = self._dice.uniform(0.0, 0.5)

        async def change(cluster: Cluster) -> None:
            old = cluster.masters.index(cluster.master)
            await cluster.fail_over_to((old + 1) % len(cluster.masters), election=election)
            await cluster.revive(old)

        self._change(change)

    def _stall(self) -> None:
        self._cluster.do(Cluster.stall)
        self._later(0.8, lambda: self._cluster.do(_resume))

    # -- agents --------------------------------------------------------------------------------------------------------

    def _hurt(self, harm: Callable[[Agent], None], mend: Callable[[Agent], None], longest: float) -> None:
        for agent in self._victims():
            self._harm(agent, harm)
            self._later(longest, functools.partial(self._mend, agent, mend))

    def _harm(self, agent: Agent, harm: Callable[[Agent], None]) -> None:
        self._cluster.do(lambda _: harm(agent))

    def _victims(self) -> Sequence[Agent]:
        victims = self._dice.sample(self._whole, min(len(self._whole), self._dice.choice([1, 1, 2, 4])))
        for agent in victims:
            self._whole.remove(agent)
        return victims

    def _mend(self, agent: Agent, mend: Callable[[Agent], None]) -> None:
        self._harm(agent, mend)
        self._whole.append(agent)

    def _drain(self) -> None:
        cluster = self._cluster.cluster

        def drain(agent: Agent) -> None:
            cluster.master.drain(agent.id, {})

        def reactivate(agent: Agent) -> None:
            cluster.master.reactivate(agent.id)

        self._hurt(drain, reactivate, 1.0)

    def _gone(self) -> None:
        cluster = self._cluster.cluster

        def gone(agent: Agent) -> None:
            cluster.master.mark_gone(agent.id)

        self._hurt(gone, Agent.wipe, 1.0)

    # -- updates -------------------------------------------------------------------------------------------------------

    def _disturb(self) -> None:
        duplicate, longest = self._dice.choice([0.0, 0.3, 1.0]), self._dice.choice([0.0, 0.1, 0.6])
        seed = self._dice.getrandbits(32)
        self._cluster.do(lambda cluster: cluster.disturb_updates(duplicate=duplicate, delay=(0.0, longest), seed=seed))
        self._later(3.0, lambda: self._cluster.do(Cluster.calm_updates))


def _resume(cluster: Cluster) -> None:
    for master in cluster.masters:
        master.resume()


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return  # somebody else was quicker
