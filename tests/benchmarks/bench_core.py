"""What a job costs the server without HTTP: processor time of the loop's thread. Prints one JSON object a figure.

The least of several rounds: other work on the machine only adds. Compare two versions on the same machine, in turn.
``python -m tests.benchmarks.bench_core start``: how long the loop is held while a server that starts reads the past of
120 000 archived runs.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from retz.config_server import load_server
from retz.engine.null import NullEngine
from retz.model.job import Attempt, Job, Usage
from retz.model.resources import Resources
from retz.model.submission import JobSpec
from retz.model.user import User
from retz.server.core import Core
from retz.server.main import GC_THRESHOLDS, SWITCH_INTERVAL_S, _loop_factory
from retz.server.scheduling import scheduler_of
from retz.store.aggregates import AggregateStore
from retz.store.archive import Archive
from retz.store.database import Database
from tests.benchmarks.bench_mesos import loop_seen
from tests.benchmarks.bench_server import COMMAND_600, clean_up, server

ROUNDS = 10
CLIENTS = 16
EACH = 30
BULK = 1_500
READ_WITHIN_S = 6.0
ANN = User(key="a" * 32, secret="s" * 64)


async def _submit(core: Core) -> float:
    """Microseconds a job: single submits by several clients, each with a key."""

    async def client(name: int) -> None:
        for number in range(EACH):
            key = f"{time.monotonic_ns()} {name} {number}"
            await core.submissions.submit(ANN, [JobSpec(command=COMMAND_600)], key, "digest")

    began = time.thread_time()
    await asyncio.gather(*map(client, range(CLIENTS)))
    return (time.thread_time() - began) / (CLIENTS * EACH) * 1e6


async def _through(core: Core) -> float:
    """Microseconds a job, from queued to durably ended through the null engine."""
    await core.submissions.submit(ANN, [JobSpec(command=COMMAND_600)] * BULK, None, "digest")
    await core.settled()
    ended = core.counters.finished
    count = len(core.db.jobs.ids("state", "QUEUED"))
    began = time.thread_time()
    await core.set_mode("open")
    while core.counters.finished < ended + count:  # noqa: ASYNC110 (nothing tells of the last one)
        await asyncio.sleep(0.01)
    await core.settled()
    took = time.thread_time() - began
    await core.set_mode("paused")
    return took / count * 1e6


async def _jobs(directory: Path) -> dict[str, float]:
    config = load_server({"retz.data-dir": str(directory)})
    with Database.open(directory, options=config.store_options()) as db:
        db.attach(asyncio.get_running_loop())
        archive = Archive.open(directory / "archive")
        core = Core(
            db=db,
            archive=archive,
            aggregates=AggregateStore(directory / "aggregates"),
            scheduler=scheduler_of(config),
            engine=NullEngine(),
            config=config,
        )
        await core.start()
        await core.set_mode("paused")
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        rounds = [(await _submit(core), await _through(core)) for _ in range(ROUNDS)]
        await core.stop()
        archive.close()
    return {
        "core_submit_us": round(min(each for each, _ in rounds), 1),
        "core_null_us": round(min(each for _, each in rounds), 1),
    }


def per_job() -> dict[str, Any]:
    """Microseconds of processor time a job."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    home = Path(tempfile.mkdtemp(prefix="retz-bench-", dir=os.environ.get("RETZ_BENCH_DIR", "/var/tmp")))
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(_jobs(home))
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _past_run(number: int, pipelines: int) -> Job:
    usage = Usage(cpu_s=1.0, max_rss_mb=100.0, interval_s=5.0, series=((50, 100),) * 20)
    at = time.time() - 86_400.0 + number / 2
    attempt = Attempt(number=1, agent="null", launched=at - 3, started=at - 2, ended=at, usage=usage)
    return Job(
        id=number, owner=ANN.key, command="true", name="step", pipeline=f"p{number % pipelines}", run=f"run-{number}",
        resources=Resources(1.0, 100), submitted=at - 3, state="FINISHED", ended=at,
        attempts=(attempt,),
    )  # fmt: skip


def start(count: int = 120_000, pipelines: int = 10_000) -> dict[str, Any]:
    """How long the loop is held while a server that has just started reads so many archived runs."""
    with server(module="tests.benchmarks.watched_server") as running:
        running.stop()
        archive = Archive.open(running.data / "archive")
        for first in range(1, count, 10_000):
            archive.append([_past_run(number, pipelines) for number in range(first, first + 10_000)])
        archive.close()
        running.start()
        loop_seen(running)  # what came before the first answer
        time.sleep(READ_WITHIN_S)
        return loop_seen(running, "past_loop")


def main() -> None:
    """Print the figures."""
    try:
        print(json.dumps(start() if "start" in sys.argv[1:] else per_job()))
    finally:
        clean_up()


if __name__ == "__main__":
    main()
