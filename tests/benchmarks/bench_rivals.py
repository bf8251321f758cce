"""Retz beside the queues people would pick instead, each on this machine, asked the same. One JSON object a figure.

``python -m tests.benchmarks.bench_rivals [--hyperqueue-python PYTHON] [FIGURE...]``. Slurm is taken from PATH
(slurmctld, slurmd, munged, sbatch, ...), HyperQueue from a Python that can import it; what is not found is left out,
and said. Nothing is installed, every daemon that is started is ended. Not part of ``make bench``.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.benchmarks.rivals import hq, slurm
from tests.benchmarks.rivals.base import Gate, Lines, Queue
from tests.benchmarks.rivals.retz import Retz

JOBS = 1000
BACKLOG = 10_000
LIMIT_S = 8.0
"""A queue that needs longer for all jobs is measured by those that ran in this time."""
QUIET_S = 12.0
"""After a kill: when for so long nothing more has run or ended, nothing more will."""
RUNNING, WAITING = 20, 200

Kinds = Sequence[type[Queue]]
Figures = dict[str, object]

_LEFT: list[Path] = []


def directory() -> Path:
    """A fresh one on the working disk, removed at the very end."""
    _LEFT.append(Path(tempfile.mkdtemp(prefix="rival-", dir=os.environ.get("RETZ_BENCH_DIR", "/var/tmp"))))
    return _LEFT[-1]


@contextmanager
def started(kind: type[Queue], slots: int = 2) -> Iterator[Queue]:
    """A fresh queue of this kind."""
    queue = kind(directory() / "q", slots)
    try:
        queue.start()
        yield queue
    finally:
        queue.stop()


@contextmanager
def lines(queue: Queue) -> Iterator[Lines]:
    """Where its jobs write."""
    made = Lines(queue.home / "lines")
    try:
        yield made
    finally:
        made.close()


@contextmanager
def gate(queue: Queue) -> Iterator[Gate]:
    """Where its jobs wait."""
    made = Gate(queue.home / "gate")
    try:
        yield made
    finally:
        made.close()


def median_ms(seconds: Sequence[float]) -> float:
    """Of seconds."""
    return round(statistics.median(seconds) * 1e3, 1)


def connected(queue: Queue, count: int = 50) -> list[float]:
    """Milliseconds of submits by a program that stays connected; empty if there is no such interface."""
    command = queue.program(count, "true")
    taken: list[float] = json.loads(queue.ask(command)) if command else []
    return taken


def commands(kinds: Kinds, rounds: int = 10) -> Figures:
    """One submit, and one job from submit to end, as whole commands, all queues in turn; and from submit to start."""
    figures: Figures = {}
    with ExitStack() as stack:
        queues = [stack.enter_context(started(kind)) for kind in kinds]
        noted = {queue.name: stack.enter_context(lines(queue)) for queue in queues}
        taken: dict[str, dict[str, list[float]]] = {
            queue.name: {"submit": [], "run": [], "to_start": []} for queue in queues
        }
        for number in range(rounds):
            for queue in queues:
                mine, seen = taken[queue.name], noted[queue.name]
                began = time.perf_counter()
                mine["submit"].append(queue.call(queue.submit(f"echo > {seen.path}")))
                if not seen.wait(number + 1, LIMIT_S):
                    raise RuntimeError(f"{queue.name}: a job has not been started on an idle machine")
                mine["to_start"].append(time.perf_counter() - began)
                if number % 2 == 0:
                    mine["run"].append(queue.call(queue.run("true")))
        for queue in queues:
            figures[queue.name] = {f"{name}_ms": median_ms(each) for name, each in taken[queue.name].items()}
            if ms := connected(queue):
                figures[queue.name] |= {"connected_submit_ms": round(statistics.median(ms), 2)}  # type: ignore[operator]
    return figures


def backlog(kinds: Kinds, rounds: int = 20) -> Figures:
    """The same submit while 10 000 wait for two that run; memory before and then."""
    figures: Figures = {}
    with ExitStack() as stack:
        queues = [stack.enter_context(started(kind)) for kind in kinds]
        for queue in queues:
            figures[queue.name] = {"idle_mb": round(queue.megabytes())}
            noted, shut = stack.enter_context(lines(queue)), stack.enter_context(gate(queue))
            for _ in range(2):
                queue.call(queue.submit(f"echo > {noted.path}; : < {shut.path}"))
            if not noted.wait(2, LIMIT_S):
                raise RuntimeError(f"{queue.name}: two jobs do not run at the same time")
            for start in range(0, BACKLOG, 1000):
                queue.call(queue.array(0, 999, f"true {start}"))
        taken: dict[str, list[float]] = {queue.name: [] for queue in queues}
        for _ in range(rounds):
            for queue in queues:
                taken[queue.name].append(queue.call(queue.submit("true")))
        for queue in queues:
            figures[queue.name] |= {  # type: ignore[operator]
                "submit_ms": median_ms(taken[queue.name]),
                "mb": round(queue.megabytes()),
            }
    return figures


def rate(
    queue: Queue, start: Callable[[str], Sequence[str]], count: int = JOBS, limit_s: float = LIMIT_S
) -> tuple[float, bool]:
    """Jobs a second, from the start of the command that submits them to the last job's own word; whether all ran."""
    with lines(queue) as noted:
        command = start(f"echo > {noted.path}")
        began = time.perf_counter()
        submitting = subprocess.Popen(
            command, env=queue.environment, cwd=queue.work, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        whole = noted.wait(count, limit_s)
        ran, took = len(noted.seen), time.perf_counter() - began
        submitting.terminate()
        submitting.wait()
    return ran / took, whole


def shell_loop(command: Sequence[str], count: int) -> list[str]:
    """A shell that runs the command so many times, one after the other."""
    return ["sh", "-c", f'i=0; while [ $i -lt {count} ]; do "$@"; i=$((i+1)); done', "sh", *command]


WAYS: dict[str, Callable[[Queue, str], list[str]]] = {
    "array": lambda queue, line: queue.array(0, JOBS - 1, line),
    "commands": lambda queue, line: shell_loop(queue.submit(line), JOBS),
    "calls": lambda queue, line: queue.program(JOBS, line),
}
UNASKED: set[tuple[type[Queue], str]] = {
    (slurm.Slurm, "commands"),  # the array has told how slow it is
    (slurm.Slurm, "calls"),
    (slurm.TunedSlurm, "calls"),  # no such interface
    (hq.HyperQueue, "commands"),  # nor a command
}


def rates(kinds: Kinds, turns: int = 3) -> Figures:
    """1 000 jobs that write a line each, two at a time: one array, one command each, one call each of a program.

    All in turn, on fresh queues; what takes longer than ``LIMIT_S`` is tried once.
    """
    found: dict[tuple[type[Queue], str], list[float]] = {}
    slow: set[tuple[type[Queue], str]] = set()
    for _ in range(turns):
        for way, start in WAYS.items():
            for kind in kinds:
                if (kind, way) in UNASKED | slow:
                    continue
                with started(kind) as queue:
                    a_second, whole = rate(queue, lambda line, q=queue, start=start: start(q, line))  # type: ignore[misc]
                found.setdefault((kind, way), []).append(a_second)
                if not whole:
                    slow.add((kind, way))
    return {
        kind.name: {
            f"{way}_per_s": f"{statistics.median(found[kind, way]):.3g}" for way in WAYS if (kind, way) in found
        }
        for kind in kinds
    }


def second_long(kinds: Kinds, count: int = 20) -> Figures:
    """The rate of jobs of one second, two at a time, as one array: 2 a second at best. Only when named: a minute."""
    figures: Figures = {}
    for kind in kinds:
        with started(kind) as queue:
            a_second, _ = rate(queue, lambda line, q=queue: q.array(1, count, f"sleep 1; {line}"), count, count)  # type: ignore[misc]
        figures[kind.name] = {"array_per_s": round(a_second, 2)}
    return figures


def killed(kinds: Kinds, *, later_s: float = 0.0, holders: bool = False) -> Figures:
    """``kill -9`` of the daemons while 20 jobs run and 200 wait, ``later_s`` after the last 100 were acknowledged."""
    figures: Figures = {}
    for kind in kinds:
        # Nothing of a cluster in a Python process survives it; how Slurm schedules does not matter here.
        if kind in (hq.HyperQueue, slurm.Slurm):
            continue
        with started(kind, RUNNING) as queue, lines(queue) as noted, gate(queue) as shut:
            line = f"echo $I > {noted.path}; : < {shut.path}; exit $I"
            half = RUNNING + WAITING // 2
            queue.call(queue.array(1, half, line))
            if not noted.wait(RUNNING, LIMIT_S):
                raise RuntimeError(f"{queue.name}: {RUNNING} jobs do not run at the same time")
            queue.call(queue.array(half + 1, RUNNING + WAITING, line))
            if noted.wait(RUNNING + 1, later_s):
                raise RuntimeError(f"{queue.name}: more than {RUNNING} jobs run")
            queue.kill(holders=holders)
            shut.open()
            queue.start()
            figures[kind.name] = outcome(queue, noted)
    return figures


def killed_later(kinds: Kinds) -> Figures:
    """The same, 10 s after the last acknowledgement."""
    return killed(kinds, later_s=10.0)


def killed_with_holders(kinds: Kinds) -> Figures:
    """The same as that, and what holds running jobs (Retz's launcher, Slurm's step daemons) dies, too."""
    return killed(kinds, later_s=10.0, holders=True)


def outcome(queue: Queue, noted: Lines) -> Figures:
    """What has become of all jobs, once nothing changes any more."""
    total = RUNNING + WAITING
    results: dict[int, int | None] = {}
    changed = began = time.perf_counter()
    while time.perf_counter() - changed < QUIET_S:
        before = (len(noted.seen), results)
        noted.wait(len(noted.seen) + 1, 0.25)
        results = queue.results()
        if sum(code is not None for code in results.values()) == total:
            break
        if (len(noted.seen), results) != before:
            changed = time.perf_counter()
    took = time.perf_counter() - began
    while noted.wait(len(noted.seen) + 1, 1.0):  # what ran and is not read yet
        continue
    times = Counter(int(line) for line in noted.seen)
    return {
        "never_ran": total - len(times),
        "ran_twice": sum(count > 1 for count in times.values()),
        "result_lost": sum(results.get(number) != number for number in times),
        "seconds": round(took, 1),
    }


FIGURES: tuple[Callable[[Kinds], Figures], ...] = (commands, backlog, rates, killed, killed_later, killed_with_holders)
ON_DEMAND = (second_long,)


def here(python: str) -> tuple[list[type[Queue]], list[str]]:
    """The kinds there are, and a line for each that is not."""
    kinds: list[type[Queue]] = [Retz]
    absent = []
    if lacking := slurm.missing():
        absent.append(f"Slurm not found: PATH has no {', '.join(lacking)}")
    else:
        kinds += [slurm.Slurm, slurm.TunedSlurm]
    if hq.missing(python):
        absent.append(f"HyperQueue not found: {python} cannot import it (--hyperqueue-python says who can)")
    else:
        hq.HyperQueue.python = python
        kinds.append(hq.HyperQueue)
    return kinds, absent


def main() -> None:
    """Run all figures, or those named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hyperqueue-python", default=sys.executable, metavar="PYTHON")
    parser.add_argument("figures", nargs="*", metavar="FIGURE")
    arguments = parser.parse_args()
    named = {each.__name__: each for each in (*FIGURES, *ON_DEMAND)}
    if wrong := set(arguments.figures) - set(named):
        parser.error(f"no figure {', '.join(sorted(wrong))}: there are {', '.join(named)}")
    wanted = [named[name] for name in arguments.figures] or FIGURES
    kinds, absent = here(arguments.hyperqueue_python)
    for line in absent:
        print(line, file=sys.stderr)
    try:
        for figure in wanted:
            print(json.dumps({"figure": figure.__name__, **figure(kinds)}), flush=True)
    finally:
        for home in _LEFT:
            shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    main()
