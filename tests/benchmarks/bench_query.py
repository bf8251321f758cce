"""What lists cost: windows over a long queue and a large archive, and opening that archive. Prints JSON.

    python -m tests.benchmarks.bench_query [--hot 100000] [--archived 1000000]

Times are medians in milliseconds of 15 runs, with the queue unchanged between them (``cold``: the first, before
anything is remembered); ``hold`` is the longest time for which the event loop ran nothing else. The archive is
opened in a process of its own, and its memory is that process's growth.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from retz.model.job import STATES, Attempt, Job
from retz.model.resources import Resources
from retz.store.archive import Archive
from retz.store.job_query import JobQuery
from retz.store.query import window
from tests.doubles.hot_table import HotTable

REPEATS = 15
RESOURCES = Resources(cpus=1, mem=512)
USERS = ("ann", "bob", "cy")

QUERIES = {
    "one user's live jobs, newest first": JobQuery(owner="ann"),
    "everybody's live jobs": JobQuery(),
    "one user's, by priority": JobQuery(owner="ann", sort="priority"),
    "one user's, one tag": JobQuery(owner="ann", tags=("night",)),
    "text, live": JobQuery(text="number 777"),
    "at a time": JobQuery(at=50_000.0),
    "one user's, all states": JobQuery(owner="ann", states=STATES),
    "all states by user": JobQuery(states=STATES, sort="user"),
    "all failed of one tag": JobQuery(states=("FAILED",), tags=("night",)),
    "ended, page at offset 100 000": JobQuery(states=("FINISHED", "FAILED"), offset=100_000),
    "text, all states": JobQuery(states=STATES, text="number 7777"),
}

OPEN = """
import json, sys, time
from pathlib import Path
from retz.store.archive import Archive
def rss():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmRSS")) / 1024
before = rss()
start = time.perf_counter()
archive = Archive.open(Path(sys.argv[1]))
took = time.perf_counter() - start
print(json.dumps({"jobs": len(archive), "open_ms": took * 1e3, "memory_mib": rss() - before}))
"""


def make_hot(count: int, first: int) -> HotTable:
    return HotTable(
        Job(
            id=first + number,
            owner=USERS[number % 3],
            command=f"echo this is number {number}",
            resources=RESOURCES,
            submitted=float(number),
            priority=number % 5,
            tags=("night",) if number % 10 == 0 else (),
            state="STARTED" if number % 2000 == 0 else "QUEUED",
        )
        for number in range(count)
    )


def make_archive(directory: Path, count: int) -> None:
    archive = Archive.open(directory)
    for start in range(0, count, 10_000):
        archive.append([_ended(number) for number in range(start, min(start + 10_000, count))])
    archive.close()


def _ended(number: int) -> Job:
    attempt = Attempt(number=1, agent="here", launched=number + 1.0, started=number + 1.1, ended=number + 2.0)
    return Job(
        id=number + 1,
        owner=USERS[number % 3],
        command=f"echo this is number {number}",
        resources=RESOURCES,
        submitted=float(number),
        tags=("night",) if number % 10 == 0 else (),
        state="FAILED" if number % 20 == 0 else "FINISHED",
        ended=number + 2.0,
        attempts=(attempt,),
        environment={"OUTPUT": f"/data/results/{number}", "MODE": "batch"},
    )


async def _measure(hot: HotTable, archive: Archive, query: JobQuery) -> dict[str, float]:
    times, hold = [], 0.0
    for _ in range(REPEATS):
        start = time.perf_counter()
        looking = asyncio.ensure_future(window(hot, archive, query, seq=lambda: hot.seq))
        last = start
        while not looking.done():
            await asyncio.sleep(0.0005 if last != start else 0)
            now = time.perf_counter()
            hold, last = max(hold, now - last), now
        total = looking.result().total
        times.append(last - start)
    median = statistics.median(times)
    return {
        "total": total,
        "median_ms": round(median * 1e3, 2),
        "cold_ms": round(times[0] * 1e3, 2),
        "hold_ms": round(hold * 1e3, 2),
    }


async def _measure_all(hot: HotTable, archive: Archive) -> dict[str, dict[str, float]]:
    return {name: await _measure(hot, archive, query) for name, query in QUERIES.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure lists of jobs; prints JSON.")
    parser.add_argument("--hot", type=int, default=100_000)
    parser.add_argument("--archived", type=int, default=1_000_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        start = time.perf_counter()
        make_archive(Path(name), options.archived)
        written = time.perf_counter() - start
        opened = [
            json.loads(subprocess.run([sys.executable, "-c", OPEN, name], check=True, capture_output=True).stdout)
            for _ in range(3)
        ]
        archive = Archive.open(Path(name))
        hot = make_hot(options.hot, options.archived + 1)
        windows = asyncio.run(_measure_all(hot, archive))
        archive.close()
    best = min(opened, key=lambda result: result["open_ms"])
    print(
        json.dumps(
            {
                "hot": options.hot,
                "archived": options.archived,
                "archive_open": {key: round(value, 1) for key, value in best.items()},
                "archive_append_jobs_per_s": round(options.archived / written) if options.archived else None,
                "windows": windows,
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
