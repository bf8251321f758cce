"""What a planning pass costs, with 100 000 jobs queued. Prints one JSON object; times are medians.

Run: ``python -m tests.benchmarks.bench_scheduler``
"""

from __future__ import annotations

import asyncio
import gc
import json
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

from retz.model.agent import Agent, Offer
from retz.model.job import Job
from retz.model.resources import Resources, Vector
from retz.scheduler.causes import Machine
from retz.scheduler.explain import Explainer
from retz.scheduler.outside_work import OutsideWork
from retz.scheduler.plugin import Choice, Situation
from retz.scheduler.scheduler import Scheduler
from retz.server.frames import frame
from retz.server.planners.process import Worker
from tests.doubles.planners import as_many_as_fit

JOBS = 100_000
TOO_SMALL: Vector = (900, 10_000, 0, 0, 10)
OWN: tuple[tuple[int, int, Vector], ...] = (
    (500, 1, (64_000, 1_000_000, 0, 0, 10)),
    (500, 100, (900, 10_000, 0, 0, 10)),
    (500, 100, (4000, 10_000, 0, 0, 10)),
)
LARGE: Vector = (64_000, 1_000_000, 0, 0, 10)


def job(job_id: int, kind: int, users: int = 1) -> Job:
    resources = Resources(cpus=1 + kind / 1000, mem=100)
    return Job(id=job_id, owner=f"user{kind % users}", command="true", resources=resources, submitted=0.0)


def timed(action: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    """The action's result and its seconds."""
    begin = time.perf_counter()
    result = action(*arguments)
    return result, time.perf_counter() - begin


def offers(name: str, count: int, room: Vector) -> list[Offer]:
    return [Offer(id=f"{name}{number}", agent=f"agent{number}", room=room) for number in range(count)]


def submit(scheduler: Scheduler, one: Job) -> None:
    """One more submit, with the pass that follows it at once."""
    scheduler.add(one)
    work = scheduler.prepare(0)
    if work is not None:
        scheduler.check(work.solve(), 0)


def ms(seconds: list[float]) -> float:
    return round(statistics.median(seconds) * 1e3, 3)


def us(seconds: list[float]) -> float:
    return round(statistics.median(seconds) * 1e6, 2)


def fill(scheduler: Scheduler, jobs: list[Job]) -> None:
    for each in jobs:
        scheduler.add(each)


def passes(
    shapes: int, offer_count: int, room: Vector, rounds: int = 5, planner: str = "fifo", users: int = 1
) -> dict[str, Any]:
    """Passes over a full queue, each with offers never seen before."""
    scheduler = Scheduler(planner)
    if scheduler.shares is not None:
        scheduler.shares.resize((64_000_000, 100_000_000, 0, 0, 0), 0.0)
    jobs = [job(job_id, job_id % shapes, users) for job_id in range(1, JOBS + 1)]
    gc.collect()
    gc.freeze()  # as the server does
    _, adding = timed(fill, scheduler, jobs)
    times: dict[str, list[float]] = {"prepare": [], "solve": [], "check": [], "next_prepare": [], "one_more": []}
    placed = 0
    for number in range(rounds):
        scheduler.rescind(list(scheduler.offers))
        scheduler.offer(offers(f"round{number}-", offer_count, room))
        work, seconds = timed(scheduler.prepare, 0)
        times["prepare"].append(seconds)
        plan, seconds = timed(work.solve)
        times["solve"].append(seconds)
        good, seconds = timed(scheduler.check, plan, 0)
        times["check"].append(seconds)
        placed = len(good)
        _, seconds = timed(scheduler.prepare, 0)
        times["next_prepare"].append(seconds)
        one = job(JOBS + 1 + number, 5, users)
        _, seconds = timed(submit, scheduler, one)
        times["one_more"].append(seconds)
    ahead = [timed(scheduler.ahead, n)[1] for n in range(1, JOBS, 997)]
    return {
        "planner": planner,
        "users": users,
        "shapes": shapes,
        "offers": offer_count,
        "placed": placed,
        "add_us": round(adding / JOBS * 1e6, 2),
        **{f"{name}_ms": ms(values) for name, values in times.items()},
        "ahead_us": us(ahead),
    }


def cycle(slots: int = 64, rounds: int = 500) -> dict[str, Any]:
    """The loop of a busy single agent: offer, pass, check, use."""
    scheduler = Scheduler()
    fill(scheduler, [job(job_id, 0) for job_id in range(1, JOBS + 1)])
    gc.collect()
    gc.freeze()

    def once(number: int) -> None:
        scheduler.offer(offers(f"cycle{number}-", 1, (slots * 1000, 1_000_000, 0, 0, 0)))
        work = scheduler.prepare(0)
        assert work is not None
        good = scheduler.check(work.solve(), 0)
        scheduler.use(good[0].offer, [placement.job for placement in good])
        assert len(good) == slots

    seconds = [timed(once, n)[1] for n in range(rounds)]
    return {"placements": slots, "cycle_us": us(seconds)}


class ShortestFirst:
    """The example of docs/planners.md."""

    def plan(self, situation: Situation) -> Iterator[Choice]:
        return as_many_as_fit(situation, sorted(situation.waiting, key=lambda shape: (shape.limit_s, shape.key)))


async def own(shapes: int, offer_count: int, room: Vector, rounds: int = 20) -> dict[str, Any]:
    """Turns of a planner of a user's own in its process; ``loop``: what of them is on the server's loop."""
    scheduler = Scheduler("own", outside=True)
    fill(scheduler, [job(job_id, job_id % shapes) for job_id in range(1, JOBS + 1)])
    gc.collect()
    gc.freeze()
    worker = await Worker.start("tests.benchmarks.bench_scheduler.ShortestFirst")
    names = ("prepare", "show", "worker", "adopt", "check")
    times: dict[str, list[float]] = {name: [] for name in names}
    size = placed = 0
    for number in range(rounds):
        scheduler.rescind(list(scheduler.offers))
        scheduler.offer(offers(f"round{number}-", offer_count, room))
        work, times_prepare = timed(scheduler.prepare, 0, 128, 0.0)
        assert isinstance(work, OutsideWork)
        message, times_show = timed(_shown, work)
        begin = time.perf_counter()
        answer = await worker.ask(message, 60.0)
        times_worker = time.perf_counter() - begin
        plan, times_adopt = timed(work.adopt, answer.choices[:10_000])
        good, times_check = timed(scheduler.check, plan, 0)
        for name, seconds in zip(
            names, (times_prepare, times_show, times_worker, times_adopt, times_check), strict=True
        ):
            times[name].append(seconds)
        size, placed = len(message), len(good)
    await worker.stop()
    turn = [sum(parts) for parts in zip(*times.values(), strict=True)]
    return {
        "shapes": shapes,
        "offers": offer_count,
        "placed": placed,
        "kb": round(size / 1e3, 1),
        **{f"{name}_ms": ms(values) for name, values in times.items()},
        "turn_ms": ms(turn),
    }


def _shown(work: OutsideWork) -> bytes:
    return frame(work.show(lambda _: 0.0))


def lines(agent_count: int) -> dict[str, Any]:
    """The reasons of a list window of 100 jobs."""
    scheduler = Scheduler()
    jobs = [job(job_id, job_id % 200) for job_id in range(1, JOBS + 1)]
    fill(scheduler, jobs)
    free = Resources(cpus=0.5, mem=8000).vector
    machines = [
        Machine(Agent(id=f"a{n}", host="h", total=Resources(cpus=8, mem=8000)), free) for n in range(agent_count)
    ]

    def window() -> None:
        explainer = Explainer(scheduler, machines, mode="open", running=0)
        for each in jobs[-100:]:
            assert explainer.line(each)

    seconds = [timed(window)[1] for _ in range(10)]
    return {"agents": agent_count, "window_of_100_lines_ms": ms(seconds)}


def main() -> None:
    result = {
        "jobs": JOBS,
        "nothing_fits": [passes(shapes, count, TOO_SMALL) for shapes in (200, JOBS) for count in (1, 100)],
        "room": [passes(shapes, count, LARGE) for shapes in (200, JOBS) for count in (1, 100, 5000)],
        "cycle": cycle(),
        "fair": [
            passes(200, count, LARGE, 25, planner, users)
            for count in (1, 100)
            for planner, users in (("fifo", 1), ("fair", 1), ("fair", 20), ("fair", 200))
        ],
        "own": [asyncio.run(own(shapes, count, room)) for shapes, count, room in OWN],
        "explain": [lines(1), lines(100)],
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
