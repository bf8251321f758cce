"""What a planning pass costs, with 100 000 jobs queued. Prints one JSON object; times are medians.

Run: ``python -m tests.benchmarks.bench_scheduler``
"""

from __future__ import annotations

import gc
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

from retz.model.agent import Agent, Offer
from retz.model.job import Job
from retz.model.resources import Resources, Vector
from retz.scheduler.explain import Explainer
from retz.scheduler.scheduler import Scheduler

JOBS = 100_000
TOO_SMALL: Vector = (900, 10_000, 0, 0, 10)
LARGE: Vector = (64_000, 1_000_000, 0, 0, 10)


def job(job_id: int, kind: int) -> Job:
    resources = Resources(cpus=1 + kind / 1000, mem=100)
    return Job(id=job_id, owner="ann", command="true", resources=resources, submitted=0.0)


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


def passes(shapes: int, offer_count: int, room: Vector, rounds: int = 5) -> dict[str, Any]:
    """Passes over a full queue, each with offers never seen before."""
    scheduler = Scheduler()
    jobs = [job(job_id, job_id % shapes) for job_id in range(1, JOBS + 1)]
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
        one = job(JOBS + 1 + number, 5)
        _, seconds = timed(submit, scheduler, one)
        times["one_more"].append(seconds)
    ahead = [timed(scheduler.ahead, n)[1] for n in range(1, JOBS, 997)]
    return {
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


def lines(agent_count: int) -> dict[str, Any]:
    """The reasons of a list window of 100 jobs."""
    scheduler = Scheduler()
    jobs = [job(job_id, job_id % 200) for job_id in range(1, JOBS + 1)]
    fill(scheduler, jobs)
    agents = [Agent(id=f"a{n}", host="h", total=Resources(cpus=8, mem=8000)) for n in range(agent_count)]
    free = {agent.id: Resources(cpus=0.5, mem=8000) for agent in agents}

    def window() -> None:
        explainer = Explainer(scheduler, agents, free, mode="open", running=0)
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
        "explain": [lines(1), lines(100)],
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
