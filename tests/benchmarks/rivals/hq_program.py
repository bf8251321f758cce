"""Run by a Python that has HyperQueue, not by ours: a cluster, or one call of its Python interface.

``hq_program.py DIRECTORY cluster SLOTS | submit LINE | array FIRST LAST LINE | run LINE | program COUNT LINE``.
A cluster serves until its input ends. Only the standard library and HyperQueue are imported.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from hyperqueue import Client, Job, LocalCluster
from hyperqueue.cluster import WorkerConfig


def job(lines: list[str]) -> Any:
    """A job with one task for each shell line."""
    made = Job()
    for line in lines:
        made.program(["sh", "-c", line])
    return made


def cluster(directory: str, slots: str) -> None:
    """Server and worker, in this process."""
    with LocalCluster(directory, worker_config=WorkerConfig(cores=int(slots))):
        print("ready", flush=True)
        sys.stdin.read()


def main() -> None:
    """Do what the arguments say."""
    directory, what, *rest = sys.argv[1:]
    if what == "cluster":
        return cluster(directory, *rest)
    client = Client(directory)
    if what == "submit":
        client.submit(job(rest))
    elif what == "run":
        client.wait_for_jobs([client.submit(job(rest))])
    elif what == "array":
        numbers = range(int(rest[0]), int(rest[1]) + 1)
        client.submit(job([f"I={number}; {rest[2]}" for number in numbers]))
    else:
        taken = []
        for _ in range(int(rest[0])):
            began = time.perf_counter()
            client.submit(job(rest[1:]))
            taken.append((time.perf_counter() - began) * 1e3)
        print(json.dumps(taken))
    return None


if __name__ == "__main__":
    main()
