"""Planner fair: whose turn it is, by example and in simulated time."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retz.model.agent import Agent, Offer
from retz.model.job import Job
from retz.model.resources import Resources
from retz.scheduler.scheduler import Scheduler
from retz.scheduler.shares import WEEK_S, Shares
from tests.doubles.simulated_cluster import SimulatedCluster

HOUR_S = 3600.0
DAY_S = 24 * HOUR_S


def job(job_id: int, owner: str, cpus: float = 1, mem: int = 0, gpus: int = 0, **more: Any) -> Job:
    resources = Resources(cpus=cpus, mem=mem, gpus=gpus)
    return Job(id=job_id, owner=owner, command="true", resources=resources, submitted=0.0, **more)


def agents(count: int, cpus: float = 8, mem: int = 64_000, gpus: int = 0) -> list[Agent]:
    return [Agent(id=f"a{n}", host=f"h{n}", total=Resources(cpus=cpus, mem=mem, gpus=gpus)) for n in range(count)]


class Crowd(SimulatedCluster):
    """A cluster with users who always have ``waiting`` jobs in the queue, of one size each."""

    def __init__(self, scheduler: Scheduler, machines: list[Agent]) -> None:
        super().__init__(scheduler, machines)
        self.ids = itertools.count(1)
        self.wants: dict[str, tuple[dict[str, Any], float]] = {}
        self.on_end = self._again

    def join(self, user: str, run_s: float, waiting: int = 20, **needs: Any) -> list[int]:
        self.wants[user] = (needs, run_s)
        return [self._one(user) for _ in range(waiting)]

    def _again(self, ended: Job) -> None:
        if ended.owner in self.wants:
            self._one(ended.owner)

    def _one(self, user: str) -> int:
        needs, run_s = self.wants[user]
        one = job(next(self.ids), user, **needs)
        self.submit(one, run_s)
        return one.id

    def used_from(self, begin: float, end: float) -> dict[str, float]:
        """Processor seconds that each user gets in this time."""
        self.run(begin)
        before = self.reckoned()
        self.run(end)
        return {user: amount - before.get(user, 0.0) for user, amount in self.reckoned().items()}

    def reckoned(self) -> dict[str, float]:
        """Processor seconds until now, those of running jobs included."""
        total = dict(self.used)
        for job_id, one in self.running.items():
            amount = one.resources.cpus * (self.now - self.started[job_id])
            total[one.owner] = total.get(one.owner, 0.0) + amount
        return total


def fair(**more: Any) -> Scheduler:
    return Scheduler("fair", shares=Shares(**more))


def placed(scheduler: Scheduler, *rooms: tuple[int, int, int, int, int]) -> list[int]:
    scheduler.offer([Offer(id=f"o{n}", agent=f"a{n}", room=room) for n, room in enumerate(rooms)])
    work = scheduler.prepare(0, 256, 0.0)
    return [placement.job for placement in work.solve()] if work is not None else []


def test_users_take_turns_and_inside_one_priority_decides() -> None:
    scheduler = fair()
    assert scheduler.shares is not None
    scheduler.shares.resize((4000, 1000, 0, 0, 0), 0.0)
    for job_id, owner, priority in [(1, "ann", 0), (2, "ann", 0), (3, "ann", -5), (4, "bob", 5), (5, "bob", 0)]:
        scheduler.add(job(job_id, owner, priority=priority))
    # The first of each: ann's 3 (-5), then bob, who holds nothing, with 5 (0), then again.
    assert placed(scheduler, (4000, 1000, 0, 0, 0)) == [3, 5, 1, 4]


def test_what_counts_is_the_largest_part_of_any_resource() -> None:
    scheduler = fair()
    assert scheduler.shares is not None
    scheduler.shares.resize((9000, 18_000, 0, 0, 0), 0.0)
    # The example of the paper on dominant resource fairness: 9 cpus, 18 GB; ann's jobs need 1 cpu and 4 GB, bob's 3
    # cpus and 1 GB. Ann gets three, bob two.
    for number in range(10):
        scheduler.add(job(2 * number + 1, "ann", cpus=1, mem=4000))
        scheduler.add(job(2 * number + 2, "bob", cpus=3, mem=1000))
    got = placed(scheduler, (9000, 18_000, 0, 0, 0))
    assert [sum(number % 2 == rest for number in got) for rest in (1, 0)] == [3, 2]


def test_only_the_configured_resources_count() -> None:
    shares = Shares(["gpus"])
    shares.resize((9000, 18_000, 0, 4, 0), 0.0)
    shares.start("ann", (9000, 0, 0, 1, 0), 0.0)
    assert shares.share("ann") == 0.25
    with pytest.raises(ValueError, match="not a resource: 'gpu'"):
        Shares(["gpu"])
    with pytest.raises(ValueError, match="none"):
        Shares([])


def test_what_was_used_counts_half_after_the_half_life() -> None:
    shares = Shares(half_life_s=WEEK_S)
    shares.resize((1000, 0, 0, 0, 0), 0.0)
    shares.start("ann", (1000, 0, 0, 0, 0), 0.0)
    shares.stop("ann", (1000, 0, 0, 0, 0), 60.0)
    assert shares.used("ann", 60.0) == pytest.approx(60.0, rel=1e-3)
    assert shares.used("ann", 60.0 + WEEK_S) == pytest.approx(30.0, rel=1e-3)


def test_a_clock_set_back_takes_nothing_away() -> None:
    shares = Shares()
    shares.resize((1000, 0, 0, 0, 0), 0.0)
    shares.start("ann", (500, 0, 0, 0, 0), 1000.0)
    assert shares.used("ann", 2000.0) == pytest.approx(500.0, rel=1e-2)
    shares.stop("ann", (500, 0, 0, 0, 0), 2000.0)
    assert shares.used("ann", 10.0) == pytest.approx(500.0, rel=1e-2)


def test_what_was_used_survives_a_restart() -> None:
    before = Shares()
    before.resize((1000, 0, 0, 0, 0), 0.0)
    before.start("ann", (1000, 0, 0, 0, 0), 0.0)
    before.stop("ann", (1000, 0, 0, 0, 0), DAY_S)
    after = Shares()
    after.load(before.dump(DAY_S), DAY_S)
    assert after.used("ann", 2 * DAY_S) == pytest.approx(before.used("ann", 2 * DAY_S), rel=1e-3)
    assert Shares().dump(0.0) == {}


def test_a_new_user_with_one_job_goes_next_although_another_fills_the_queue() -> None:
    cluster = Crowd(fair(), agents(1))
    cluster.join("ann", HOUR_S, waiting=5000)
    cluster.run(10 * DAY_S + 60.0)
    first = job(next(cluster.ids), "bob")
    cluster.submit(first, 60.0)
    ahead = cluster.scheduler.ahead(first.id)
    cluster.run(11 * DAY_S)
    later = [at for at in cluster.started.values() if 10 * DAY_S + 60.0 < at < cluster.started[first.id]]
    assert (ahead, later) == (0, [])


def test_whoever_used_an_idle_cluster_alone_keeps_half_an_equal_share() -> None:
    cluster = Crowd(fair(), agents(4))
    cluster.join("ann", HOUR_S, waiting=40)
    cluster.run(7 * DAY_S)
    for user in ("bob", "eve", "joe"):
        cluster.join(user, HOUR_S, waiting=40)
    got = cluster.used_from(7 * DAY_S + 2 * HOUR_S, 8 * DAY_S)
    equal = sum(got.values()) / 4
    assert got["ann"] > equal / 2 * 0.9
    assert min(got["bob"], got["eve"], got["joe"]) > equal


def test_where_one_job_runs_at_a_time_nobody_waits_longer_than_half_a_horizon() -> None:
    scheduler = fair()
    assert scheduler.shares is not None
    cluster = Crowd(scheduler, agents(1, cpus=1))
    cluster.join("ann", HOUR_S)
    cluster.run(30 * DAY_S)
    cluster.join("bob", HOUR_S)
    cluster.run(32 * DAY_S)
    mine = sorted(
        cluster.started[job_id]
        for job_id, (one, _) in cluster.jobs.items()
        if one.owner == "ann" and cluster.started.get(job_id, -1.0) >= 30 * DAY_S - HOUR_S
    )
    gaps = [later - earlier for earlier, later in itertools.pairwise(mine)]
    assert max(gaps) <= scheduler.shares.horizon / 2 + 2 * HOUR_S


user_wants = st.fixed_dictionaries(
    {
        "cpus": st.sampled_from([0.5, 1.0, 2.0, 4.0]),
        "mem": st.sampled_from([0, 1000, 4000, 16_000]),
        "gpus": st.sampled_from([0, 0, 0, 1]),
    }
)


@given(st.lists(st.tuples(user_wants, st.sampled_from([600.0, 1800.0, 3600.0])), min_size=2, max_size=4))
@settings(max_examples=15, deadline=None)
def test_shares_converge_for_users_who_always_have_work(users: list[tuple[dict[str, Any], float]]) -> None:
    machines = agents(6, cpus=8, mem=64_000, gpus=2)
    cluster = Crowd(fair(), machines)
    for number, (needs, run_s) in enumerate(users):
        cluster.join(f"user{number}", run_s, waiting=110, **needs)
    total = {"cpus": 48.0, "mem": 384_000.0, "gpus": 12.0}
    per_cpu = {
        f"user{number}": max(needs[name] / total[name] for name in total) / needs["cpus"]
        for number, (needs, _) in enumerate(users)
    }
    got = cluster.used_from(4 * HOUR_S, 16 * HOUR_S)
    shares = sorted(got[user] * per_cpu[user] / (12 * HOUR_S) for user in per_cpu)
    # Jobs are whole, machines have edges: a job's share of slack each, and a tenth.
    largest = max(max(needs[name] / total[name] for name in total) for needs, _ in users)
    bottleneck_is_common = len({max(total, key=lambda name: needs[name] / total[name]) for needs, _ in users}) == 1
    if bottleneck_is_common:
        assert shares[-1] - shares[0] <= 0.1 * shares[-1] + 2 * largest
    else:
        assert shares[0] >= 1 / len(users) * 0.7 - 2 * largest


def test_the_pass_of_a_full_queue_reaches_the_other_user_at_once() -> None:
    scheduler = fair()
    assert scheduler.shares is not None
    scheduler.shares.resize((8000, 64_000, 0, 0, 0), 0.0)
    for job_id in range(1, 20_001):
        scheduler.add(job(job_id, "ann", cpus=1 + job_id % 300 / 1000))
    scheduler.add(job(20_001, "bob"))
    assert 20_001 in placed(scheduler, (2600, 64_000, 0, 0, 0))[:2]
    assert scheduler.ahead(20_001) <= 1
    assert math.isclose(scheduler.shares.share("bob"), 0.0)
