"""How fast the local engine alone runs jobs that do nothing, against ``xargs -P2`` in the same run.

Run as a program: ``python tests/benchmarks/bench_local.py [jobs]``. No HTTP, no store: one strict round trip per job
(the next job of a slot is handed over when the end of the last one is known), sandbox and output files included.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from retz.engine.base import Task, Update
from retz.engine.local.engine import LocalEngine
from retz.model.agent import Offer
from retz.model.resources import Resources

SLOTS = 2
ONE = Resources(cpus=1.0, mem=64)


class Runner:
    """A listener that keeps the slots full until all jobs are done."""

    def __init__(self, jobs: int) -> None:
        self.engine: LocalEngine
        self.left, self.running, self.done = jobs, 0, 0
        self.jobs = jobs
        self.finished = asyncio.get_running_loop().create_future()
        self.environment = {name: value for name, value in os.environ.items() if "\n" not in value}

    def offers(self, offers: Sequence[Offer]) -> None:
        for offer in offers:
            count = min(self.left, offer.room[0] // 1000)
            if count:
                self.engine.launch(offer, [self.task(self.left - number) for number in range(count)])
                self.left -= count

    def task(self, number: int) -> Task:
        return Task(
            id=f"{number}.1",
            agent="",
            command="true",
            environment=self.environment,
            resources=ONE,
            mem_limit_mb=64,
            timeout_s=3600.0,
        )

    def rescinded(self, offer_ids: Sequence[str]) -> None:
        pass

    def updates(self, updates: Sequence[Update]) -> None:
        for update in updates:
            if update.kind == "started":
                continue
            if update.kind != "ended" or update.exit_code != 0:
                self.finished.set_exception(RuntimeError(f"not as expected: {update}"))
            self.done += 1
        self.engine.acknowledge([update.seq for update in updates if update.seq])
        if self.done == self.jobs:
            self.finished.set_result(None)

    def agents_changed(self) -> None:
        pass

    def failed(self, message: str) -> None:
        self.finished.set_exception(RuntimeError(message))

    def recovered(self) -> None:
        pass


async def run_engine(jobs: int, directory: Path) -> float:
    """Return the seconds that ``jobs`` jobs take."""
    runner = Runner(jobs)
    engine = LocalEngine(directory, total=Resources(cpus=float(SLOTS), mem=4096, disk=1024))
    runner.engine = engine
    before = time.perf_counter()
    await engine.start(runner, [])
    print(f"engine start: {(time.perf_counter() - before) * 1000:.0f} ms")
    before = time.perf_counter()
    await runner.finished
    took = time.perf_counter() - before
    await asyncio.sleep(0)
    await engine.stop()
    return took


def run_xargs(jobs: int) -> float:
    """Return the seconds that xargs takes."""
    before = time.perf_counter()
    text = "\n".join(str(number) for number in range(jobs))
    subprocess.run(["xargs", "-P2", "-n1", "sh", "-c", "true"], input=text, text=True, check=True)
    return time.perf_counter() - before


def end_launcher(directory: Path) -> str:
    """End the launcher and say what it used."""
    pid = int((directory / "launcher.lock").read_text())
    stat = (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()
    rss = (Path("/proc") / str(pid) / "status").read_text().partition("VmRSS:")[2].split()[0]
    os.kill(pid, signal.SIGTERM)
    os.waitpid(pid, 0)
    tick = os.sysconf("SC_CLK_TCK")
    return f"launcher {int(stat[11]) / tick:.2f} s user, {int(stat[12]) / tick:.2f} s system, {int(rss) / 1024:.1f} MiB"


def main() -> None:
    """Measure in turns, because machines get faster and slower, and print the best of each."""
    jobs = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    import uvloop

    xargs, engine = [], []
    # One directory, removed at the very end: ext4 is slow for seconds after thousands of removals.
    with tempfile.TemporaryDirectory() as directory:
        for turn in range(5):
            xargs.append(run_xargs(jobs))
            where = Path(directory) / str(turn)
            engine.append(uvloop.run(run_engine(jobs, where)))
            spent = end_launcher(where)
            print(f"xargs {xargs[-1]:.3f} s, engine {engine[-1]:.3f} s: {xargs[-1] / engine[-1]:.2f}; {spent}")
    print(f"best of each: {min(xargs) / min(engine):.2f} x xargs, {min(engine) / jobs * 1e6:.0f} us a job")


if __name__ == "__main__":
    main()
