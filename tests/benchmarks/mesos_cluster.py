"""A double of a Mesos cluster in a process of its own, for benchmarks, and the handle to it.

Its agents pretend: a command that ends with :data:`FOREVER` runs until :meth:`ClusterProcess.end_one_each`, any other
one ends well at once.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.doubles.mesos.allocator import Grant
from tests.doubles.mesos.cluster import AgentSpec, Cluster
from tests.doubles.mesos.executor import Behaviour, PretendingExecutor
from tests.doubles.mesos.model import Framework, Json

FOREVER = "sleep infinity"


class ClusterProcess:
    """Asks the process; answers are dictionaries."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.pid = process.pid
        self._process = process
        self.address = str(self._read()["address"])

    def ask(self, what: str) -> dict[str, Any]:
        """Call a method of :class:`_Watched` there."""
        assert self._process.stdin is not None
        self._process.stdin.write(what + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the double of Mesos ended")
        found: dict[str, Any] = json.loads(line)
        return found


@contextmanager
def cluster_process(agents: int, cpus: float, **timing: float) -> Iterator[ClusterProcess]:
    """A cluster of equal agents, registered; ``timing`` as in :class:`tests.doubles.mesos.model.Timing`."""
    options = json.dumps({"agents": agents, "cpus": cpus, "timing": timing})
    process = subprocess.Popen(
        [sys.executable, "-m", __name__, options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield ClusterProcess(process)
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


class _Watched:
    """Notes what passes between the master and its one framework."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._master = cluster.master
        self._call, self._offer = self._master.call, self._master._offer
        self._latencies: list[float] = []
        self._round: list[float] = []
        self._asked: set[str] = set()
        self._asked_all = 0
        self._offered = 0
        vars(self._master).update(call=self._called, _offer=self._offering)

    def _offering(self, framework: Framework, grants: list[Grant]) -> None:
        self._offer(framework, grants)
        self._offered += len(grants)
        self._round = [time.time()]

    def _called(self, framework: Framework, call: Json) -> None:
        now = time.time()
        if call["type"] == "ACCEPT":
            offers = (framework.offers.get(each["value"]) for each in call["accept"]["offer_ids"])
            self._latencies += (now - offer.made for offer in offers if offer is not None)
            self._round.append(now)
        elif call["type"] == "RECONCILE":
            tasks = call["reconcile"].get("tasks", ())
            self._asked.update(each["task_id"]["value"] for each in tasks)
            self._asked_all += not tasks
        self._call(framework, call)

    def latencies(self) -> Json:
        """Seconds from an offer's making to the ACCEPT of it, each once."""
        found, self._latencies = self._latencies, []
        return {"latencies": found}

    def last_round(self) -> Json:
        """How many ACCEPTs the last round of offers had, and the seconds until the last of them."""
        began, *accepts = self._round or [0.0]
        return {"accepts": len(accepts), "seconds": max(accepts, default=began) - began, "offered": self._offered}

    def reconciled(self) -> Json:
        """Since the last call of :meth:`forget`: tasks asked for, questions for all, bytes of answers not sent yet."""
        transports = [stream.transport for stream in self._master.streams.values()]
        left = sum(each.get_write_buffer_size() for each in transports if each is not None)
        return {"asked": len(self._asked), "asked_all": self._asked_all, "unsent": left}

    def forget(self) -> Json:
        """Begin to count anew."""
        self._asked.clear()
        self._asked_all = self._offered = 0
        self._latencies.clear()
        return {}

    def states(self) -> Json:
        """How many tasks are in which state, and how many agents there are."""
        return {**self._cluster.states(), "unacknowledged": len(self._cluster.unacknowledged())}

    def end_one_each(self) -> Json:
        """A task ends well on each agent."""
        ended = 0
        for agent in self._cluster.agents:
            run = next(iter(agent.live()), None)
            if run is not None and isinstance(run.executor, PretendingExecutor):
                run.executor._end(0)
                ended += 1
        return {"ended": ended}


def _pretend(info: Json) -> Behaviour:
    forever = str(info["command"]["value"]).endswith(FOREVER)
    return Behaviour(None if forever else 0.0, cpus=0.5)


async def _serve(agents: int, cpus: float, timing: dict[str, Any]) -> None:
    from tests.doubles.mesos.model import Timing

    spec = AgentSpec(cpus=cpus, mem=1e6, disk=1e6, attributes={"rack": "r1"})
    specs = [spec for _ in range(agents)]
    async with Cluster(specs, pretend=_pretend, timing=Timing(**timing), keep_calls=0) as cluster:
        watched = _Watched(cluster)
        print(json.dumps({"address": cluster.address}), flush=True)
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            answer: Callable[[], Json] = getattr(watched, line.decode().strip())
            print(json.dumps(answer()), flush=True)


def main() -> None:
    """Serve until standard input ends."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(**json.loads(sys.argv[1])))


if __name__ == "__main__":
    main()
