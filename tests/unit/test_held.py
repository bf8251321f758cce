"""What jobs hold together is what each of them holds, added up."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from retz.model.job import Attempt, Job
from retz.model.resources import Resources
from retz.scheduler.held import held_by
from retz.scheduler.limits import UserLimits
from retz.scheduler.scheduler import Scheduler
from retz.server.ledger import Ledger

alike = st.tuples(
    st.sampled_from(["ann", "bob"]),
    st.sampled_from(["a1", "a2"]),
    st.sampled_from([Resources(1.0, 512), Resources(0.1, 64, 10, 1, 2)]),
    st.sampled_from([None, 60.0]),
)


def job(number: int, kind: tuple[str, str, Resources, float | None]) -> Job:
    owner, agent, resources, timeout_s = kind
    attempt = Attempt(1, agent, 100.0, gpus=(f"gpu{number}",))
    return Job(
        id=number, owner=owner, command="true", resources=resources, submitted=0.0, timeout_s=timeout_s,
        attempts=(attempt,),
    )  # fmt: skip


def jobs_of(kinds: list[tuple[str, str, Resources, float | None]]) -> list[Job]:
    return [job(number, kind) for number, kind in enumerate(kinds, 1)]


def test_alike_jobs_are_counted_together() -> None:
    kind = ("ann", "a1", Resources(0.5, 100), None)
    (held,) = held_by(jobs_of([kind] * 3))
    assert held == ("ann", "a1", (500, 100, 0, 0, 0), 3)
    assert held.amount == (1500, 300, 0, 0, 0)


@given(st.lists(alike, max_size=20), st.integers(0, 20))
def test_the_ledger_counts_together_as_one_by_one(
    kinds: list[tuple[str, str, Resources, float | None]], over: int
) -> None:
    jobs, together, single = jobs_of(kinds), Ledger(), Ledger()
    together.start(jobs)
    together.start(jobs)  # twice is harmless
    together.stop(jobs[:over])
    for each in jobs:
        single.start([each])
    for each in jobs[:over]:
        single.stop([each])
    for name in ("running", "by_owner", "gpu_holder"):
        assert getattr(together, name) == getattr(single, name)
    for agent in ("a1", "a2"):
        assert together.by_agent[agent] == single.by_agent[agent]
        assert together.jobs_by_agent[agent] == single.jobs_by_agent[agent]


@given(st.lists(alike, max_size=20), st.integers(0, 20))
def test_the_scheduler_counts_together_as_one_by_one(
    kinds: list[tuple[str, str, Resources, float | None]], over: int
) -> None:
    jobs = jobs_of(kinds)
    together, single = (Scheduler("fair", user_limits=UserLimits(running=5, cpus=2), patience_s=60.0) for _ in range(2))
    together.all_started(jobs, held_by(jobs), 100.0)
    together.all_stopped(jobs[:over], held_by(jobs[:over]), 110.0)
    for each in jobs:
        single.started(each, 100.0)
    for each in jobs[:over]:
        single.stopped(each, 110.0)
    assert together.shares is not None
    assert single.shares is not None
    for shares in (together.shares, single.shares):
        shares.resize((10_000, 10_000, 0, 10, 0), 110.0)
    for owner in ("ann", "bob"):
        assert together.shares.share(owner) == single.shares.share(owner)
        for need in ((1000, 1, 0, 0, 0), (0, 1, 0, 0, 0)):
            assert together.over_limit(owner, need) == single.over_limit(owner, need)
