"""What the store costs: apply, bulk, group commit, load, memory. Prints one JSON object.

Run: ``python tests/benchmarks/bench_store.py [jobs]``. Times are best of a few rounds, microseconds per job
unless named otherwise.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from retz.model.job import Job
from retz.model.resources import Resources
from retz.store.database import Change, Database
from retz.store.journal import encode


def make_job(number: int) -> Job:
    """Return a job of about 600 bytes as JSON."""
    return Job(
        id=number,
        owner=f"user{number % 20}",
        command=f"python train.py --input /data/part-{number:08}.parquet --epochs 3 " + "--flag=value " * 18,
        resources=Resources(cpus=1.0 + number % 4, mem=1024 * (1 + number % 8)),
        submitted=1_800_000_000.0 + number,
        name=f"train-{number}",
        tags=("nightly", f"group{number % 50}"),
        environment={"HOME": f"/home/user{number % 20}", "LANG": "C.UTF-8", "PATH": "/usr/local/bin:/usr/bin:/bin"},
        directory="/home/user/work",
    )


def rss_mb() -> float:
    """Return this process's resident memory."""
    gc.collect()
    return float(psutil.Process().memory_info().rss) / 1e6


def best(rounds: int, work: Callable[[], float]) -> float:
    """Return the smallest of some measurements."""
    return min(work() for _ in range(rounds))


def apply_us(database: Database, count: int) -> float:
    """Loop-side cost of one durable job, its fsync not waited for."""
    jobs = [make_job(number) for number in database.reserve_ids(count)]
    cpu = time.thread_time()
    for job in jobs:
        ticket = database.apply([Change("jobs", job.id, job)])
    cpu = time.thread_time() - cpu
    ticket.wait()
    return cpu / count * 1e6


def bulk_us(database: Database, count: int, slice_size: int = 200) -> tuple[float, float]:
    """Loop-side cost of a job in a bulk, and the longest slice in milliseconds."""
    changes = [Change("jobs", number, make_job(number)) for number in database.reserve_ids(count)]
    longest = 0.0
    gc.collect()
    gc.freeze()
    begun = time.thread_time()
    bulk = database.bulk()

    def timed(step: Callable[[], object]) -> object:
        nonlocal longest
        start = time.thread_time()
        result = step()
        longest = max(longest, time.thread_time() - start)
        return result

    for at in range(0, count, slice_size):
        timed(lambda at=at: bulk.encode(changes[at : at + slice_size]))  # type: ignore[misc]
    ticket = bulk.commit()
    while timed(lambda: bulk.absorb(slice_size)):
        pass
    spent = time.thread_time() - begun
    ticket.wait()
    return spent / count * 1e6, longest * 1e3


def fsync_ms(directory: Path) -> float:
    """Median time of an append and fdatasync of 600 bytes."""
    times = []
    fd = os.open(directory / "probe", os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    for _ in range(50):
        begun = time.perf_counter()
        os.write(fd, b"x" * 600)
        os.fdatasync(fd)
        times.append(time.perf_counter() - begun)
    os.close(fd)
    return sorted(times)[len(times) // 2] * 1e3


LOAD = """
import gc, json, sys, time, psutil
from pathlib import Path
from retz.store.database import Database
me = psutil.Process()
base = me.memory_info().rss
begun = time.perf_counter()
database = Database.open(Path(sys.argv[1]))
seconds = time.perf_counter() - begun
gc.collect()
print(json.dumps({"seconds": seconds, "mb": (me.memory_info().rss - base) / 1e6, "jobs": len(database.jobs.records())}))
database.close()
"""


def load(directory: Path) -> dict[str, float]:
    """Open a store in a fresh process; seconds, and memory over the bare process."""
    command = [sys.executable, "-c", LOAD, str(directory)]
    answer: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return answer


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory(prefix="retz-bench-") as name:
        root = Path(name)
        result: dict[str, object] = {"job_bytes": len(encode(make_job(1))), "fsync_ms": fsync_ms(root)}
        with Database.open(root / "a") as database:
            result["apply_us"] = best(3, lambda: apply_us(database, 5_000))
        with Database.open(root / "b") as database:
            result["bulk_us"], result["longest_slice_ms"] = bulk_us(database, count)
            result["apply_at_full_us"] = best(3, lambda: apply_us(database, 2_000))
        result["load_bulk_journal"] = load(root / "b")
        with Database.open(root / "c") as database:
            for number in database.reserve_ids(count):
                ticket = database.apply([Change("jobs", number, make_job(number))])
            ticket.wait()
        result["load_single_lines"] = load(root / "c")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
