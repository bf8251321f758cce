"""One-shot commands as whole processes, against ``python -c pass`` in the same run. Prints one JSON object."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks.bench_server import one_job, server, wire

ROUNDS = 30


def seconds(command: Sequence[str], environment: dict[str, str]) -> float:
    """Wall time of one process."""
    began = time.perf_counter()
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def main() -> None:
    """Interleave the commands, so that a noisy machine is noisy for all of them."""
    retz = str(Path(sys.executable).with_name("retz"))
    with server() as running:
        wire(running).call("POST", "/api/v2/jobs", one_job())
        environment = {**running.environment, "RETZ_SERVER_URI": running.uri, "PYTHONDONTWRITEBYTECODE": ""}
        environment.pop("PYTHONPATH")
        commands = {
            "python_pass": [sys.executable, "-c", "pass"],
            "version": [retz, "--version"],
            "list": [retz, "list", "--state", "ALL"],
            "schedule": [retz, "schedule", "--", "true"],
        }
        taken: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(ROUNDS):
            for name, command in commands.items():
                taken[name].append(seconds(command, environment))
    base = statistics.median(taken["python_pass"])
    result = {"python_pass_ms": round(base * 1e3, 1)}
    for name in ("version", "list", "schedule"):
        ratios = [a / b for a, b in zip(taken[name], taken["python_pass"], strict=True)]
        result[f"{name}_ratio"] = round(statistics.median(ratios), 1)
    print(json.dumps(result))


if __name__ == "__main__":
    os.environ.setdefault("PYTHONHASHSEED", "0")
    main()
