"""What every planner must hold, tried on random clusters and queues. The same for the built-in ones and users' own.

``retz planner test`` runs :func:`prove`; Retz's own tests do, too. Everything comes from a seed: equal seeds, equal
findings. Time is measured with a clock that the caller brings.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from msgspec.structs import replace

from retz.model.agent import AttributeValue

from .plugin import Amounts, Choice, Kept, OwnPlanner, Room, Situation, User, Waiting, problems

if TYPE_CHECKING:
    from random import Random

CPUS = (0, 100, 500, 1000, 1000, 2000, 4000, 16_000)
MEMORY = (0, 100, 100, 400, 1000, 8000)
ATTRIBUTES: tuple[dict[str, AttributeValue], ...] = (
    {},
    {"rack": "r1"},
    {"rack": "r1", "level": 3.0},
    {"rack": "r2", "ssd": True},
)
CONSTRAINTS = ("", "", "", "rack=r1", "!ssd", "level>=3,rack=r1", "rack!=r1")
LIMITS_S = (60.0, 600.0, 7200.0, math.inf)
USERS = ("u1", "u2", "u3")

LARGE_JOBS, LARGE_SHAPES, LARGE_OFFERS = 100_000, 500, 100

IDLE_HOURS = 48
"""A planner that goes by the clock is given two days to run something on an idle cluster."""


class Finding(NamedTuple):
    """Something that a planner must not do. ``seed`` brings it about again.

    ``kind`` is one of ``plugin.KINDS``, or: ``raised``, ``nonsense``, ``fickle`` (two plans in one situation),
    ``stuck`` (nothing runs although a job fits the idle cluster), ``slow``.
    """

    kind: str
    text: str
    seed: int


class Proof(NamedTuple):
    """What :func:`prove` found, and how long plans took: the slowest of the small ones, and one of 100 000 jobs."""

    findings: list[Finding]
    slowest_s: float
    large_s: float


def prove(
    make: Callable[[], OwnPlanner],
    dice: Callable[[int], Random],
    clock: Callable[[], float],
    *,
    seed: int = 1,
    rounds: int = 200,
    budget_s: float = 1.0,
) -> Proof:
    """Try a planner.

    Args:
        make: Returns a new planner.
        dice: Makes a random source of a seed: ``random.Random``.
        clock: Seconds, rising evenly.
        rounds: So many situations, with seeds from ``seed`` on.
        budget_s: A plan that takes longer is ``slow``.
    """
    findings: list[Finding] = []
    slowest = 0.0
    for number in range(seed, seed + rounds):
        trial = _Trial(make, clock)
        findings += _first_of_each(trial.run(dice(number)), number)
        slowest = max(slowest, trial.slowest_s)
    large = _Trial(make, clock)
    findings += _first_of_each(large.plan(large_situation(dice(seed))), seed)
    for took, what in ((slowest, "a small situation"), (large.slowest_s, f"{LARGE_JOBS} jobs")):
        if took > budget_s:
            findings.append(Finding("slow", f"{took:.2f} s for {what}, where {budget_s:g} s are allowed", seed))
    return Proof(findings, slowest, large.slowest_s)


def _first_of_each(found: Iterable[tuple[str, str]], seed: int) -> list[Finding]:
    """One finding of each kind is enough for a situation."""
    firsts: dict[str, Finding] = {}
    for kind, text in found:
        firsts.setdefault(kind, Finding(kind, text, seed))
    return list(firsts.values())


class _Trial:
    """One planner in one situation."""

    def __init__(self, make: Callable[[], OwnPlanner], clock: Callable[[], float]) -> None:
        self._make = make
        self._clock = clock
        self._planner = make()
        self.choices: list[Choice] = []
        self.slowest_s = 0.0

    def run(self, dice: Random) -> Iterator[tuple[str, str]]:
        """Plan once, once more with a fresh planner, and then until the queue is empty."""
        first = situation(dice)
        found = list(self.plan(first))
        if not found:
            choices, again = self.choices, _Trial(self._make, self._clock)
            found = list(again.plan(first))
            if not found and again.choices != choices:
                found = [("fickle", f"{_few(choices)}, and the next time {_few(again.choices)}")]
        yield from found or self._drain(first)

    def plan(self, shown: Situation) -> Iterator[tuple[str, str]]:
        """What is wrong with the planner's answer, which is :attr:`choices`."""
        begin = self._clock()
        try:
            answer = list(self._planner.plan(shown))
        except Exception as error:  # noqa: BLE001  (anything may go wrong in somebody else's code)
            yield "raised", f"{type(error).__name__}: {error}"
            return
        self.slowest_s = max(self.slowest_s, self._clock() - begin)
        try:
            self.choices = msgspec.convert(answer, list[Choice])
        except msgspec.ValidationError as error:
            yield "nonsense", f"no list of choices: {error}"
            return
        yield from problems(shown, self.choices)

    def _drain(self, first: Situation) -> Iterator[tuple[str, str]]:
        """Whatever is placed ends within the hour: in the end everything that fits an agent must have run."""
        first = replace(first, offers=tuple(replace(offer, kept=None) for offer in first.offers))
        shown, idle = first, 0
        while idle < IDLE_HOURS and any(_finds_room(shape, first.offers) for shape in shown.waiting):
            found = list(self.plan(shown))
            if found:
                yield from found
                return
            if self.choices:
                shown = _after(shown, self.choices)
            else:
                idle = idle + 1 if shown.offers == first.offers else 0
                shown = replace(shown, offers=first.offers, now=shown.now + 3600.0)
        left = sum(shape.count for shape in shown.waiting if _finds_room(shape, first.offers))
        if left:
            yield "stuck", f"{left} jobs wait for ever, though they fit and nothing else runs"


def _finds_room(shape: Waiting, offers: Iterable[Room]) -> bool:
    return any(offer.room.times(shape.need) > 0 and offer.accepts(shape) for offer in offers)


def _after(shown: Situation, choices: Sequence[Choice]) -> Situation:
    """With what was chosen gone from queue and offers, up to the limit."""
    counts = {shape.key: shape.count for shape in shown.waiting}
    needs = {shape.key: shape.need for shape in shown.waiting}
    rooms = {offer.id: offer.room for offer in shown.offers}
    most = shown.limit
    for key, offer, jobs in choices:
        count = min(jobs, most)
        most -= count
        counts[key] -= count
        rooms[offer] = rooms[offer].less(needs[key], count)
    waiting = tuple(replace(shape, count=counts[shape.key]) for shape in shown.waiting if counts[shape.key])
    return replace(shown, waiting=waiting, offers=tuple(replace(each, room=rooms[each.id]) for each in shown.offers))


def _few(choices: Sequence[Choice]) -> str:
    text = ", ".join(f"{jobs} of shape {key} on {offer}" for key, offer, jobs in choices[:3])
    return f"{text}, ..." if len(choices) > 3 else text or "nothing"


# -- situations ----------------------------------------------------------------------------------------------


def situation(dice: Random) -> Situation:
    """A small cluster and queue, anything in them: nothing waiting, no room, jobs that need nothing, kept agents."""
    waiting = _queue(dice, dice.randint(0, 12), lambda: dice.choice((1, 1, 1, 2, 5, 40)))
    offers = [_room(dice, number) for number in range(dice.randint(0, 8))]
    if waiting and offers and dice.random() < 0.3:
        job = dice.choice(waiting).key
        kept = Kept(job, job, dice.choice((700.0, math.inf)), Amounts(500, 100, 0, 0, 0))
        offers[0] = replace(offers[0], kept=kept)
    return _situation(dice, waiting, offers, dice.choice((1, 16, 128, 128)))


def large_situation(dice: Random) -> Situation:
    """100 000 jobs of 500 shapes, and 100 offers."""
    waiting = _queue(dice, LARGE_SHAPES, lambda: LARGE_JOBS // LARGE_SHAPES)
    return _situation(dice, waiting, [_room(dice, number) for number in range(LARGE_OFFERS)], 128)


def _situation(dice: Random, waiting: Sequence[Waiting], offers: Sequence[Room], limit: int) -> Situation:
    users = tuple(
        User(name, dice.random() / len(USERS), dice.uniform(0, 1e5), Amounts(1000 * dice.randint(0, 9), 0, 0, 0, 0))
        for name in dict.fromkeys(shape.owner for shape in waiting)
    )
    return Situation(1000.0, limit, dice.randint(0, 50), tuple(waiting), tuple(offers), users)


def _queue(dice: Random, shapes: int, count: Callable[[], int]) -> list[Waiting]:
    key, found = dice.randint(1, 1000), []
    for _ in range(shapes):
        need = Amounts(
            dice.choice(CPUS),
            dice.choice(MEMORY),
            dice.choice((0, 0, 100)),
            dice.choice((0, 0, 0, 1, 4)),
            dice.choice((0, 0, 0, 2)),
        )
        constraint, limit_s, priority = dice.choice(CONSTRAINTS), dice.choice(LIMITS_S), dice.randint(-20, 19)
        waited = dice.uniform(0.0, 900.0)
        found.append(Waiting(key, need, constraint, dice.choice(USERS), priority, limit_s, count(), waited))
        key += dice.randint(1, 500)
    return found


def _room(dice: Random, number: int) -> Room:
    room = Amounts(
        dice.choice((0, 500, 2500, 8000, 64_000)),
        dice.choice((0, 150, 2000, 64_000)),
        dice.choice((0, 1000)),
        dice.choice((0, 0, 2, 8)),
        dice.choice((0, 10)),
    )
    return Room(f"o{number}", f"a{number}", f"host{number}", room, dice.choice(ATTRIBUTES))
