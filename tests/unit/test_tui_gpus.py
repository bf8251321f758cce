"""The grid of GPUs and the words about one of them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retz.client.types import Agent, Agents, Attempt, Gpu, GpuProcess, Job
from retz.model.resources import Resources
from tui.holding import Holding
from tui.screens.gpus import aside_of, gpus_then, holder_text, model_of, remarks, strangers_text, telemetry_parts
from tui.text import width_of
from tui.widgets.gpugrid import Geometry, cell_parts, geometry, value_of
from tui.widgets.table import Cell

NOW = 10_000.0
JUPYTER = GpuProcess(pid=8812, name="jupyter", mem_mb=34_816)


def gpu(**fields: object) -> Gpu:
    return Gpu(**{"uuid": "GPU-1", "mem_mb": 143_771, **fields})  # type: ignore[arg-type]


def job(number: int = 7, started: float = NOW - 600, **fields: object) -> Job:
    moment = datetime.fromtimestamp(started, UTC)
    return Job(
        **{  # type: ignore[arg-type]
            "id": number, "state": "STARTED", "owner": "ann", "name": "train", "submitted": moment,
            "started": moment, **fields,
        }
    )  # fmt: skip


def text(parts: list[Cell]) -> str:
    return "".join(part for part, _ in parts)


# -- where cells lie ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("machines", "gpus", "width", "height"),
    [(8, 8, 119, 34), (64, 1, 119, 34), (32, 2, 119, 34), (16, 4, 119, 34), (4, 16, 119, 34), (8, 8, 79, 18)],
)
def test_64_gpus_fit_on_one_screen(machines: int, gpus: int, width: int, height: int) -> None:
    grid = geometry(width, height, 8, gpus, machines)
    assert grid.row(machines - 1, gpus - 1) < height
    assert grid.slot() * grid.across + grid.aside <= width + 1


shapes = {
    "width": st.integers(40, 300), "height": st.integers(1, 80), "label": st.integers(6, 14),
    "most": st.integers(0, 64), "total": st.integers(0, 500),
}  # fmt: skip


@given(**shapes, index=st.integers(0, 500), number=st.integers(0, 63))
def test_every_gpu_has_its_own_place(
    width: int, height: int, label: int, most: int, total: int, index: int, number: int
) -> None:
    grid = geometry(width, height, label, most, total)
    number %= max(1, most)
    assert grid.at(grid.row(index, number), grid.column(index, number)) == (index, number)
    assert grid.across * grid.slot() + grid.aside <= max(width + 1, grid.slot())


def test_words_stand_at_the_right_where_there_is_room() -> None:
    assert geometry(119, 34, 8, 8, 8).aside > 16
    assert geometry(79, 18, 8, 8, 8).aside == 0


def test_a_machine_with_many_gpus_takes_even_lines() -> None:
    assert geometry(79, 18, 8, 16, 5)[3:5] == (8, 2)
    assert Geometry(8, 8, 1, 8, 2).row(1, 9) == 3


# -- one cell ------------------------------------------------------------------------------------------------------

values = st.none() | st.floats(0, 150)


@given(values, st.booleans(), st.booleans(), st.integers(4, 12), st.sampled_from(["util", "mem", "temp"]))
def test_a_cell_is_exactly_as_wide_as_it_should_be(
    value: float | None, held: bool, strange: bool, width: int, view: str
) -> None:
    one = gpu(
        util=value, temperature_c=value, mem_used_mb=None if value is None else int(value * 900), held=held,
        strangers=(JUPYTER,) if strange else (),
    )  # fmt: skip
    assert width_of(text(cell_parts(one, view, width))) == width


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({"util": 52.0, "held": True}, "▓▓▓▓▒▒▒ 52"),
        ({"util": 0.0, "held": True}, "▒▒▒▒▒▒▒  0"),
        ({"util": 1.0, "held": True}, "▓▒▒▒▒▒▒  1"),
        ({"util": 100.0, "held": True}, "▓▓▓▓▓▓▓100"),
        ({"util": 0.0}, "·······   "),
        ({"held": True}, "▒▒▒▒▒▒▒   "),
        ({"util": 34.0, "strangers": (JUPYTER,)}, "!!!!!!! 34"),
        ({"util": 97.0, "held": True, "strangers": (JUPYTER,)}, "▓▓▓▓▓▓! 97"),
    ],
)
def test_cells(fields: dict[str, object], shown: str) -> None:
    assert text(cell_parts(gpu(**fields), "util", 10)) == shown


def test_views() -> None:
    one = gpu(util=5.0, mem_used_mb=71_886, temperature_c=91.0, held=True)
    assert [round(value_of(one, view) or 0) for view in ("util", "mem", "temp")] == [5, 50, 91]
    assert value_of(gpu(mem_mb=None, mem_used_mb=3), "mem") is None
    assert cell_parts(one, "temp", 10)[-1] == (" 91", "bad")


# -- words ---------------------------------------------------------------------------------------------------------


def test_who_holds_it() -> None:
    assert holder_text(gpu(), None, NOW) == "free"
    assert holder_text(gpu(held=True), None, NOW) == "held by another user"
    assert holder_text(gpu(held=True, job=7), None, NOW) == "held by 7"
    assert holder_text(gpu(held=True, job=7), job(), NOW) == "held by 7 train (ann) for 10:00"


def test_names_cannot_steer_the_terminal() -> None:
    evil = job(name="\x1b[2J", owner="a\x07")
    agent = Agent(id="a\x1b", gpus=(gpu(held=True, job=7),))
    shown = holder_text(gpu(held=True, job=7), evil, NOW) + text(aside_of(agent, {7: evil}))
    shown += strangers_text(gpu(strangers=(GpuProcess(pid=1, name="x\x1b"),))) + model_of(gpu(model="\x9b"))
    assert all(character.isprintable() for character in shown)


def test_telemetry_or_why_there_is_none() -> None:
    busy = gpu(util=52.0, mem_used_mb=72_909, temperature_c=38.0, power_w=92.4)
    assert text(telemetry_parts(busy)) == "util  52%   mem  71.2G of 140.4G    38 °C     92 W"
    assert text(telemetry_parts(gpu(note="declared, no driver"))) == "no telemetry (declared, no driver)"
    assert text(telemetry_parts(gpu())) == "no telemetry"


def test_what_an_operator_should_notice() -> None:
    here, away = Agent(id="a", host="n1"), Agent(id="a", host="n1", state="unreachable")
    idle = gpu(held=True, job=7, util=0.0, idle_since=datetime.fromtimestamp(NOW - 1320, UTC))
    assert text(remarks(here, idle, job(started=NOW - 5000), NOW)).strip() == "idle for 22 minutes while held"
    assert text(remarks(here, idle, job(started=NOW - 600), NOW)).strip() == "idle for 10 minutes while held"
    assert text(remarks(here, idle, job(started=NOW - 5), NOW)) == ""
    assert text(remarks(here, idle, None, NOW)).strip() == "idle for 22 minutes and held now"
    strange = gpu(strangers=(JUPYTER,))
    assert text(remarks(away, strange, None, NOW)).split("   ")[:2] == [
        "✘ n1 is unreachable",
        "! not ours: pid 8812 (jupyter) 34.0G",
    ]
    draining = Agent(id="a", host="n1", state="draining")
    assert text(remarks(draining, gpu(util=3.0, note="a hint"), None, NOW)) == "◍ n1 is draining   a hint"


def test_words_beside_a_machine() -> None:
    jobs = {7: job(), 8: job(8, owner="bob"), 9: job(9)}
    held = [gpu(held=True, job=number) for number in (7, 8, 9)]
    assert text(aside_of(Agent(id="a", gpus=tuple(held[:1])), jobs)) == "7 train ann"
    assert text(aside_of(Agent(id="a", gpus=tuple(held)), jobs)) == "7 8 9  ann bob"
    assert text(aside_of(Agent(id="a", gpus=(gpu(held=True),)), {})) == "other users"
    assert text(aside_of(Agent(id="a", gpus=(gpu(note="why"),)), {})) == "why"
    assert text(aside_of(Agent(id="a", gpus=(gpu(note="a hint", util=3.0),)), {})) == ""
    assert text(aside_of(Agent(id="a", gpus=(gpu(strangers=(JUPYTER,)),)), {})).startswith("! not ours: pid 8812")


def test_the_past_has_holders_but_no_telemetry() -> None:
    attempt = Attempt(number=1, agent="a", gpus=("GPU-1", "GPU-gone"))
    then = job(agent="a", gpus=attempt.gpus, attempts=(attempt,), resources=Resources(gpus=2))
    past = Holding(NOW, {"a": [then]}, dict.fromkeys(attempt.gpus, then), 1)
    today = Agent(id="a", host="n1", gpus=(gpu(util=5.0, held=False, note="x"), gpu(uuid="GPU-2", held=True)))
    there, lost = gpus_then(Agents(agents=(today,), total=1), past)
    assert [(each.held, each.job, each.util) for each in there.gpus] == [(True, 7, None), (False, None, None)]
    assert (lost.host, lost.state, [each.uuid for each in lost.gpus]) == ("n1", "gone", ["GPU-gone"])
    assert gpus_then(Agents(agents=(today,), total=2), past) == [there], "not known while others are not loaded"
