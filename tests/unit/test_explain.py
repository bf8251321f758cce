"""Explanations: what people read, and that its numbers are those that decide."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retz.model.agent import Agent, AttributeValue
from retz.model.job import Attempt, Job
from retz.model.resources import RESOURCE_NAMES, Resources, fits
from retz.scheduler.constraints import parse
from retz.scheduler.explain import MAX_DETAILS, Explainer, Why
from retz.scheduler.scheduler import Scheduler
from tests.doubles.machines import machines_of

GIB = 1024


def job(job_id: int = 12, **more: Any) -> Job:
    resources = Resources(**{name: more.pop(name) for name in RESOURCE_NAMES if name in more})
    return Job(id=job_id, owner="ann", command="true", resources=resources, submitted=0.0, **more)


def agent(agent_id: str, cpus: float = 8, mem: int = 23 * GIB, gpus: int = 0, **more: Any) -> Agent:
    return Agent(id=agent_id, host=f"{agent_id}.lan", total=Resources(cpus=cpus, mem=mem, gpus=gpus, ports=10), **more)


def ask(
    asked: Job,
    agents: list[Agent],
    free: dict[str, Resources],
    *,
    before: int = 0,
    mode: str = "open",
    running: int = 0,
    max_running: int = 0,
    trouble: str | None = None,
) -> Why:
    scheduler = Scheduler(max_running=max_running)
    for number in range(before):
        scheduler.add(job(asked.id - before + number, cpus=1))
    if asked.state == "QUEUED" and not asked.held:
        scheduler.add(asked)
    explainer = Explainer(scheduler, machines_of(agents, free), mode=mode, running=running, trouble=trouble)
    answer = explainer.why(asked)
    assert explainer.line(asked) == answer.summary
    return answer


BUSY = [agent("a"), agent("b")]
LITTLE = {"a": Resources(cpus=0.5, mem=23 * GIB), "b": Resources(cpus=0.25, mem=10 * GIB)}
IDLE = {each.id: each.total for each in BUSY}


@pytest.mark.parametrize(
    ("asked", "free", "options", "blocked_by", "summary"),
    [
        (job(cpus=4), LITTLE, {}, "room", "needs 4 cpus, at most 0.5 free on 2 agents"),
        (job(cpus=1), LITTLE, {"before": 3}, "room", "needs 1 cpu, at most 0.5 free on 2 agents; 3 jobs ahead"),
        (job(cpus=1), IDLE, {"before": 1}, "order", "1 job ahead"),
        (job(cpus=1), IDLE, {}, None, "next in line"),
        (job(cpus=1, held=True), IDLE, {}, "held", "held: retz release 12"),
        (job(cpus=1), IDLE, {"mode": "paused"}, "paused", "queue paused"),
        (job(cpus=1), IDLE, {"trouble": "gone"}, "engine", "nothing can be started now: gone"),
        (job(cpus=1, held=True), IDLE, {"trouble": "gone"}, "held", "held: retz release 12"),
        (job(cpus=1), IDLE, {"mode": "draining"}, "draining", "queue draining: it starts no more jobs"),
        (
            job(cpus=1),
            IDLE,
            {"running": 128, "max_running": 128},
            "max_running",
            "128 jobs run already (retz.max.running)",
        ),
        (
            job(cpus=1, mem=64 * GIB),
            IDLE,
            {"mode": "paused"},
            "never",
            "would never fit: needs 64G memory, the largest agent has 23G",
        ),
        # Rounded, both would be 23G.
        (
            job(mem=23 * GIB + 1),
            IDLE,
            {},
            "never",
            f"would never fit: needs {23 * GIB + 1}M memory, the largest agent has {23 * GIB}M",
        ),
        (job(gpus=1), IDLE, {}, "never", "would never fit: needs 1 gpu, the largest agent has 0"),
        (
            job(attributes="gpu_model=h200"),
            IDLE,
            {},
            "never",
            "needs gpu_model=h200: no agent has it",
        ),
        (
            job(cpus=0.5, mem=20 * GIB, ports=1),
            {"a": Resources(cpus=8, mem=GIB), "b": Resources(mem=23 * GIB, ports=3)},
            {},
            "room",
            "needs 0.5 cpus and 20G memory and 1 port together, none of 2 agents has that free",
        ),
        (job(cpus=1, disk=1), IDLE, {}, "never", "would never fit: needs 1M disk, the largest agent has 0M"),
    ],
)
def test_the_line(
    asked: Job, free: dict[str, Resources], options: dict[str, Any], blocked_by: str | None, summary: str
) -> None:
    answer = ask(asked, BUSY, free, **options)
    assert (answer.blocked_by, answer.summary) == (blocked_by, summary)


def test_no_agents() -> None:
    answer = ask(job(cpus=1), [], {})
    assert (answer.blocked_by, answer.summary) == ("room", "no agent is connected")


def test_too_large_only_for_the_agents_it_asks_for() -> None:
    agents = [agent("a", cpus=64), agent("b", cpus=2, attributes={"rack": "r2"})]
    answer = ask(job(cpus=4, attributes="rack=r2"), agents, {"a": agents[0].total, "b": agents[1].total})
    assert answer.blocked_by == "never"
    assert answer.summary == "would never fit: needs 4 cpus, the largest agent with rack=r2 has 2"


def test_what_an_agent_has_is_not_known_yet() -> None:
    half = agent("a", cpus=0.5, guessed=True)
    answer = ask(job(cpus=4), [half], {"a": half.total})
    assert (answer.blocked_by, answer.summary) == ("room", "needs 4 cpus, 0.5 free")


def test_no_single_agent_is_large_enough() -> None:
    agents = [agent("a", cpus=64, mem=GIB), agent("b", cpus=2, mem=64 * GIB)]
    answer = ask(job(cpus=4, mem=2 * GIB), agents, {})
    assert answer.blocked_by == "never"
    assert answer.summary == "would never fit: needs 4 cpus and 2G memory together, no agent has that"


def test_agents_that_fail_on_different_clauses() -> None:
    agents = [agent("a", attributes={"rack": "r1"}), agent("b", attributes={"ssd": True})]
    answer = ask(job(attributes="rack=r1,ssd"), agents, {})
    assert (answer.blocked_by, answer.summary) == ("never", "needs rack=r1,ssd: no agent has all of it")
    assert [detail.failing for detail in answer.details] == [["ssd (absent)"], ["rack=r1 (absent)"]]


def test_agents_that_cannot_be_reached() -> None:
    agents = [agent("a", state="unreachable")]
    answer = ask(job(cpus=1), agents, {"a": agents[0].total})
    assert (answer.blocked_by, answer.agents.fit) == ("room", 0)
    assert answer.summary == "1 agent could run it, but cannot be reached"
    assert answer.details[0].failing == ["cannot be reached"]


@pytest.mark.parametrize(
    ("states", "summary", "failing"),
    [
        (["draining"], "1 agent could run it, but is draining", "is draining"),
        (["deactivated", "deactivated"], "2 agents could run it, but are deactivated", "is deactivated"),
        (
            ["unreachable", "draining", "unreachable"],
            "3 agents could run it, but take no new jobs (2 unreachable, 1 draining)",
            "cannot be reached",
        ),
    ],
)
def test_agents_that_take_no_jobs(states: list[Any], summary: str, failing: str) -> None:
    agents = [agent(f"a{number}", state=state) for number, state in enumerate(states)]
    answer = ask(job(cpus=1), agents, {each.id: each.total for each in agents})
    assert (answer.blocked_by, answer.agents.fit, answer.summary) == ("room", 0, summary)
    assert answer.details[0].failing == [failing]


ATTEMPT = Attempt(number=1, agent="a", launched=1.0)


@pytest.mark.parametrize(
    ("asked", "summary"),
    [
        (job(state="STARTING", attempts=(ATTEMPT,)), "starting on a.lan"),
        (job(state="STARTED", attempts=(ATTEMPT,)), "running on a.lan"),
        (job(state="STARTED", attempts=(ATTEMPT,), kill_requested=2.0), "being killed on a.lan"),
        (job(state="FINISHED", attempts=(ATTEMPT,)), "finished"),
        (job(state="FAILED", message="lost 6 times", attempts=(ATTEMPT,)), "failed: lost 6 times"),
        (job(state="KILLED", message="killed by its owner"), "killed by its owner"),
        (job(state="FAILED", reason="exit", exit_code=3), "failed: exit code 3"),
        (job(state="FAILED", reason="signal", signal=9), "failed: signal 9"),
        (job(state="FAILED", reason="oom", message="used 2G"), "failed: out of memory: used 2G"),
        (job(state="FAILED", reason="disk", message="wrote 2G"), "failed: out of disk: wrote 2G"),
    ],
)
def test_jobs_that_do_not_wait(asked: Job, summary: str) -> None:
    answer = ask(asked, BUSY, IDLE)
    assert (answer.blocked_by, answer.summary, answer.ahead) == (None, summary, 0)


def test_the_whole_answer_encodes_as_documented() -> None:
    agents = [agent("a"), agent("b", attributes={"level": 7.0})]
    free = {"a": Resources(cpus=0.5, mem=GIB), "b": Resources(cpus=8, mem=GIB, ports=2)}
    answer = ask(job(cpus=2, mem=32, attributes="level>=5"), agents, free, before=12)
    amounts = {"cpus": 8.0, "mem": 23 * GIB, "disk": 0, "gpus": 0, "ports": 10}
    assert json.loads(msgspec.json.encode(answer)) == {
        "id": 12,
        "state": "QUEUED",
        "summary": "12 jobs ahead",
        "ahead": 12,
        "ahead_ids": list(range(10)),
        "blocked_by": "order",
        "agents": {
            "total": 2,
            "fit": 1,
            "fail": {"cpus": 1, "mem": 0, "disk": 0, "gpus": 0, "ports": 0, "attributes": 1},
        },
        "need": {"cpus": 2.0, "mem": 32, "disk": 0, "gpus": 0, "ports": 0},
        "details": [
            {
                "agent": "b",
                "host": "b.lan",
                "free": {"cpus": 8.0, "mem": GIB, "disk": 0, "gpus": 0, "ports": 2},
                "total": amounts,
                "failing": [],
            },
            {
                "agent": "a",
                "host": "a.lan",
                "free": {"cpus": 0.5, "mem": GIB, "disk": 0, "gpus": 0, "ports": 0},
                "total": amounts,
                "failing": ["level>=5 (absent)", "cpus 2 > 0.5 free"],
            },
        ],
        "waited_s": 0.0,
        "waited": [],
        "unknown_s": 0.0,
    }


def test_details_are_bounded_with_the_best_first() -> None:
    agents = [agent(f"a{number}") for number in range(MAX_DETAILS + 50)]
    answer = ask(job(cpus=1), agents, {agents[-1].id: agents[-1].total})
    assert (answer.agents.total, answer.agents.fit, len(answer.details)) == (MAX_DETAILS + 50, 1, MAX_DETAILS)
    assert answer.details[0].agent == agents[-1].id


amounts = st.builds(
    Resources, cpus=st.sampled_from([0.0, 0.5, 2.0, 8.0]), mem=st.sampled_from([0, 512, 4096]), gpus=st.integers(0, 1)
)
labels: st.SearchStrategy[dict[str, AttributeValue]] = st.sampled_from([{}, {"ssd": True}, {"rack": "r1"}])
fleet = st.lists(
    st.tuples(amounts, amounts, labels, st.sampled_from(["active", "active", "unreachable", "draining"])), max_size=6
)
queue = st.lists(st.tuples(amounts, st.sampled_from(["", "", "ssd", "rack=r1"]), st.booleans()), min_size=1, max_size=8)


@given(fleet, queue, st.sampled_from(["open", "paused", "draining"]), st.integers(0, 2), st.integers(0, 3))
@settings(max_examples=200, deadline=None)
def test_numbers_equal_a_recount_and_every_queued_job_gets_a_line(
    machines: list[Any], jobs: list[Any], mode: str, max_running: int, running: int
) -> None:
    agents, free = [], {}
    for number, (total, some, attributes, state) in enumerate(machines):
        agents.append(Agent(id=f"a{number}", host="h", total=total, attributes=attributes, state=state))
        free[f"a{number}"] = Resources(*(min(mine, all_) for mine, all_ in zip(_list(some), _list(total), strict=True)))
    scheduler = Scheduler(max_running=max_running)
    queued = [
        Job(id=n, owner="ann", command="x", resources=need, submitted=0.0, attributes=text, held=held)
        for n, (need, text, held) in enumerate(jobs, 1)
    ]
    for each in queued:
        if not each.held:
            scheduler.add(each)
    explainer = Explainer(scheduler, machines_of(agents, free), mode=mode, running=running)
    for each in queued:
        answer = explainer.why(each)
        assert answer.summary
        assert "\n" not in answer.summary
        assert answer.summary == explainer.line(each)
        _recount(answer, each, agents, free)
        _blame_is_true(answer, each, agents, free)
        assert answer.ahead == (0 if each.held else sum(not other.held for other in queued[: each.id - 1]))


def _list(resources: Resources) -> list[Any]:
    return [getattr(resources, name) for name in RESOURCE_NAMES]


def _recount(answer: Why, job: Job, agents: list[Agent], free: dict[str, Resources]) -> None:
    constraint = parse(job.attributes)
    fail = answer.agents.fail
    for name in RESOURCE_NAMES:
        short = sum(getattr(job.resources, name) > getattr(free[each.id], name) for each in agents)
        assert getattr(fail, name) == short
    assert fail.attributes == sum(not constraint.matches(each.attributes) for each in agents)
    assert answer.agents.total == len(agents) == len(answer.details)
    assert answer.agents.fit == sum(not detail.failing for detail in answer.details)


def _blame_is_true(answer: Why, job: Job, agents: list[Agent], free: dict[str, Resources]) -> None:
    need, constraint = job.resources.vector, parse(job.attributes)
    matching = [each for each in agents if constraint.matches(each.attributes)]
    ever = any(fits(need, each.total.vector) for each in matching)
    now = any(fits(need, free[each.id].vector) for each in matching if each.state == "active")
    assert now is (answer.agents.fit > 0)
    expected = {
        "held": job.held,
        "never": bool(agents) and not ever,
        "room": not now and (ever or not agents),
        "order": now and answer.ahead > 0,
        None: now and answer.ahead == 0,
    }
    assert expected.get(answer.blocked_by, not job.held)
