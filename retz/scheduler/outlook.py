"""What would become of a job, or of an array, that is not submitted yet: what possible futures say of the probe."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from msgspec import Struct

from retz.model.resources import Vector, add

from .forecast import NEVER, Foreseen, Word, foreseen
from .future import Future, probes, takers
from .limits import NO_HOLDING
from .situation import Kind, Row, Situation


class Outlook(Struct, frozen=True):
    """What there is to say of a job that is not submitted.

    Attributes:
        foreseen: Of an array when its first task starts and its last one ends.
        agents: How many could take it, or one of its tasks, if nothing else ran there.
        ahead: Jobs that start before it, and what they ask for together, in half of the futures.
        agent: Where it starts in most futures; "" if nowhere.
        not_before: A bound for a start that is too far behind others to be foreseen. Epoch seconds.
        end_not_before: A bound for an end that is too far away to be foreseen.
        at_once: So many tasks of an array run at the same time at most, in half of the futures.
        spread: On so many agents they run, in half of the futures.
    """

    foreseen: Foreseen
    agents: int
    ahead: int
    ahead_needs: Vector
    agent: str
    not_before: float | None = None
    end_not_before: float | None = None
    at_once: int = 1
    spread: int = 1


def outlook(situation: Situation, runs: Sequence[Future]) -> Outlook:
    """What these futures say of the situation's probe."""
    tasks = probes(situation)
    first = tasks[0]
    kind = situation.kinds[first.kind]
    row = next((each for each in situation.rows if each.id == situation.probe), Row(situation.probe))
    seen = [_seen(run, situation, [each.id for each in tasks]) for run in runs]
    agents = sum(1 for _ in takers(kind, situation))
    word: Word = "never" if not agents else "unknown" if situation.open else "paused"
    # Whoever starts with the last that were told of may have to wait for those behind them.
    hidden = bool(situation.cut)
    behind = hidden and word == "unknown" and any(each.start >= each.gone for each in seen)
    cut = bool(row.untold) or (hidden and any(each.last >= each.gone for each in seen))
    most = _most(kind, row, situation, len(tasks))
    before = sorted((each.before for each in seen), key=len)[len(seen) // 2]
    hosts = [run.agents[first.id] for run in runs if first.id in run.agents]
    return Outlook(
        foreseen=foreseen(
            [NEVER if behind else each.start for each in seen],
            [NEVER if cut else each.end for each in seen],
            situation.spreads[first.spread].source,
            "later" if behind else word,
        ),
        agents=agents,
        ahead=len(before),
        ahead_needs=_needs(situation, before),
        agent=max(sorted(set(hosts)), key=hosts.count) if hosts else "",
        not_before=_bound(each.start for each in seen) if behind else None,
        end_not_before=_bound(each.end_with(row.untold, most) for each in seen) if cut else None,
        at_once=_middle(each.at_once for each in seen),
        spread=_middle(len(set(run.agents.values())) for run in runs),
    )


@dataclass(slots=True)
class _Seen:
    """One future of the probe.

    Attributes:
        spans: Start and end of each task that is told of, if all of them start.
        start: When its first task starts.
        end: When all its tasks have ended; NEVER too if not all are told of.
        gone: When there is nothing left of those of whom not all jobs are told.
        before: Jobs that start no later than it.
    """

    spans: list[tuple[float, float]]
    start: float
    end: float
    gone: float
    before: list[int]

    @property
    def last(self) -> float:
        """When the last of the tasks starts that are told of."""
        return max((start for start, _ in self.spans), default=NEVER)

    @property
    def at_once(self) -> int:
        """So many run at the same time at most."""
        count = most = 0
        # At one moment ends come before starts.
        for _, step in sorted([(end, -1) for _, end in self.spans] + [(start, 1) for start, _ in self.spans]):
            count += step
            most = max(most, count)
        return most

    def end_with(self, untold: int, most: int) -> float:
        """Before when the untold do not end either, with as many at a time as there may ever be."""
        if not self.spans or not most:
            return NEVER
        last, mean = self.last, sum(end - start for start, end in self.spans) / len(self.spans)
        work = untold * mean + sum(max(0.0, end - last) for _, end in self.spans)
        return max(max(end for _, end in self.spans), last + work / most)


def _seen(run: Future, situation: Situation, ids: Sequence[int]) -> _Seen:
    own = frozenset(ids)
    start = min((run.started[each] for each in run.agents), default=NEVER)
    return _Seen(
        spans=[(run.started[each], run.ended[each]) for each in ids] if len(run.agents) == len(ids) else [],
        start=start,
        end=run.ended.get(situation.probe, NEVER),
        gone=min((run.started[last] for last in situation.cut if last in run.started), default=NEVER),
        before=[each for each, at in run.started.items() if at <= start and each not in own],
    )


def _most(kind: Kind, row: Row, situation: Situation, told: int) -> int:
    """So many tasks may run at the same time at most, if nothing else does."""
    rules, need = situation.rules, kind.need
    most = min(row.limit or told + row.untold, rules.max_running or told + row.untold)
    most = rules.user_limits.room(NO_HOLDING, need, most)
    rooms = (machine.room for machine in takers(kind, situation))
    return min(
        most,
        sum(
            min((has // wants for has, wants in zip(room, need, strict=True) if wants), default=most) for room in rooms
        ),
    )


def _needs(situation: Situation, job_ids: Iterable[int]) -> Vector:
    kinds = {each.id: each.kind for each in situation.waiters}
    needs: Vector = (0, 0, 0, 0, 0)
    for job_id in job_ids:
        needs = add(needs, situation.kinds[kinds[job_id]].need)
    return needs


def _bound(times: Iterable[float]) -> float | None:
    """The earliest of these times."""
    earliest = min(times)
    return earliest if earliest < NEVER else None


def _middle(numbers: Iterable[int]) -> int:
    ordered = sorted(numbers)
    return ordered[len(ordered) // 2]
