"""What a queued job waits for: the judge's short cuts come to what a plain look at all agents comes to."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from retz.model.agent import Agent
from retz.model.resources import RESOURCE_NAMES, Resources, Vector, fits, from_vector, least
from retz.scheduler.causes import Judge
from retz.scheduler.constraints import parse
from retz.scheduler.limits import Holding, UserLimits
from retz.scheduler.scheduler import Scheduler
from tests.doubles.machines import machines_of

MOST_CPUS = 6.0
MOST_RUNNING = 3

AMOUNTS = st.builds(Resources, cpus=st.sampled_from([1.0, 4.0, 9.0]), mem=st.sampled_from([100, 900, 5000]))
MACHINES = st.lists(
    st.tuples(AMOUNTS, AMOUNTS, st.sampled_from(["active", "draining"]), st.booleans(), st.booleans()), max_size=4
)


def fleet(machines: list[Any]) -> tuple[list[Agent], dict[str, Resources]]:
    agents = [
        Agent(id=f"a{number}", host="h", total=total, attributes={"ssd": True} if ssd else {}, state=state,
              guessed=guessed)
        for number, (total, _, state, ssd, guessed) in enumerate(machines)
    ]  # fmt: skip
    left = [least(some.vector, total.vector) for total, some, *_ in machines]
    return agents, {agent.id: from_vector(vector) for agent, vector in zip(agents, left, strict=True)}


def by_looking(need: Vector, agents: list[Agent], free: dict[str, Resources], mode: str, running: int) -> str:
    able = [agent for agent in agents if agent.guessed or fits(need, agent.total.vector)]
    if agents and not able:
        return "never"
    if mode != "open":
        return mode
    if running >= MOST_RUNNING:
        return "max_running"
    if need[0] > MOST_CPUS * 1000:
        return "user_limit"
    has_room = any(agent.state == "active" and fits(need, free[agent.id].vector) for agent in able)
    return "order" if has_room else "room"


@given(
    MACHINES,
    st.lists(st.tuples(AMOUNTS, st.sampled_from(["", "ssd"])), min_size=1, max_size=5),
    st.sampled_from(["open", "paused", "draining"]),
    st.integers(0, MOST_RUNNING),
)
def test_it_is_what_a_plain_look_says(machines: list[Any], asked: list[Any], mode: str, running: int) -> None:
    agents, free = fleet(machines)
    scheduler = Scheduler(max_running=MOST_RUNNING, user_limits=UserLimits(0, MOST_CPUS, 0, 0))
    judge = Judge(scheduler, machines_of(agents, free), mode=mode, running=running)
    for amount, text in asked:
        need, constraint = amount.vector, parse(text)
        blocked = judge.blocked(need, constraint, "ann")
        assert judge.blocked(need, constraint, "ann") == blocked, "the second look is not another one"
        matching = [agent for agent in agents if constraint.matches(agent.attributes)]
        expected = by_looking(need, matching, free, mode, running) if matching or not agents else "never"
        assert blocked.by == expected
        if blocked.short_of:
            index = RESOURCE_NAMES.index(blocked.short_of)
            assert all(need[index] > free[a.id].vector[index] for a in matching if a.state == "active")
            assert blocked.cause == f"room:{blocked.short_of}"
        else:
            assert blocked.cause == expected


def test_an_engine_that_can_start_nothing_comes_before_all_else() -> None:
    judge = Judge(Scheduler(), [], mode="paused", running=0, stuck=True)
    assert judge.blocked((1000, 0, 0, 0, 0), parse("ssd"), "ann").by == "engine"


@given(
    st.builds(UserLimits, st.integers(0, 3), st.sampled_from([0, 2.0]), st.sampled_from([0, 500]), st.integers(0, 1)),
    st.builds(Holding, st.integers(0, 4), AMOUNTS.map(lambda amount: amount.vector)),
    st.builds(Resources, cpus=st.sampled_from([0.0, 1.0]), mem=st.sampled_from([0, 100]), gpus=st.integers(0, 1)),
)
def test_who_is_over_a_limit_is_told_which(limits: UserLimits, holding: Holding, asked: Resources) -> None:
    """Also after a limit was set below what a user holds."""
    told = limits.reason(holding, asked.vector)
    assert (told is None) == limits.admits(holding, asked.vector)
    assert told is None or "needs 0" not in told
