"""What 'retz planner test' finds, and that the built-in planners hold it."""

from __future__ import annotations

import itertools
import json
import math
import random
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from retz.cli import cli
from retz.cli.errors import guarded
from retz.scheduler.planner import PLANNERS
from retz.scheduler.plugin import Amounts, Choice, OwnPlanner, Room, Situation, Waiting, problems
from retz.scheduler.proving import Finding, large_situation, prove, situation
from tests.doubles.planners import BuiltIn

ROUNDS = 60


def findings(make: Callable[[], OwnPlanner], rounds: int = ROUNDS, seed: int = 1) -> list[Finding]:
    return prove(make, random.Random, time.perf_counter, seed=seed, rounds=rounds, budget_s=60.0).findings


@pytest.mark.parametrize("name", sorted(PLANNERS))
def test_the_built_in_planners_hold_what_others_must(name: str) -> None:
    assert findings(lambda: BuiltIn(name), rounds=150) == []


class Spoilt:
    """A good plan, spoilt by a function."""

    def __init__(self, spoil: Callable[[Situation, list[Choice]], Iterable[Choice]]) -> None:
        self._spoil = spoil

    def plan(self, situation: Situation) -> Iterable[Choice]:
        return self._spoil(situation, BuiltIn("fifo").plan(situation))


def twice(situation: Situation, plan: list[Choice]) -> list[Choice]:
    """The first shape once more than it has jobs, on room that was its own."""
    if not plan:
        return plan
    shape = next(each for each in situation.waiting if each.key == plan[0].shape)
    return [plan[0]._replace(jobs=shape.count + 1)]


def full(situation: Situation, plan: list[Choice]) -> list[Choice]:
    """Everything on the first offer."""
    return [choice._replace(offer=situation.offers[0].id) for choice in plan]


def anywhere(situation: Situation, plan: list[Choice]) -> list[Choice]:
    """Attributes are not looked at."""
    pairs = itertools.product(situation.waiting, situation.offers)
    return [Choice(shape.key, offer.id) for shape, offer in pairs if offer.room.times(shape.need)][:1]


tosses = random.Random(5)


@pytest.mark.parametrize(
    ("kind", "spoil"),
    [
        ("double", twice),
        ("over-commit", full),
        ("attributes", anywhere),
        ("unknown", lambda _, plan: [*plan, Choice(0, "o0")]),
        ("unknown", lambda _, plan: [choice._replace(offer="elsewhere") for choice in plan]),
        ("count", lambda _, plan: [choice._replace(jobs=0) for choice in plan]),
        ("count", lambda _, plan: [choice._replace(jobs=-1) for choice in plan]),
        ("fickle", lambda _, plan: plan if tosses.random() < 0.5 else []),
        ("stuck", lambda _, plan: []),
        ("stuck", lambda shown, plan: [choice for choice in plan if choice.shape != shown.waiting[-1].key]),
        ("raised", lambda _, plan: [plan[0]]),
        ("nonsense", lambda _, plan: "nonsense"),
        ("nonsense", lambda _, plan: [("1", "o0", 1)]),
        ("raised", lambda _, plan: 7),
    ],
)
def test_what_planners_do_wrong_is_found(kind: str, spoil: Callable[[Situation, list[Choice]], list[Choice]]) -> None:
    found = findings(lambda: Spoilt(spoil))
    assert kind in {finding.kind for finding in found}
    first = next(finding for finding in found if finding.kind == kind)
    if kind != "fickle":
        again = findings(lambda: Spoilt(spoil), rounds=1, seed=first.seed)
        assert first in again, "the seed brings it about again"


def test_a_slow_planner_is_found() -> None:
    ticks = itertools.count()  # a clock that is read twice for each plan
    proof = prove(lambda: BuiltIn("fifo"), random.Random, lambda: float(next(ticks)), rounds=2, budget_s=0.5)
    assert [finding.kind for finding in proof.findings] == ["slow", "slow"]
    assert proof.large_s == 1.0


def test_a_planner_that_waits_for_the_night_is_not_stuck() -> None:
    def by_night(shown: Situation, plan: list[Choice]) -> list[Choice]:
        return plan if shown.now // 3600 % 24 < 6 else []

    assert findings(lambda: Spoilt(by_night)) == []


def test_a_seed_makes_one_situation() -> None:
    assert situation(random.Random(3)) == situation(random.Random(3)) != situation(random.Random(4))
    large = large_situation(random.Random(1))
    assert sum(shape.count for shape in large.waiting) == 100_000
    assert (len(large.waiting), len(large.offers)) == (500, 100)


def test_a_plan_is_right_or_says_what_is_wrong() -> None:
    need = Amounts(1000, 100, 0, 0, 0)
    shape = Waiting(5, need, "rack=r1", "ann", 0, math.inf, 3, 0.0)
    rooms = (
        Room("o1", "a1", "h1", Amounts(2500, 400, 0, 0, 0), {"rack": "r1"}),
        Room("o2", "a2", "h2", Amounts(8000, 8000, 0, 0, 0), {"rack": "r2"}),
    )
    shown = Situation(0.0, 128, 0, (shape,), rooms)
    assert problems(shown, [Choice(5, "o1", 2)]) == []
    wrong = [Choice(5, "o1", 3), Choice(5, "o1", 2), Choice(5, "o1"), Choice(5, "o2"), Choice(5, "o1", 2)]
    assert problems(shown, wrong) == [
        ("over-commit", "3 x 1 cpus, 100 MiB (shape 5) on offer o1, where 2.5 cpus, 400 MiB are left"),
        ("over-commit", "1 x 1 cpus, 100 MiB (shape 5) on offer o1, where 0.5 cpus, 200 MiB are left"),
        ("attributes", "shape 5 asks for 'rack=r1': not on offer o2"),
        ("double", "2 jobs of shape 5, but only 1 wait or are left"),
    ]


# -- the command -------------------------------------------------------------------------------------------

MODULE = """
import time
class Nothing:
    def plan(self, situation):
        print("hello")
        return []
class Slow:
    def plan(self, situation):
        while True:
            try:
                time.sleep(60)
            except Exception:
                pass
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "tried_planners.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "tried_planners", raising=False)
    return tmp_path


def test_the_command_tells_what_it_found(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["planner", "test", "tried_planners.Nothing", "--rounds", "5"]
    assert guarded(cli, arguments) == 1
    told = capsys.readouterr()
    assert "FOUND" in told.out and "stuck" in told.out and "hello" not in told.out and "hello" in told.err
    assert guarded(cli, [*arguments, "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert [each["kind"] for each in document["found"]] == ["stuck"]


def test_the_command_ends_with_0_if_nothing_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    name = f"{__name__}.good_planner"
    assert guarded(cli, ["planner", "test", name, "--rounds", "5", "--budget", "60"]) == 0
    assert "nothing found" in capsys.readouterr().out


good_planner = BuiltIn("priority")


def test_the_command_does_not_wait_for_a_planner_that_hangs(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(cli, ["planner", "test", "tried_planners.Slow", "--budget", "0.01"]) == 1
    assert "it hangs; again: retz planner test tried_planners.Slow --seed 1 --rounds 1" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["tried_planners.None", "nowhere.Planner", "lottery", "os.path"])
def test_the_command_says_what_cannot_be_loaded(here: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(cli, ["planner", "test", name]) == 1
    assert capsys.readouterr().err.startswith("retz: ")


def test_the_example_of_the_docs_is_a_good_planner(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (Path(__file__).parents[2] / "docs/planners.md").read_text()
    (here / "shortest.py").write_text(text.split("```python\n")[1].split("```")[0])
    assert guarded(cli, ["planner", "test", "shortest.ShortestFirst", "--budget", "60"]) == 0
    assert "nothing found" in capsys.readouterr().out
