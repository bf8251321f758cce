"""What answers cost: ``why`` in a long queue, looks at what shapes wait for, and watching a thousand running jobs.

Run: ``python -m tests.benchmarks.bench_why [queued|running]``. Prints one JSON object.

``queued``: 100 000 jobs in 500 shapes wait for 1 000 full agents. ``running``: 1 000 real jobs of known pipelines on
the local engine, sampled and watched every 5 s; server and launcher together.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from retz.engine.local.engine import LocalEngine
from retz.model.agent import Agent
from retz.model.job import Attempt, Job, Usage
from retz.model.resources import Resources
from retz.model.submission import JobSpec, ResourcesSpec
from tests.integration.http_site import ANN, PuppetEngine, Site, running_site

JOBS, SHAPES, AGENTS = 100_000, 500, 1_000
RUNNING = 1_000
LOOK_EVERY_S, LOOKS = 5.0, 6


class Heart:
    """The longest time that the loop computed without a turn for others; other processes do not count."""

    def __init__(self) -> None:
        self.longest_s = 0.0

    async def beat(self) -> None:
        """Until it is cancelled."""
        before = time.process_time()
        while True:
            await asyncio.sleep(0)
            now = time.process_time()
            self.longest_s, before = max(self.longest_s, now - before), now

    async def during(self, work: Awaitable[Any]) -> float:
        """Seconds that work computed."""
        beating = asyncio.create_task(self.beat())
        await asyncio.sleep(0)
        begun = time.process_time()
        await work
        took = time.process_time() - begun
        beating.cancel()
        await asyncio.gather(beating, return_exceptions=True)
        return took


async def queued(directory: Path) -> dict[str, Any]:
    """Figures of a long queue."""
    agents = [Agent(id=f"a{n}", host=f"h{n}", total=Resources(600, 4096, 0, 0, 0)) for n in range(AGENTS)]
    async with running_site(directory, {"retz.planner.name": "fifo"}, engine=PuppetEngine(agents)) as site:
        site.core.dispatcher.live.mode = "paused"
        specs = [JobSpec("true", resources=ResourcesSpec(1 + n % SHAPES, 5 + n % SHAPES)) for n in range(JOBS)]
        ids, _ = await site.core.submissions.submit(ANN, specs, None, "")
        site.core.dispatcher.live.mode = "open"
        site.core.scheduler.rescind(list(site.core.scheduler.offers))
        for agent in agents:
            site.core.dispatcher.ledger.by_agent[agent.id] = agent.total.vector
        heart = Heart()
        look_s = [await heart.during(site.core.observer._look()) for _ in range(3)]
        why_ms = [await ask(site, ids[n]) for n in range(7, JOBS, JOBS // 40)]
        one = (await site.get(f"/jobs/{ids[-1]}/why")).json
        assert one["blocked_by"] == "room" and one["ahead"] > 0, one
        await site.ask("POST", "/api/v2/jobs/kill", filter={"state": ["LIVE"]})
    return {
        "why_ms_100k": round(statistics.median(why_ms), 1),
        "why_ms_100k_max": round(max(why_ms), 1),
        "look_ms": round(statistics.median(look_s) * 1e3, 1),
        "look_holds_loop_ms": round(heart.longest_s * 1e3, 2),
    }


async def ask(site: Site, job_id: int) -> float:
    """Milliseconds that an answer computes, HTTP, signature and the client included."""
    begun = time.process_time()
    assert (await site.get(f"/jobs/{job_id}/why")).status == 200
    return (time.process_time() - begun) * 1e3


async def running(directory: Path) -> dict[str, Any]:
    """Figures of many running jobs."""
    engine = LocalEngine(
        directory / "engine", total=Resources(RUNNING, 4 * RUNNING), gpus=(), sample_interval_s=LOOK_EVERY_S,
        linger_s=0.0,
    )  # fmt: skip
    async with running_site(directory, engine=engine) as site:
        await site.core.learner.loaded()
        for number in range(100):
            past(site, f"p{number}")
        specs = [
            JobSpec(("sleep", "600"), resources=ResourcesSpec(1, 4), pipeline=f"p{n % 100}", name="step")
            for n in range(RUNNING)
        ]
        await site.core.submissions.submit(ANN, specs, None, "")
        count = site.core.db.jobs.count
        while count("state", "STARTED") < RUNNING:  # noqa: ASYNC110 (no event exists for what benchmarks look at)
            await asyncio.sleep(0.1)
        launcher = int((directory / "engine" / "launcher.lock").read_text())
        heart, before, begun = Heart(), (cpu_of(launcher), time.process_time()), time.perf_counter()
        look_s = []
        for _ in range(LOOKS):
            look_begun = time.perf_counter()
            await site.core.watch.look()
            look_s.append(time.perf_counter() - look_begun)
            await asyncio.sleep(LOOK_EVERY_S - look_s[-1])
        took = time.perf_counter() - begun
        percents = [
            100 * (now - then) / took for now, then in zip((cpu_of(launcher), time.process_time()), before, strict=True)
        ]
        await heart.during(site.core.watch.look())
        flagged = sum(bool(job.off_path) for job in site.core.db.jobs.records().values())
        await site.ask("POST", "/api/v2/jobs/kill", filter={"state": ["LIVE"]})
        while site.core.dispatcher.ledger.running:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    assert flagged == 0, flagged
    return {
        "sampling_percent_of_core": round(sum(percents), 2),
        "sampling_launcher_percent": round(percents[0], 2),
        "sampling_server_percent": round(percents[1], 2),
        "watch_look_ms": round(statistics.median(look_s) * 1e3, 1),
        "watch_holds_loop_ms": round(heart.longest_s * 1e3, 2),
    }


def past(site: Site, pipeline: str) -> None:
    """Ten runs of a step that took long and held much, more and more."""
    usage = Usage(cpu_s=1.0, max_rss_mb=50.0, interval_s=15.0, series=tuple((100, mib // 5) for mib in range(10, 250)))
    attempt = Attempt(1, "a", 0.0, started=0.0, ended=3600.0, exit_code=0, usage=usage)
    job = Job(
        id=1, owner=ANN.key, command="x", name="step", resources=Resources(1, 4), submitted=0.0, state="FINISHED",
        ended=3600.0, attempts=(attempt,), pipeline=pipeline,
    )  # fmt: skip
    for run in range(10):
        site.core.learner.past.add(replace(job, run=f"r{run}"))


def cpu_of(pid: int) -> float:
    """Processor seconds of a process, without its children's."""
    stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Measure what is asked for, or all."""
    wanted = sys.argv[1:] or ["queued", "running"]
    figures: dict[str, Any] = {}
    for name in wanted:
        with tempfile.TemporaryDirectory(dir=os.environ.get("RETZ_BENCH_DIR", "/var/tmp")) as directory:
            figures.update(asyncio.run({"queued": queued, "running": running}[name](Path(directory))))
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
