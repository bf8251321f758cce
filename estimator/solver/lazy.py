"""The block method: exact for any number of runs.

Each round solves the master programme (see :mod:`estimator.solver.master`), makes a plan of its block sums, looks for
demands that this plan does not meet, and makes the programme finer there. The programme's multipliers prove a lower
bound, the plan's cost is an upper one; rounds end when both meet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..skyline import FloatArray, IntArray
from .blocks import Block, Problem
from .kernel import objective, whole
from .lp import LpSolver
from .master import Cuts, Solution, solve
from .segments import search

_ROUNDS = 200
_BLOCKS = 16
"""Blocks of the first round."""
_TANGENTS = 17
"""Tangents of the first round: so many quantiles of all slopes."""
_PATIENCE = 4
"""A tangent far from a block's sum that made no difference for so many rounds is forgotten."""
_FORGETFUL = 40
"""From this round on nothing is forgotten any more, so that rounds come to an end."""
_NEW_RUNS = 3
"""Runs of each block whose worst demand becomes a cut in one round."""
_NEIGHBOURS = 6
"""Runs that get a cut at the same column."""
_NOISE = 1e-9
"""Part of the largest sum, or of a price, below which nothing is meant."""
_CLOSE = 1e-7
"""The bound is worth proving when the master programme's value comes so close to the plan's cost."""
_RESUMED = 4
"""Cuts for each block of a hint: those that are nearest to being tight."""
_REACH = (1, 2, 3, 4, 5, 6, 8, 12, 16, 32, 64)
"""Tangents for each block of a hint: so many pieces away. Sums moved by up to 8 when a thousand runs became 1 001."""


@dataclass
class Found:
    """The best that was found so far.

    Attributes:
        plan: ``int64[N]``, over the intervals.
        cost, bound: Its cost and a proven lower bound, times ``n``.
        rounds: How often the master programme was solved.
        hint: Blocks and their sums, for the next time: JSON-able.
    """

    plan: IntArray
    cost: float = np.inf
    bound: float = 0.0
    rounds: int = 0
    hint: Mapping[str, Any] | None = None

    def closed(self, tolerance: float) -> bool:
        """Whether the plan is as good as optimal."""
        return self.cost - self.bound <= tolerance * self.cost


def lazy(problem: Problem, warm: Mapping[str, Any] | None, tolerance: float) -> Found:
    """Find an optimum, or the best within a bounded number of rounds; the bound tells.

    Args:
        warm: ``Found.hint`` of a problem like this.
        tolerance: Relative distance of cost and bound at which to stop.
    """
    blocks, cuts = _start(problem, warm)
    found = Found(np.zeros(problem.lengths.sum(), dtype=np.int64))
    for found.rounds in range(1, _ROUNDS + 1):
        solution = solve(problem, blocks, cuts)
        plan, blocks, grown = _fill(problem, blocks, solution, forget=found.rounds < _FORGETFUL)
        starts = np.array([block.start for block in blocks])
        backlogs, worst = problem.backlogs(plan, starts)
        cost = problem.own_cost(plan) + (1 - problem.alpha) * float(backlogs.sum())
        more = _violated(problem, blocks, plan, worst - solution.backlogs[:, None], solution.backlogs)
        fresh = cuts.plus(more)
        stuck = not grown and len(fresh.runs) == len(cuts.runs)
        last = stuck or found.rounds == _ROUNDS
        if last or cost - (solution.value + problem.nothing) <= _CLOSE * cost:
            _improve(problem, found, np.repeat(plan, problem.lengths), cuts, solution.multipliers)
            if last or found.closed(tolerance):
                found.hint = _hint(problem, solution, starts, cuts)
                break
        cuts = fresh
        blocks = _split(problem, blocks, cuts)
    return found


def by_programme(problem: Problem, found: Found) -> None:
    """Improve what was found by the whole linear programme; its prices prove a bound as those of cuts do.

    The programme's own value proves little: it is only as good as HiGHS' tolerances, which are absolute.
    """
    plan, _, prices = LpSolver().optimum(problem.original, problem.alpha, problem.beta)
    multipliers = np.maximum(np.diff(prices, axis=1, prepend=0.0), 0.0)[:, problem.starts]
    runs, columns = (each.ravel() for each in np.indices(multipliers.shape))
    _improve(problem, found, plan, Cuts(runs, columns), multipliers.ravel())


def _improve(problem: Problem, found: Found, plan: FloatArray, cuts: Cuts, multipliers: FloatArray) -> None:
    """Take the plan in whole numbers if it is better than what was found, and the bound if it is."""
    rounded = whole(plan)
    cost = objective(rounded, problem.original, problem.alpha, problem.beta) * len(problem.counts)
    if cost < found.cost:
        found.plan, found.cost = rounded, cost
    found.bound = max(found.bound, lower_bound(problem, cuts, multipliers))


def _hint(problem: Problem, solution: Solution, starts: IntArray, cuts: Cuts) -> dict[str, Any]:
    """First intervals and sums of the blocks that begin where a demand was priced: the others made no difference."""
    priced = np.isin(starts, cuts.columns[solution.multipliers > _NOISE])
    priced[0] = True
    sums = [float(each) for each in solution.sums[priced]]
    return {"starts": [int(each) for each in problem.starts[starts[priced]]], "sums": sums}


def lower_bound(problem: Problem, cuts: Cuts, multipliers: FloatArray) -> float:
    """What no plan can cost less than, times ``n``: the Lagrangian's minimum, for any multipliers.

    They are first made small enough to be valid: those of one run add up to at most ``1 - alpha``, all of them to at
    most ``n · alpha``.
    """
    n, number = problem.shape
    per_run = np.bincount(cuts.runs, multipliers, n)
    valid = multipliers * np.minimum(1.0, (1 - problem.alpha) / np.maximum(per_run, 1e-300))[cuts.runs]
    pieces = problem.pieces
    top = pieces.top * pieces.unit
    valid *= min(1.0, top / max(float(valid.sum()), 1e-300))
    prices = np.cumsum(np.bincount(cuts.columns, valid, number))
    slopes = np.minimum(np.rint(prices / pieces.unit).astype(np.int64), pieces.top)
    ranks = search(pieces.slopes, slopes[None, :])[0]
    plan = pieces.at(ranks).astype(np.float64)
    planned = np.cumsum((plan * problem.lengths)[::-1])[::-1]
    short = problem.sums[cuts.runs, cuts.columns] - planned[cuts.columns]
    return problem.own_cost(plan) + float(valid @ short)


def _start(problem: Problem, warm: Mapping[str, Any] | None) -> tuple[list[Block], Cuts]:
    """Blocks and cuts to begin with: those of the hint, or evenly spaced ones."""
    n, number = problem.shape
    pieces = problem.pieces
    sample = pieces.slopes[:, :-1].ravel()[:: max(1, pieces.slopes.size // 4096)]
    quantiles = np.quantile(sample, np.linspace(0, 1, _TANGENTS)).astype(np.int64)
    slopes = np.unique(np.minimum(np.append(quantiles, pieces.top), pieces.top))
    ranks = search(pieces.slopes, np.broadcast_to(slopes[:, None], (len(slopes), number)))
    block = Block.make(problem, 0, number, slopes, ranks)
    hinted = _understand(problem, warm)
    if hinted is not None:
        return _resume(problem, block, *hinted)
    positions = np.unique(np.linspace(0, number, _BLOCKS + 1).astype(np.int64)[:-1])
    largest = problem.sums[:, positions].argmax(axis=0)
    cuts = Cuts.of(np.concatenate([np.arange(n), largest]), np.concatenate([np.zeros(n, dtype=np.int64), positions]))
    return _split(problem, [block], cuts), cuts


def _understand(problem: Problem, warm: Mapping[str, Any] | None) -> tuple[IntArray, FloatArray] | None:
    """Columns and sums of a hint; None if it makes no sense, for it may come from a file or from another history."""
    if warm is None:
        return None
    try:
        starts = np.array(warm["starts"], dtype=np.int64)
        sums = np.array(warm["sums"], dtype=np.float64)
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    if starts.ndim != 1 or starts.shape != sums.shape or not len(starts) or starts[0] != 0:
        return None
    if not np.isfinite(sums).all() or (np.diff(starts) <= 0).any() or (np.diff(sums) > 0).any() or sums[-1] < 0:
        return None
    known = np.searchsorted(starts, problem.starts)
    columns = np.flatnonzero(starts[np.minimum(known, len(starts) - 1)] == problem.starts)
    return columns, sums[known[columns]]


def _resume(problem: Problem, whole: Block, columns: IntArray, sums: FloatArray) -> tuple[list[Block], Cuts]:
    """The blocks of a hint, with tangents around their sums, and the cuts that are nearly tight there."""
    number = problem.shape[1]
    short = problem.sums[:, columns] - sums
    slack = np.maximum(short.max(axis=1, keepdims=True), 0.0) - short
    order = np.sort(slack, axis=None)
    limit = order[min(len(order) - 1, _RESUMED * len(columns))]
    runs, places = np.nonzero(slack <= limit)
    cuts = Cuts.of(runs, columns[places])
    parts = whole.split(problem, [int(each) for each in columns[1:]])
    amounts = -np.diff(sums, append=0.0)
    scratch = np.zeros(number)
    parts = [part.fill(problem, each, scratch, _REACH) for part, each in zip(parts, amounts, strict=True)]
    for part, amount in zip(parts, amounts, strict=True):
        part.idle += _PATIENCE
        part.forget(amount, _PATIENCE)
    return _split(problem, parts, cuts), cuts


def _fill(
    problem: Problem, blocks: Sequence[Block], solution: Solution, forget: bool
) -> tuple[FloatArray, list[Block], bool]:
    """The plan with these block sums; the blocks with tangents there; whether those are new."""
    plan = np.zeros(problem.shape[1])
    amounts = np.maximum(-np.diff(solution.sums, append=0.0), 0.0)
    filled = []
    grown = False
    first = 0
    for block, amount in zip(blocks, amounts, strict=True):
        used = solution.used[first : first + len(block.slopes)]
        first += len(block.slopes)
        block.idle = np.where(used, 0, block.idle + 1)
        better = block.fill(problem, float(amount), plan)
        grown = grown or len(better.slopes) > len(block.slopes)
        if forget:
            better.forget(float(amount), _PATIENCE)
        filled.append(better)
    return plan, filled, grown


def _violated(
    problem: Problem, blocks: Sequence[Block], plan: FloatArray, excess: FloatArray, backlogs: FloatArray
) -> Cuts:
    """Demands that the plan does not meet: of the worst runs in each block, and of others at the same places.

    Args:
        excess: ``float64[n, b]``: by how much each run exceeds its backlog at worst within each block.
    """
    planned = np.cumsum((plan * problem.lengths)[::-1])[::-1]
    least = _NOISE * problem.scale
    runs: list[int] = []
    columns: list[int] = []
    for index in np.flatnonzero(excess.max(axis=0) > least):
        block = blocks[int(index)]
        within = slice(block.start, block.end)
        for run in _largest(excess[:, index], _NEW_RUNS, least):
            column = block.start + int((problem.sums[run, within] - planned[within]).argmax())
            others = _largest(problem.sums[:, column] - planned[column] - backlogs, _NEIGHBOURS, least)
            runs += [int(run), *(int(other) for other in others)]
            columns += [column] * (1 + len(others))
    return Cuts.of(np.array(runs, dtype=np.int64), np.array(columns, dtype=np.int64))


def _largest(values: FloatArray, number: int, least: float) -> IntArray:
    """Places of the largest values above ``least``, at most ``number``."""
    places = np.argpartition(-values, number)[:number] if len(values) > number else np.arange(len(values))
    return np.sort(places[values[places] > least])


def _split(problem: Problem, blocks: Sequence[Block], cuts: Cuts) -> list[Block]:
    """The blocks, each starting anew at every column of a cut."""
    columns = np.unique(cuts.columns)
    parts: list[Block] = []
    for block in blocks:
        inside = columns[np.searchsorted(columns, block.start, side="right") : np.searchsorted(columns, block.end)]
        parts += block.split(problem, [int(each) for each in inside]) if len(inside) else [block]
    return parts
