"""What the demo's users run: the kinds of jobs, and a past of one day in which they ran them."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from typing import NamedTuple

from retz.model.job import Attempt, Job, Reason, State, Usage
from retz.model.resources import Resources, add, fits, subtract

TOTAL = Resources(cpus=24, mem=48 * 1024, disk=100_000, gpus=8, ports=0)
DAY_S = 86_400
ADMIN = "ann"
USERS = (ADMIN, "bo", "cy", "dee")

PROGRAM = '''\
"""NAME.py SECONDS MEGABYTES [CODE]: holds memory that rises and falls, computes a little, tells what it does."""
import sys, time
seconds, megabytes, code = float(sys.argv[1]), int(sys.argv[2]), int((sys.argv + ["0"])[3])
rounds, hold = max(2, round(seconds * 2)), []
print("begin", *sys.argv[1:], flush=True)
for step in range(rounds):
    full = megabytes * min(1.0, 1.6 * (step + 1) / rounds) if step < 0.8 * rounds else megabytes / 3
    while len(hold) < full:
        hold.append(bytearray(b"x") * (1 << 20))
    del hold[int(full) + 1:]
    until = time.process_time() + 0.01
    while time.process_time() < until:
        pass
    print(f"step {step + 1:3}/{rounds}  loss {2.3 * 0.93 ** step + 0.08:.4f}  {len(hold):4} MB", flush=True)
    time.sleep(0.45)
if code:
    print("giving up: the input has no rows", file=sys.stderr)
sys.exit(code)
'''


class Kind(NamedTuple):
    """A kind of jobs.

    Attributes:
        seconds: How long one runs now, at least and at most.
        slower: So much longer they took in the past: nobody watches that.
        hourly: How many come an hour.
        memory: MB that one really holds, at most.
        fails: How many of a hundred fail.
    """

    owner: str
    name: str
    program: str
    resources: Resources
    seconds: tuple[float, float]
    slower: float
    hourly: float
    memory: int
    fails: int = 0
    priority: int = 0
    application: str = "default"
    tags: tuple[str, ...] = ()


KINDS = (
    Kind("bo", "train-vit", "train.py", Resources(2, 6144, 0, 2), (30, 80), 60, 2.2, 60, 4, -5, "vision", ("gpu",)),
    Kind("bo", "train-resnet", "train.py", Resources(2, 4096, 0, 1), (20, 50), 50, 2.4, 50, 6, 0, "vision", ("gpu",)),
    Kind("cy", "sweep", "sweep.py", Resources(2, 2048, 0, 1), (8, 20), 40, 19.0, 30, 8, 0, "default", ("sweep",)),
    Kind("dee", "render", "render.py", Resources(1, 1024), (3, 9), 25, 75.0, 20, 2, 5, "film"),
    Kind("dee", "encode", "encode.py", Resources(3, 2048), (5, 12), 30, 12.0, 20, 0, 5, "film"),
    Kind("cy", "notebook", "notebook.py", Resources(1, 1024), (10, 30), 30, 4.0, 25, 15),
)


class Step(NamedTuple):
    """One job of a pipeline's run.

    Attributes:
        after: Seconds from the run's start.
    """

    name: str
    after: float
    seconds: float
    memory: int
    resources: Resources


class Pipeline(NamedTuple):
    """Recurring work: its runs are as long now as they were, so that predictions hold."""

    name: str
    owner: str
    every_s: float
    steps: tuple[Step, ...]


PIPELINES = (
    Pipeline(
        "etl-daily",
        ADMIN,
        70,
        (
            Step("extract", 0, 14, 40, Resources(1, 160)),
            Step("load-rows", 3, 20, 60, Resources(1, 160)),
            Step("join", 18, 22, 130, Resources(2, 256)),
            Step("aggregate", 42, 12, 80, Resources(1, 192)),
            Step("publish", 56, 6, 20, Resources(0.5, 96)),
        ),
    ),
    Pipeline(
        "features",
        ADMIN,
        110,
        (
            Step("scan", 0, 16, 50, Resources(1, 128)),
            Step("embed", 8, 24, 110, Resources(2, 192)),
            Step("index", 34, 14, 70, Resources(1, 128)),
        ),
    ),
)


def command(program: str, seconds: float, memory: int, code: int = 0) -> str:
    """The command line of a job."""
    return f"python {program} {seconds:.0f} {memory}" + (f" {code}" if code else "")


def loudness(before_s: float) -> float:
    """How much came in, so long before now: a quiet night, then more and more."""
    hours = before_s / 3600
    return 1.5 if hours < 9 else 0.45 if hours < 15 else 0.95


class Past:
    """A day of the demo's cluster, played through minute by minute."""

    def __init__(self, now: float, dice: random.Random, directory: str | None = None) -> None:
        self.now = now
        self._directory = directory
        self._dice = dice
        self._queue: list[tuple[Kind, Job, float]] = []
        self._running: list[Job] = []
        self._free = TOTAL.vector
        self._gpus = [str(number) for number in range(TOTAL.gpus)]
        self._next = 1
        self.ended: list[Job] = []

    def play(self) -> list[Job]:
        """All jobs: those that ended, and those still queued."""
        for minute in range(-DAY_S // 60, 0):
            at = self.now + 60.0 * minute
            self._pipelines(at)
            self._end(at)
            self._submit(at)
            self._start(at)
        for job in self._running:
            self._record(job, min(job.ended or self.now, self.now - self._dice.uniform(1, 20)))
        return self.ended + [job for _, job, _ in self._queue]

    def _submit(self, at: float) -> None:
        for kind in KINDS:
            expected = kind.hourly / 60 * loudness(self.now - at)
            for _ in range(int(expected + self._dice.random())):
                seconds = self._dice.uniform(*kind.seconds)
                self._queue.append((kind, self._job(kind, at + self._dice.uniform(0, 59), seconds), seconds))

    def _job(self, kind: Kind, at: float, seconds: float) -> Job:
        self._next += 1
        code = 3 if self._dice.random() * 100 < kind.fails else 0
        return Job(
            id=self._next,
            owner=kind.owner,
            command=command(kind.program, seconds, kind.memory, code),
            resources=kind.resources,
            submitted=at,
            name=f"{kind.name}[{self._next % 97}]" if kind.name in ("sweep", "render") else kind.name,
            application=kind.application,
            priority=kind.priority,
            tags=kind.tags,
            directory=self._directory,
            kill_grace_s=2.0,
        )

    def _start(self, at: float) -> None:
        waiting = []
        for kind, job, seconds in sorted(self._queue, key=lambda entry: (entry[1].priority, entry[1].id)):
            if fits(job.resources.vector, self._free):
                self._free = subtract(self._free, job.resources.vector)
                started = max(job.submitted, at) + self._dice.uniform(0, 1)
                gpus = tuple(self._gpus.pop() for _ in range(job.resources.gpus))
                attempt = Attempt(number=1, agent="local", launched=started - 0.05, started=started, gpus=gpus)
                until = started + seconds * kind.slower
                self._running.append(_with(job, state="STARTED", attempts=(attempt,), ended=until))
            else:
                waiting.append((kind, job, seconds))
        self._queue = waiting

    def _end(self, at: float) -> None:
        for job in [job for job in self._running if (job.ended or at) <= at]:
            self._running.remove(job)
            self._record(job, job.ended or at)

    def _record(self, job: Job, ended: float) -> None:
        attempt = job.attempts[0]
        self._free = add(self._free, job.resources.vector)
        self._gpus += attempt.gpus
        started = attempt.started or ended
        ended = max(ended, started + 0.5)
        code = 3 if str(job.command).endswith(" 3") else 0
        usage = usage_of(ended - started, job.resources, self._dice)
        reason: Reason | None = "exit" if code else None
        attempt = Attempt(
            1, "local", attempt.launched, started, ended, code, None, reason, None, attempt.gpus, (), usage
        )
        state: State = "FAILED" if code else "FINISHED"
        self.ended.append(_with(job, state=state, reason=reason, exit_code=code, ended=ended, attempts=(attempt,)))

    def _pipelines(self, at: float) -> None:
        """One run of each an hour, beside the queue: they are small."""
        for pipeline in PIPELINES:
            if round((self.now - at) / 60) % 60 == 30:
                self.ended += run_of(pipeline, at, self._dice, self._next)
                self._next += len(pipeline.steps)


def run_of(pipeline: Pipeline, at: float, dice: random.Random, last_id: int) -> Iterator[Job]:
    """The jobs of one run in the past, each a little different from the last time."""
    pace, size = dice.uniform(0.9, 1.15), dice.uniform(0.85, 1.1)
    for number, step in enumerate(pipeline.steps, 1):
        started = at + step.after * pace
        seconds = step.seconds * pace
        held = steps_usage(seconds, step.memory * size, dice)
        attempt = Attempt(1, "local", started - 0.05, started, started + seconds, 0, usage=held)
        yield Job(
            id=last_id + number,
            owner=pipeline.owner,
            command=command(f"{step.name}.py", seconds, step.memory),
            resources=step.resources,
            submitted=started - 0.2,
            name=step.name,
            application="warehouse",
            priority=-10,
            pipeline=pipeline.name,
            run=f"run-{int(at)}",
            state="FINISHED",
            exit_code=0,
            ended=started + seconds,
            attempts=(attempt,),
        )


def steps_usage(seconds: float, megabytes: float, dice: random.Random) -> Usage:
    """What PROGRAM would have used, point by point, a second each."""
    points = []
    for second in range(max(1, int(seconds))):
        part = (second + 1) / seconds
        held = megabytes * min(1.0, 1.6 * part) if part < 0.8 else megabytes / 3
        points.append((dice.randint(4, 9), int(held) + 10))
    return Usage(cpu_s=0.06 * seconds, max_rss_mb=megabytes + 10, interval_s=1.0, series=tuple(points))


def usage_of(seconds: float, resources: Resources, dice: random.Random) -> Usage:
    """Some forty points of a job that uses most of what it asked for."""
    interval = max(1.0, math.ceil(seconds / 40))
    points = []
    for number in range(max(1, int(seconds / interval))):
        load = min(1.0, 0.4 + number / 20) * dice.uniform(0.75, 0.98)
        points.append((int(resources.cpus * 100 * load), int(resources.mem * min(0.8, 0.2 + number / 30))))
    cpu = sum(cpus for cpus, _ in points) / 100 * interval
    return Usage(cpu, float(max(memory for _, memory in points)), None, None, interval, tuple(points))


def _with(job: Job, **fields: object) -> Job:
    from msgspec.structs import replace

    return replace(job, **fields)
