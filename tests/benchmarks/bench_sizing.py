"""Back-test of the sizes that past runs give: what is wasted and killed, against what people do otherwise.

Run: ``python -m tests.benchmarks.bench_sizing [PIPELINES]``. Prints a table to stderr and one JSON object.

Pipelines are made up from a seed, so that their truth is known: peaks with noise, trends, stages, outliers and some
worse; each run holds its memory in steps, up to its peak. Every rule sees the peaks of the runs before and says a
limit. *Waste* of a run is (limit - peak) x seconds. A run above its limit is killed when its memory first exceeds it:
it wastes limit x the seconds until then, and is run again with what its user asked for, whatever the rule. The first
runs, before ``--predicted`` says anything, are the same for all and left out. Waste is given relative to what was
used (peak x seconds), each pipeline weighing the same per run.
"""

from __future__ import annotations

import json
import math
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from estimator.sample import tpch_q12
from estimator.sizing import limit
from estimator.solver.quantiles import rank
from retz.server.learning.sizes import SLACK_MB

Rule = Callable[[Sequence[float]], float]

RUNS = 80
FIRST = 2
"""``retz.estimator.min-runs``: so many runs are the same for all rules."""
SEEN = 50
SCENARIOS = ("noise", "trend", "stages", "outliers")
HARDER = ("steady", "weekly", "weekend", "skipped", "spiky", "short", "heavy", "mixed")
TARGETS = {"noise": 1.05, "trend": 0.75, "stages": 0.75, "outliers": 0.75}
MOST_KILLED = 0.02


class Pipeline(NamedTuple):
    """The truth about a pipeline.

    Attributes:
        peaks: MiB of each run.
        seconds: Of each run.
        curve: (part of the run's time, part of its peak held from then on), ascending.
        asked: MiB that its user asks for: enough for every run.
    """

    peaks: list[float]
    seconds: list[float]
    curve: list[tuple[float, float]]
    asked: float


class Tally(NamedTuple):
    """What a rule did: waste relative to what was used, and the share of runs killed."""

    waste: float
    killed: float


RULES: dict[str, Rule | None] = {
    "asked": None,
    "last": lambda peaks: peaks[-1],
    "max": max,
    "mean2": lambda peaks: sum(peaks[-2:]) / 2,
    "p95": lambda peaks: sorted(peaks)[rank(len(peaks), 95)],
    "predicted": lambda peaks: limit(peaks, SLACK_MB),
}


def pipelines(scenario: str, number: int, seed: int = 0) -> Iterator[Pipeline]:
    """So many pipelines of a kind; the same ones for the same seed."""
    for index in range(number):
        chance = random.Random(f"{scenario} {seed} {index}")
        runs = chance.randint(4, 10) if scenario == "short" else RUNS
        peaks = _peaks(scenario, runs, chance)
        seconds = [600 * math.exp(chance.gauss(0, 0.1)) for _ in peaks]
        parts = sorted(chance.random() for _ in range(chance.randint(1, 3)))
        levels = sorted(chance.uniform(0.2, 1) for _ in parts)
        curve = list(zip([0.0, *parts], [*levels, 1.0], strict=True))
        yield Pipeline(peaks, seconds, curve, max(peaks) * chance.choice([1.1, 1.5, 2, 2, 3, 4]))


def _peaks(scenario: str, runs: int, chance: random.Random) -> list[float]:
    base = 2 ** chance.uniform(6, 14)
    spread = chance.choice([0.02, 0.05, 0.1, 0.2]) if scenario == "noise" else chance.uniform(0.01, 0.05)
    levels = _levels(scenario, runs, chance)
    if scenario == "steady":  # always the same, but for an allocator's whim
        return [base + (chance.uniform(0, 2) if chance.random() < 0.1 else 0) for _ in levels]
    noise = [chance.gauss(0, spread) for _ in levels]
    if scenario == "heavy":  # Student's t with three degrees of freedom: what one would not wish for
        noise = [each / math.sqrt(sum(chance.gauss(0, 1) ** 2 for _ in range(3)) / 3) for each in noise]
    peaks = [base * level * math.exp(each) for level, each in zip(levels, noise, strict=True)]
    share = {"outliers": 0.01, "spiky": 0.05, "mixed": 0.005}.get(scenario, 0.0)
    return [peak * chance.uniform(2, 4) if chance.random() < share else peak for peak in peaks]


def _levels(scenario: str, runs: int, chance: random.Random) -> list[float]:
    """What the runs would hold without noise, relative to the first."""
    levels = [1.0] * runs
    if scenario in ("trend", "mixed"):
        rate = chance.uniform(0.005, 0.03)
        grown = (
            [1 + rate * run for run in range(runs)]
            if chance.random() < 0.5
            else [math.exp(rate * run) for run in range(runs)]
        )
        levels = grown if chance.random() < 0.75 else [1 / each for each in grown]
    if scenario in ("stages", "mixed"):
        for at, factor in zip(sorted(chance.sample(range(8, runs - 5), 2)), _factors(chance), strict=True):
            levels = [level * (factor if run >= at else 1) for run, level in enumerate(levels)]
    if scenario in ("weekly", "weekend", "skipped"):
        more, first = chance.uniform(1.5, 3), 5 if scenario == "weekend" else 6
        days = [day for day in range(2 * runs) if scenario != "skipped" or chance.random() >= 0.03]
        levels = [level * (more if day % 7 >= first else 1) for day, level in zip(days, levels, strict=False)]
    return levels


def _factors(chance: random.Random) -> list[float]:
    """Of two new stages: one up, one down."""
    factors = [chance.uniform(1.25, 2.5), 1 / chance.uniform(1.25, 2.5)]
    chance.shuffle(factors)
    return factors


def sample() -> Iterator[Pipeline]:
    """The nine runs of the estimator's sample: memory in GB, some 250 s each."""
    peaks = [max(float(step.split(":")[0]) for step in line.split()[6].rstrip("|").split("|")) for line in tpch_q12()]
    yield Pipeline(peaks, [250.0] * len(peaks), [(0.0, 0.1), (0.3, 0.5), (0.5, 1.0)], 2 * max(peaks))


def wasted(pipeline: Pipeline, run: int, given: float) -> tuple[float, bool]:
    """MiB x s that one run wastes under a limit, and whether it was killed."""
    peak, seconds = pipeline.peaks[run], pipeline.seconds[run]
    if peak <= given:
        return (given - peak) * seconds, False
    reached = next(part for part, level in pipeline.curve if level * peak > given)
    return given * seconds * reached + (pipeline.asked - peak) * seconds, True


def replay(found: Sequence[Pipeline], rules: dict[str, Rule | None]) -> dict[str, Tally]:
    """What each rule would have done."""
    waste, killed, used, runs = dict.fromkeys(rules, 0.0), dict.fromkeys(rules, 0), 0.0, 0
    for pipeline in found:
        scale = pipeline.peaks[0]
        for run in range(FIRST, len(pipeline.peaks)):
            runs += 1
            used += pipeline.peaks[run] * pipeline.seconds[run] / scale
            before = pipeline.peaks[max(0, run - SEEN) : run]
            for name, rule in rules.items():
                lost, dead = wasted(pipeline, run, pipeline.asked if rule is None else rule(before))
                waste[name] += lost / scale
                killed[name] += dead
    return {name: Tally(waste[name] / used, killed[name] / runs) for name in rules}


def ratio(tallies: dict[str, Tally]) -> float:
    """Waste of ``predicted``, relative to the least of the others."""
    return tallies["predicted"].waste / min(tally.waste for name, tally in tallies.items() if name != "predicted")


def main() -> None:
    """Print what came out."""
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    figures: dict[str, Any] = {}
    print(f"{'':<10}" + "".join(f"{name:>16}" for name in RULES) + "   to the best", file=sys.stderr)
    for name in (*SCENARIOS, *HARDER, "sample"):
        found = list(sample() if name == "sample" else pipelines(name, number))
        tallies = replay(found, RULES)
        cells = "".join(f"{tally.waste:>9.0%} {tally.killed:>6.1%}" for tally in tallies.values())
        print(f"{name:<10}{cells}   x {ratio(tallies):.2f}", file=sys.stderr)
        figures[f"sizing_{name}"] = round(ratio(tallies), 3)
        figures[f"sizing_{name}_killed"] = round(100 * tallies["predicted"].killed, 2)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
