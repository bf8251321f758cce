"""How fast logs become skylines, on one core. Prints JSON.

    python -m tests.benchmarks.bench_estimator_parse [--lines 300000]

A log of each format is read from its file to the end of the stream of (run, job) pairs, nothing kept; best of five.
``ratio_to_loop`` is the time against ``for line in file: pass`` over the same file, in turn with it.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path

from estimator.sample import Line, native_log, resource_manager_log
from estimator.translator.base import Report, SingleLineParser
from estimator.translator.native import NativeLineParser
from estimator.translator.reading import BaseLogParser
from estimator.translator.resource_manager import ResourceManagerLineParser

ROUNDS = 5


def seconds(work: Callable[[], object]) -> float:
    """How long it takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def read(path: Path) -> None:
    """Do what costs least with every line."""
    with open(path, "rb") as file:
        for _ in file:
            pass


def measure(path: Path, parser: type[SingleLineParser]) -> dict[str, float]:
    """Lines per second of a log, and what else is worth knowing."""
    report = Report()

    def parse() -> None:
        nonlocal report
        report = Report()
        deque(BaseLogParser().parse([path], parser(), report), maxlen=0)

    taken, loops = zip(*[(seconds(parse), seconds(lambda: read(path))) for _ in range(ROUNDS)], strict=True)
    if report.bad_lines or not report.jobs:
        raise SystemExit(f"{path.name}: {report.bad_lines} bad lines, {report.jobs} jobs: {report.problems}")
    return {
        "lines": report.lines,
        "jobs": report.jobs,
        "mb": round(path.stat().st_size / 1e6, 1),
        "lines_per_s": round(report.lines / min(taken)),
        "ratio_to_loop": round(min(taken) / min(loops), 1),
    }


def write(path: Path, lines: Iterable[Line]) -> Path:
    """Write a log."""
    with open(path, "w") as file:
        file.writelines(f"{line.text}\n" for line in lines)
    return path


def main() -> None:
    """Make the logs, measure."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--lines", type=int, default=300_000)
    lines = arguments.parse_args().lines
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        native = write(place / "native.log", native_log(lines))
        endless = resource_manager_log(lines, containers=40)
        manager = write(place / "rm.log", islice(endless, lines))
        figures = {
            "native": measure(native, NativeLineParser),
            "resource_manager": measure(manager, ResourceManagerLineParser),
        }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
