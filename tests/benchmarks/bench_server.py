"""The whole server from outside: real processes, real HTTP, a real disk. Prints one JSON object a figure."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from retz.model.job import Attempt, Job
from retz.model.resources import Resources
from retz.store.archive import Archive
from tests.server_process import ServerProcess
from tests.wire import Wire, closed_loop

COMMAND_600 = "echo " + "x" * 480
"""Makes a job's record about 600 bytes of JSON."""


_LEFT: list[Path] = []
"""Directories to remove at the very end: deleting many files makes ext4 slow at creating new ones for a while."""


@contextmanager
def server(engine: str = "null", **options: Any) -> Iterator[ServerProcess]:
    """A fresh server below the working disk (never a RAM disk: fsync must cost what it costs)."""
    home = Path(tempfile.mkdtemp(prefix="retz-bench-", dir=os.environ.get("RETZ_BENCH_DIR", "/var/tmp")))
    running = ServerProcess(home, engine=engine, **options)
    try:
        running.start()
        yield running
    finally:
        running.destroy()
        _LEFT.append(home)


def wire(running: ServerProcess) -> Wire:
    """A connection of the admin user."""
    return Wire(running.uri, *running.credentials())


def set_mode(running: ServerProcess, mode: str) -> None:
    """Open or pause the queue."""
    status, answer = wire(running).call("PUT", "/api/v2/queue", {"mode": mode})
    assert status == 200, answer


def one_job(command: Any = COMMAND_600) -> dict[str, Any]:
    """A submission of one job with a key of its own."""
    return {"key": os.urandom(8).hex(), "jobs": [{"command": command}]}


def submit_many(running: ServerProcess, count: int, make: Callable[[int], dict[str, Any]]) -> int:
    """Queue ``count`` jobs in requests of a thousand; the last one's id."""
    connection = wire(running)
    last = 0
    for start in range(0, count, 1000):
        jobs = [make(number) for number in range(start, min(start + 1000, count))]
        status, answer = connection.call("POST", "/api/v2/jobs", {"jobs": jobs})
        assert status == 201, answer
        last = answer["ids"][-1]
    connection.close()
    return last


def submit_rate(running: ServerProcess, seconds: float) -> tuple[float, list[float]]:
    """Jobs a second with 16 connections, one signed job a request."""
    wires = [wire(running) for _ in range(16)]

    def requests() -> Iterator[bytes]:
        while True:
            yield wires[0].build("POST", "/api/v2/jobs", json.dumps(one_job()).encode())

    count, took, latencies = closed_loop(wires, requests, seconds)
    for each in wires:
        each.close()
    return count / took, latencies


def durable_submits(seconds: float = 5.0) -> dict[str, Any]:
    """Durable submits over HTTP on this disk and on one with 5 ms fsync."""
    result: dict[str, Any] = {}
    with server() as running:
        set_mode(running, "paused")
        submit_rate(running, 1.0)
        rate, latencies = submit_rate(running, seconds)
        result["submits_per_s"] = round(rate)
        result["latency_p50_ms"] = round(statistics.median(latencies) * 1e3, 2)
    with server(settings={"RETZ_BENCH_FSYNC_MS": "5"}, module="tests.benchmarks.slow_disk_server") as running:
        set_mode(running, "paused")
        result["submits_per_s_fsync_5ms"] = round(submit_rate(running, seconds)[0])
    return result


def bulk_submits(requests: int = 60) -> dict[str, Any]:
    """A thousand jobs a request, and how long the loop was held meanwhile, as seen by a pinging neighbour."""
    with server() as running:
        set_mode(running, "paused")
        body = [one_job() | {"jobs": [{"command": COMMAND_600}] * 1000} for _ in range(requests)]
        connections = [wire(running), wire(running)]
        packets = [connections[0].build("POST", "/api/v2/jobs", json.dumps(each).encode()) for each in body]
        stop = threading.Event()
        pings: list[float] = []

        def ping() -> None:
            neighbour = wire(running)
            while not stop.is_set():
                began = time.perf_counter()
                neighbour.socket.sendall(b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n")
                neighbour.receive()
                pings.append(time.perf_counter() - began)
                time.sleep(0.002)

        def send(connection: Wire, mine: list[bytes]) -> None:
            for packet in mine:
                connection.socket.sendall(packet)
                status, answer = connection.receive()
                assert status == 201, answer

        watcher = threading.Thread(target=ping)
        senders = [threading.Thread(target=send, args=(c, packets[i::2])) for i, c in enumerate(connections)]
        watcher.start()
        began = time.perf_counter()
        for thread in senders:
            thread.start()
        for thread in senders:
            thread.join()
        took = time.perf_counter() - began
        stop.set()
        watcher.join()
        pings.sort()
        return {
            "bulk_jobs_per_s": round(requests * 1000 / took),
            "neighbour_p99_ms": round(pings[int(len(pings) * 0.99)] * 1e3, 1),
            "neighbour_max_ms": round(pings[-1] * 1e3, 1),
        }


def wait_idle(running: ServerProcess, last: int) -> None:
    """Return when nothing is queued or running any more; asks only once job ``last`` has ended."""
    connection = wire(running)
    while connection.call("GET", f"/api/v2/jobs/{last}/wait?timeout_s=60")[1]["ended"] is None:
        continue
    while True:
        _, status = connection.call("GET", "/api/v2/status")
        if status["queued"] + status["starting"] + status["started"] == 0:
            return
        time.sleep(0.005)


def thousand_true(rounds: int = 3) -> dict[str, Any]:
    """1 000 x true on the local engine with two slots, against xargs in the same run."""
    rates, rivals = [], []
    with server("local", settings={"RETZ_LOCAL_CPUS": "2"}) as running:
        for _ in range(rounds):
            began = time.perf_counter()
            subprocess.run("seq 1000 | xargs -P2 -n1 sh -c true", shell=True, check=True)
            rivals.append(1000 / (time.perf_counter() - began))
            began = time.perf_counter()
            wait_idle(running, submit_many(running, 1000, lambda _: {"command": ["true"]}))
            rates.append(1000 / (time.perf_counter() - began))
    ratio = statistics.median(a / b for a, b in zip(rates, rivals, strict=True))
    return {
        "true_jobs_per_s": round(statistics.median(rates)),
        "xargs_per_s": round(statistics.median(rivals)),
        "ratio_to_xargs": round(ratio, 2),
    }


def null_throughput(count: int = 50_000) -> dict[str, Any]:
    """Jobs a second from queued to durably ended through the null engine, 64 slots."""
    with server() as running:
        set_mode(running, "paused")
        last = submit_many(running, count, lambda _: {"command": COMMAND_600})
        began = time.perf_counter()
        set_mode(running, "open")
        wait_idle(running, last)
        return {"null_jobs_per_s": round(count / (time.perf_counter() - began))}


def submit_to_started(count: int = 200) -> dict[str, Any]:
    """Milliseconds from sending the request to the process's start, on an idle server."""
    with server("local") as running:
        connection = wire(running)
        delays = []
        for _ in range(count):
            began = time.time()
            _, answer = connection.call("POST", "/api/v2/jobs", one_job(["true"]))
            _, job = connection.call("GET", f"/api/v2/jobs/{answer['ids'][0]}/wait?timeout_s=10")
            started = job["attempts"][0]["started"]
            delays.append(_epoch(started) - began)
        delays.sort()
        return {
            "submit_to_started_p50_ms": round(statistics.median(delays) * 1e3, 2),
            "submit_to_started_p95_ms": round(delays[int(count * 0.95)] * 1e3, 2),
        }


def _epoch(text: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(text).timestamp()


def hundred_thousand(count: int = 100_000) -> dict[str, Any]:
    """With 100 000 queued jobs: memory, a list window, one more submit, and starting again."""
    result: dict[str, Any] = {}
    with server() as running:
        set_mode(running, "paused")
        connection = wire(running)
        assert running.process is not None
        submit_many(running, count, lambda n: {"command": COMMAND_600, "resources": {"cpus": 1 + n % 200 / 1000}})
        result["rss_mb"] = round(psutil.Process(running.process.pid).memory_info().rss / 1e6)
        for name, target in {
            "window_ms": "/api/v2/jobs?limit=100",
            "window_state_ms": "/api/v2/jobs?state=QUEUED&limit=100&sort=priority",
            "window_deep_ms": "/api/v2/jobs?limit=100&offset=50000",
        }.items():
            result[name] = _median_ms(lambda t=target: connection.call("GET", t), 30)  # type: ignore[misc]
        # The journal has just been sealed: what merging it costs in the background is another question.
        psutil.wait_procs(psutil.Process(running.process.pid).children())
        with server() as empty:
            set_mode(empty, "paused")
            result |= _one_more(wire(empty), connection)
        connection.close()
        running.stop()
        _fill_archive(running.data / "archive", 1_000_000, above=1_000_000)
        took = running.start()
        connection = wire(running)
        began = time.perf_counter()
        status, answer = connection.call("GET", "/api/v2/jobs?limit=100")
        assert status == 200 and answer["total"] >= count, answer
        result["start_s_100k_queued_1m_archived"] = round(took + time.perf_counter() - began, 2)
        assert running.process is not None
        result["rss_mb_after_restart"] = round(psutil.Process(running.process.pid).memory_info().rss / 1e6)
    return result


def _one_more(empty: Wire, full: Wire, rounds: int = 500) -> dict[str, float]:
    """One more submit on an empty server and on a full one, in turn, each first every other time; medians."""
    taken: dict[Wire, list[float]] = {empty: [], full: []}
    for number in range(rounds):
        for connection in (empty, full) if number % 2 else (full, empty):
            began = time.perf_counter()
            status, answer = connection.call("POST", "/api/v2/jobs", one_job())
            taken[connection].append(time.perf_counter() - began)
            assert status == 201, answer
    return {
        "submit_ms_empty": round(statistics.median(taken[empty]) * 1e3, 3),
        "submit_ms_full": round(statistics.median(taken[full]) * 1e3, 3),
    }


def _fill_archive(directory: Path, count: int, above: int) -> None:
    archive = Archive.open(directory)
    now = time.time()
    for start in range(0, count, 10_000):
        archive.append(
            [
                Job(
                    id=above + n,
                    owner="a" * 32,
                    command="true",
                    resources=Resources(1, 512),
                    submitted=now - 100,
                    state="FINISHED",
                    exit_code=0,
                    ended=now - 90,
                    attempts=(Attempt(number=1, agent="local", launched=now - 99, started=now - 98, ended=now - 90),),
                )
                for n in range(start, start + 10_000)
            ]
        )
    archive.close()


def _median_ms(call: Callable[[], tuple[int, Any]], times: int) -> float:
    delays = []
    for _ in range(times):
        began = time.perf_counter()
        status, answer = call()
        delays.append(time.perf_counter() - began)
        assert status < 300, answer
    return round(statistics.median(delays) * 1e3, 2)


def idle(seconds: float = 20.0) -> dict[str, Any]:
    """Processor and memory of an idle server with its launcher, after one job."""
    with server("local") as running:
        connection = wire(running)
        _, answer = connection.call("POST", "/api/v2/jobs", one_job(["true"]))
        connection.call("GET", f"/api/v2/jobs/{answer['ids'][0]}/wait?timeout_s=10")
        connection.close()
        assert running.process is not None
        processes = [psutil.Process(pid) for pid in (running.process.pid, *running.launcher_pids())]
        before = sum(sum(p.cpu_times()[:2]) for p in processes)
        time.sleep(seconds)
        processes = [p for p in processes if p.is_running()]
        after = sum(sum(p.cpu_times()[:2]) for p in processes)
        memory = sum(p.memory_info().rss for p in processes)
        return {
            "idle_cpu_percent": round((after - before) / seconds * 100, 2),
            "idle_rss_mb": round(memory / 1e6),
        }


FIGURES: tuple[Callable[[], dict[str, Any]], ...] = (
    durable_submits,
    bulk_submits,
    thousand_true,
    null_throughput,
    submit_to_started,
    hundred_thousand,
    idle,
)


def clean_up() -> None:
    """Remove what the servers left."""
    for home in _LEFT:
        shutil.rmtree(home, ignore_errors=True)


def main() -> None:
    """Run all figures, or those named on the command line."""
    wanted = sys.argv[1:]
    for figure in FIGURES:
        if not wanted or figure.__name__ in wanted:
            print(json.dumps({"figure": figure.__name__, **figure()}), flush=True)
    clean_up()


if __name__ == "__main__":
    main()
