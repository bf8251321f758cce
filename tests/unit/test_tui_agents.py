"""What is said of machines, now and then."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from retz.client.types import Agent, Gpu, GpuProcess, Job, Measured
from retz.model.resources import Resources
from tui.holding import Holding
from tui.screens.agents import (
    agent_columns,
    as_then,
    attributes_text,
    gone,
    gpus_text,
    level_of,
    names_of,
    rewound_text,
    state_cell,
    who_text,
)
from tui.text import width_of

N1 = Agent(
    id="a1", host="n1", total=Resources(16, 65_536, 1000, 2, 10), used=Resources(4, 1024, 0, 1, 1),
    free=Resources(12, 64_512, 1000, 1, 9), attributes={"rack": "r1", "ssd": True, "level": 10.0},
    gpus=(Gpu(uuid="G1", model="H200", held=True), Gpu(uuid="G2", model="H200")), jobs=1,
    measured=Measured(cpus=2.5, mem=900.0),
)  # fmt: skip


def job(number: int, agent: str = "a1", **fields: object) -> Job:
    return Job(
        **{  # type: ignore[arg-type]
            "id": number, "state": "STARTED", "owner": "ann", "name": f"job{number}", "agent": agent,
            "submitted": datetime.fromtimestamp(0, UTC), "resources": Resources(2, 512, 0, 1, 1), **fields,
        }
    )  # fmt: skip


def holding(*jobs: Job, total: int | None = None) -> Holding:
    by_agent: dict[str, list[Job]] = {}
    for each in jobs:
        by_agent.setdefault(each.agent or "", []).append(each)
    return Holding(0.0, by_agent, {uuid: each for each in jobs for uuid in each.gpus}, total or len(jobs))


def test_columns_are_as_wide_as_they_say() -> None:
    for column in agent_columns():
        for agent in (N1, Agent(id="x")):
            if column.parts is not None:
                assert sum(width_of(part) for part, _ in column.parts(agent, column.width)) == column.width
            else:
                assert isinstance(column.cell(agent)[0], str)


def test_levels() -> None:
    assert level_of(N1, "cpus") == (16, 4, 2.5, 0)
    assert level_of(N1, "disk") == (1000, 0, None, 0), "nobody measures it"
    assert level_of(Agent(id="a", total=Resources(8), others=Resources(3)), "cpus") == (8, 0, None, 3)


@pytest.mark.parametrize(
    ("state", "shown"),
    [
        ("active", "● active"),
        ("unreachable", "✘ unreachable"),
        ("draining", "◍ draining"),
        ("deactivated", "⊘ deactivated"),
        ("new\x1b", "◌ new␛"),
    ],
)
def test_states_have_a_glyph_and_a_word(state: str, shown: str) -> None:
    assert state_cell(Agent(id="a", state=state))[0] == shown


def test_attributes() -> None:
    assert attributes_text(N1) == "level=10 rack=r1 ssd"


def test_who_runs_there() -> None:
    assert who_text(N1, [job(7)], 1, admin=True) == "n1: 12 cpus, 63.0G and 1 GPU free; 1 job there: 7 job7 (ann)."
    assert who_text(N1, [], 0, admin=False).endswith("1 job there, 0 of them yours.")
    assert who_text(N1, [job(7), job(8)], 5, admin=True).endswith("7 job7 (ann), 8 job8 (ann), … 3 more.")
    idle = Agent(id="a2", host="n2", total=Resources(1, 1), free=Resources(1, 1))
    assert who_text(idle, [], 0, admin=True) == "n2: 1 cpus, 1M and 0 GPUs free; nobody runs there."
    away = Agent(id="a2", host="n2", state="unreachable")
    assert who_text(away, [], 0, admin=True).startswith("n2 is unreachable: it takes no new jobs")


def test_who_else_holds_something() -> None:
    shared = Agent(
        id="a", host="n3", total=Resources(8, 4096), others=Resources(2, 2048, 0, 1), free=Resources(6, 2048)
    )
    assert who_text(shared, [], 0, admin=True) == (
        "n3: 6 cpus, 2.0G and 0 GPUs free; others hold 2 cpus, 2.0G and 1 GPU; nobody runs there."
    )


def test_names_of_others_cannot_steer_the_terminal() -> None:
    assert names_of([job(1, name="\x1b[31m", owner="\x07")], admin=True).isprintable()


def test_the_past_shows_what_was_held_of_todays_totals() -> None:
    (then,) = as_then([N1], holding(job(1), job(2), job(3, agent="old")))
    assert (then.used, then.jobs) == (Resources(4, 1024, 0, 2, 2), 2)
    assert (then.total, then.free.cpus, then.measured) == (N1.total, 12, None)


def test_machines_that_are_not_there_today() -> None:
    (old,) = gone([N1], holding(job(1), job(3, agent="old")))
    assert (old.host, old.state, old.jobs, old.used.cpus) == ("old", "gone", 1, 2)
    assert who_text(old, [job(3)], 1, admin=True) == "old is not there today; 1 job there: 3 job3 (ann)."


def test_what_one_must_know_about_the_past() -> None:
    said = rewound_text(holding(job(1), total=30_000), admin=False)
    assert "30 000 jobs" in said and "yours only" in said and "only 1 are counted" in said
    assert "Totals are today's; telemetry was not recorded." in said
    assert "only" not in rewound_text(holding(job(1)), admin=True)


def test_gpus_in_a_line() -> None:
    assert gpus_text(N1, None) == "2 GPUs H200: 1 held"
    assert gpus_text(Agent(id="a"), None) == ""
    strange = Agent(id="a", gpus=(Gpu(uuid="G", note="declared, no driver", strangers=(GpuProcess(pid=1),)),))
    assert gpus_text(strange, None) == (
        "1 GPU: 0 held   1 process on them not ours   no telemetry (declared, no driver)"
    )
    assert gpus_text(N1, holding(job(1, gpus=("G1", "G2")))) == "2 GPUs H200: 2 held"
    counted = Agent(id="a", gpus=(Gpu(uuid="a/gpu0", util=3.0, note="by number"),))
    assert gpus_text(counted, None) == "1 GPU: 0 held   by number", "a note is no complaint where there is telemetry"
