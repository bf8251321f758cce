"""The Mesos engine against the double, whose agents pretend. Prints one JSON object a figure.

Server, its two children, the double (in a process of its own) and this client share the machine's processors; the
journal is on a real disk. Run single figures by name: ``python -m tests.benchmarks.bench_mesos offer_to_launch``.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psutil

from retz.engine.mesos import engine as engines
from retz.engine.mesos import wire
from retz.engine.mesos.framework import MesosOptions
from retz.model.job import Attempt, Job
from retz.model.resources import Resources
from retz.scheduler.scheduler import Scheduler
from retz.server.counters import Counters
from retz.server.dispatcher import Dispatcher
from retz.server.main import GC_THRESHOLDS, SWITCH_INTERVAL_S, _loop_factory
from retz.store.aggregates import MinuteCollector
from retz.store.database import Change, Database
from tests.benchmarks.bench_server import _LEFT, clean_up, server, set_mode, submit_many, wait_idle
from tests.benchmarks.bench_server import wire as connect
from tests.benchmarks.mesos_cluster import FOREVER, ClusterProcess, cluster_process
from tests.server_process import ServerProcess
from tests.wire import Wire

PING_EVERY_S = 0.002


def on(cluster: ClusterProcess, **settings: str) -> Any:
    """A server on this cluster that watches its loop; for ``with``."""
    everything = {"RETZ_MESOS_MASTER": cluster.address, "RETZ_MESOS_USER": "root", **settings}
    return server("mesos", settings=everything, module="tests.benchmarks.watched_server")


class Pinger:
    """A neighbour: asks for one thing again and again, in a thread."""

    def __init__(self, running: ServerProcess, target: str = "") -> None:
        self.delays: list[float] = []
        self._running, self._target = running, target
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Pinger:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self.delays.sort()

    def _run(self) -> None:
        connection = connect(self._running)
        ping = b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n"
        while not self._stop.wait(PING_EVERY_S):
            request = connection.build("GET", self._target) if self._target else ping
            began = time.perf_counter()
            connection.socket.sendall(request)
            status, _ = connection.receive()
            self.delays.append(time.perf_counter() - began)
            assert status == 200
        connection.close()


def share(delays: Sequence[float], part: float) -> float:
    """The quantile of sorted seconds, in milliseconds."""
    return round(delays[min(len(delays) - 1, int(len(delays) * part))] * 1e3, 1)


def loop_seen(running: ServerProcess, name: str = "loop") -> dict[str, float]:
    """The longest and the p99.9 turn of the server's loop since the last question, in milliseconds."""
    path = running.home / "loop.json"
    path.unlink(missing_ok=True)
    assert running.process is not None
    running.process.send_signal(signal.SIGUSR1)
    wait_until(path.exists)
    return {f"{name}_{what}_ms": value for what, value in json.loads(path.read_text()).items()}


def wait_until(condition: Callable[[], bool], every_s: float = 0.02, patience_s: float = 900.0) -> float:
    """Seconds until it holds. ``every_s``: between two looks, which take time from what is looked at.

    Raises:
        TimeoutError: it did not.
    """
    began = time.perf_counter()
    while not condition():
        if time.perf_counter() - began > patience_s:
            raise TimeoutError
        time.sleep(every_s)
    return time.perf_counter() - began


def processors(pids: Sequence[int]) -> list[float]:
    """Seconds of processor that these processes used so far."""
    return [sum(psutil.Process(pid).cpu_times()[:2]) for pid in pids]


def children(running: ServerProcess) -> dict[str, int]:
    """Process ids of the server's children, by name: driver, observer."""
    assert running.process is not None
    found = {}
    for child in psutil.Process(running.process.pid).children():
        name = child.cmdline()[-1].rpartition(".")[2]
        if name in ("driver", "observer"):
            found[name] = child.pid
    return found


def throughput(count: int = 5_000, agents: int = 100, cpus: float = 16.0) -> dict[str, Any]:
    """Tasks a second from queued to durably finished; tasks that end at once."""
    with cluster_process(agents, cpus) as cluster, on(cluster) as running:
        wait_idle(running, submit_many(running, 200, lambda _: {"command": "true"}))
        set_mode(running, "paused")
        last = submit_many(running, count, lambda _: {"command": "true"})
        assert running.process is not None
        names = {"server": running.process.pid, "double": cluster.pid, **children(running)}
        before = processors(list(names.values()))
        loop_seen(running)
        with Pinger(running) as neighbour:
            began = time.perf_counter()
            set_mode(running, "open")
            wait_idle(running, last)
            took = time.perf_counter() - began
        used = [after - b for after, b in zip(processors(list(names.values())), before, strict=True)]
        return {
            "mesos_jobs_per_s": round(count / took),
            "seconds": round(took, 2),
            "mesos_neighbour_p99_ms": share(neighbour.delays, 0.99),
            "mesos_neighbour_max_ms": share(neighbour.delays, 1.0),
            **loop_seen(running, "mesos_loop"),
            "cpu_ms_per_job": {name: round(s / count * 1e3, 2) for name, s in zip(names, used, strict=True)},
        }


def offer_to_launch(count: int = 100, agents: int = 50) -> dict[str, Any]:
    """From an offer's making in the double until the ACCEPT of it arrives there; one job at a time."""
    with cluster_process(agents, 4.0) as cluster, on(cluster) as running:
        wait_idle(running, submit_many(running, 20, lambda _: {"command": "true"}))
        cluster.ask("forget")
        for _ in range(count):
            wait_idle(running, submit_many(running, 1, lambda _: {"command": "true"}))
        delays = sorted(cluster.ask("latencies")["latencies"])
        return {
            "launches": len(delays),
            "offer_to_launch_p50_ms": share(delays, 0.5),
            "offer_to_launch_p99_ms": share(delays, 0.99),
        }


# -- a large cluster: what a round of offers costs, without processes --------------------------------------------


class Quiet:
    """Stands for a child process: what it would be told is made into bytes, and forgotten."""

    def __init__(self, *_: object, **__: object) -> None:
        self.accepted = 0
        """Offers."""
        self.sent = 0

    async def start(self) -> None:
        """Nothing to start."""

    async def stop(self) -> None:
        """Nothing to stop."""

    def send(self, *messages: wire.Message) -> bool:
        """As the real one does, but for the write."""
        self.sent += len(wire.frame(messages))
        self.accepted += sum([len(m.offers) for m in messages if isinstance(m, wire.Accept)])
        return True


class Large:
    """Agents that are nearly full, and many jobs queued; engine, dispatcher, scheduler and store as in the server."""

    def __init__(self, home: Path, agents: int, running: int, queued: int, shapes: int) -> None:
        self.agents, self.shapes = agents, shapes
        self.db = Database.open(home / "data")
        now = time.time()
        jobs = [self._running(n, now) for n in range(1, running + 1)]
        jobs += [self._queued(n, now) for n in range(running + 1, running + queued + 1)]
        for start in range(0, len(jobs), 10_000):
            ticket = self.db.apply([Change("jobs", job.id, job) for job in jobs[start : start + 10_000]])
        ticket.wait()
        with patch.object(engines, "Child", Quiet):
            self.engine = engines.MesosEngine(home / "mesos", MesosOptions(master="m:5050", user="root"))
        self.driver: Any = self.engine._driver
        self.dispatcher = Dispatcher(
            self.db,
            Scheduler(),
            self.engine,
            clock=time.time,
            counters=Counters(),
            collector=MinuteCollector(),
        )

    def _running(self, number: int, now: float) -> Job:
        agent = f"{SOME_ID}-S{number % self.agents}"
        return Job(
            id=number,
            owner="a" * 32,
            command=FOREVER,
            resources=Resources(1, 512),
            submitted=now,
            state="STARTED",
            attempts=(Attempt(number=1, agent=agent, launched=now, started=now),),
        )

    def _queued(self, number: int, now: float) -> Job:
        resources = Resources(cpus=0.5 + number % self.shapes / 1000, mem=512)
        return Job(id=number, owner="a" * 32, command=FOREVER, resources=resources, submitted=now)

    async def start(self) -> None:
        """Adopt, subscribe."""
        self.db.attach(asyncio.get_running_loop())
        await self.dispatcher.start()
        self.engine._heard(wire.Subscribed(f"{SOME_ID}-0000", "m:5050", "1.12.0"))
        saving = self.engine._saving
        assert saving is not None
        await saving  # then the framework id is on disk
        seen = [self._seen(number) for number in range(self.agents)]
        for start in range(0, self.agents, wire.ITEMS):
            self.engine._heard(wire.Agents(seen[start : start + wire.ITEMS], anew=start == 0))

    def _seen(self, number: int) -> wire.SeenAgent:
        total = (21_000, 1_000_000, 1_000_000, 0, 101)
        held = (20_000, 10_240, 0, 0, 0)
        nothing = (0, 0, 0, 0, 0)
        url = f"http://10.0.{number // 256}.{number % 256}:5051/slave(1)"
        attributes: dict[str, Any] = {"rack": "r1"}
        return wire.SeenAgent(
            f"{SOME_ID}-S{number}", f"host{number}", url, total, held, held, nothing, "active", attributes
        )

    async def round(self, number: int) -> tuple[float, float, float, float]:
        """Seconds until all is decided, until all is told to the driver, of the longest turn, of processor time."""
        messages = list(self._offers(number))
        self.driver.accepted = 0
        longest = 0.0
        launched = self.dispatcher._counters.launched
        decided = 0.0
        used = time.thread_time()
        began = seen = time.perf_counter()
        for message in messages:
            self.engine._heard(message)
            await asyncio.sleep(0)
            now = time.perf_counter()
            longest, seen = max(longest, now - seen), now
        while self.driver.accepted < self.agents:
            if not decided and self.dispatcher._counters.launched - launched >= self.agents:
                decided = seen
            await asyncio.sleep(0)
            now = time.perf_counter()
            longest, seen = max(longest, now - seen), now
        return (decided or seen) - began, seen - began, longest, time.thread_time() - used

    def _offers(self, number: int) -> Iterator[wire.Offers]:
        offers = [
            wire.MesosOffer(
                f"{SOME_ID}-O{number}-{n}",
                f"{SOME_ID}-S{n}",
                f"host{n}",
                f"http://10.0.{n // 256}.{n % 256}:5051/slave(1)",
                "*",
                (
                    wire.Entry("ports", 101.0, ((31000, 31100),)),
                    wire.Entry("cpus", 0.9),
                    wire.Entry("mem", 2048.0),
                    wire.Entry("disk", 10_000.0),
                ),
                {"rack": "r1"},
            )
            for n in range(self.agents)
        ]
        for start in range(0, len(offers), wire.ITEMS):
            yield wire.Offers(offers[start : start + wire.ITEMS])

    async def stop(self) -> None:
        """Let go."""
        await self.dispatcher.stop()
        await self.dispatcher.settled()
        self.db.close()


SOME_ID = "0fc1fd8b-97ba-4a1c-9b36-6d7cc4b2d9a7"


async def _rounds(home: Path, agents: int, running: int, queued: int, shapes: int, count: int) -> list[Any]:
    large = Large(home, agents, running, queued, shapes)
    await large.start()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)  # all three as in the server
    results = [await large.round(number) for number in range(count)]
    await large.stop()
    return results


def offers_round(rounds: int = 5, agents: int = 5_000) -> dict[str, Any]:
    """A round of 5 000 offers, each of which gets a job; 100 000 run, 100 000 are queued. In this process.

    Counted, from the first parsed message on: the book of offers, passes of the planner, records, journal lines, and
    the launches of what is durable already. ``told``: until the last launch is on its way to the driver.
    ``cpu``: what of it the loop's thread computed.
    """
    result = {}
    for shapes in (200, 1):
        home = scratch()
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            each = runner.run(_rounds(home, agents, 100_000, 100_000, shapes, rounds))
        for index, name in enumerate(("round_ms", "round_told_ms", "round_longest_turn_ms", "round_cpu_ms")):
            result[f"{name}_{shapes}_shapes"] = round(sorted(r[index] for r in each)[len(each) // 2] * 1e3, 1)
    return result


def scratch() -> Path:
    """A directory on the working disk, removed at the very end."""
    home = Path(tempfile.mkdtemp(prefix="retz-bench-", dir=os.environ.get("RETZ_BENCH_DIR", "/var/tmp")))
    _LEFT.append(home)
    return home


# -- a large cluster with all its processes -----------------------------------------------------------------------


def large_cluster(agents: int = 5_000, running_jobs: int = 100_000, queued: int = 100_000) -> dict[str, Any]:
    """Fill a cluster; memory; a round of offers from end to end; reconciliation after the driver's and our own end."""
    per_agent = running_jobs // agents
    # Here all agents are one process on our processors; asking 5 000 of them every ten seconds for their tasks' use
    # would measure that process.
    rarely = {"RETZ_MESOS_SAMPLE_INTERVAL": "60s"}
    with cluster_process(agents, float(per_agent)) as cluster, on(cluster, **rarely) as running:
        job = {"command": FOREVER, "resources": {"cpus": 1, "mem": 100}}
        began = time.perf_counter()
        set_mode(running, "paused")
        submit_many(running, running_jobs + queued, lambda _: job)
        result: dict[str, Any] = {"submit_s": round(time.perf_counter() - began, 1)}
        loop_seen(running)
        began = time.perf_counter()
        set_mode(running, "open")
        connection = connect(running)
        wait_until(lambda: started(connection) == running_jobs, 0.5)
        result["fill_tasks_per_s"] = round(running_jobs / (time.perf_counter() - began))
        result |= loop_seen(running, "fill_loop")
        wait_until(lambda: cluster.ask("states")["unacknowledged"] == 0, 2.0)
        result |= memory(running)
        result |= end_to_end_round(running, cluster, running_jobs)
        result |= reconciliation(running, cluster, running_jobs, "driver", kill_driver)
        result |= reconciliation(running, cluster, running_jobs, "restart", restart)
        return result | {f"{name}_after_restart": mb for name, mb in memory(running).items()}


def started(connection: Wire) -> int:
    """How many jobs run."""
    status, answer = connection.call("GET", "/api/v2/status")
    assert status == 200, answer
    return int(answer["started"])


def memory(running: ServerProcess) -> dict[str, int]:
    """Megabytes of the server and of its children."""
    assert running.process is not None
    pids = {"mesos_server_mb": running.process.pid}
    pids |= {f"{name}_mb": pid for name, pid in children(running).items()}
    return {name: round(psutil.Process(pid).memory_info().rss / 1e6) for name, pid in pids.items()}


def end_to_end_round(running: ServerProcess, cluster: ClusterProcess, running_jobs: int) -> dict[str, float]:
    """A task ends on each agent: from the offers of that to the last ACCEPT, in the double."""
    connection = connect(running)
    cluster.ask("forget")
    cluster.ask("end_one_each")
    wait_until(lambda: bool(cluster.ask("last_round")["offered"]))
    wait_until(lambda: started(connection) == running_jobs, 0.2)
    delays = sorted(cluster.ask("latencies")["latencies"])
    return {"offers_used": len(delays), "last_offer_used_ms": share(delays, 1.0)}


def kill_driver(running: ServerProcess) -> None:
    """``kill -9``."""
    os.kill(children(running)["driver"], signal.SIGKILL)


def restart(running: ServerProcess) -> None:
    """``kill -9`` of the server, and start it again."""
    running.kill()
    running.start()


def reconciliation(
    running: ServerProcess, cluster: ClusterProcess, tasks: int, name: str, event: Callable[[ServerProcess], None]
) -> dict[str, Any]:
    """What a neighbour who asks for the status waits until every task has been asked for, and all of them at once."""
    cluster.ask("forget")
    event(running)

    def over() -> bool:
        seen = cluster.ask("reconciled")
        return bool(seen["asked"] >= tasks and seen["asked_all"] and not seen["unsent"])

    with Pinger(running, "/api/v2/status") as neighbour:
        loop_seen(running)
        took = wait_until(over, 0.2)
        time.sleep(1.0)  # what is still in pipes belongs to it
    return {
        f"reconcile_{name}_s": round(took, 1),
        f"reconcile_{name}_status_p99_ms": share(neighbour.delays, 0.99),
        f"reconcile_{name}_status_max_ms": share(neighbour.delays, 1.0),
        **loop_seen(running, f"reconcile_{name}"),
    }


FIGURES: tuple[Callable[[], dict[str, Any]], ...] = (throughput, offer_to_launch, offers_round, large_cluster)


def main() -> None:
    """Run all figures, or those named on the command line."""
    wanted = sys.argv[1:]
    try:
        for figure in FIGURES:
            if not wanted or figure.__name__ in wanted:
                print(json.dumps({"figure": figure.__name__, **figure()}), flush=True)
    finally:
        clean_up()


if __name__ == "__main__":
    main()
