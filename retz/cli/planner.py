"""``retz planner test``: try a planner of your own, without a server."""

from __future__ import annotations

import random
import signal
import sys
import time
from collections import Counter
from contextlib import redirect_stdout
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from retz.planner_loading import LoadError, load

from .errors import REFUSED, CliError
from .output import Column, plural, print_json, print_table
from .parameters import json_option

if TYPE_CHECKING:
    from retz.scheduler.plugin import OwnPlanner, Situation
    from retz.scheduler.proving import Proof

HANGS = 10.0
"""A plan that takes so many times its budget is not waited for."""


@click.group("planner")
def planner_command() -> None:
    """Try a planner of your own: docs/planners.md says how to write one."""


@planner_command.command("test")
@click.argument("name")
@click.option("--seed", type=click.IntRange(0), metavar="N", default=1, help="The first situation's [default: 1].")
@click.option("--rounds", type=click.IntRange(1), metavar="N", default=200, help="Situations to try [default: 200].")
@click.option("--budget", type=click.FloatRange(0.001), metavar="S", default=1.0, help="For one plan [default: 1].")
@json_option
def test_command(name: str, seed: int, rounds: int, budget: float, as_json: bool) -> int:
    """Try a planner on random clusters and queues. NAME is package.module.Class, or an entry point's name.

    Looks for rooms that are over-committed, jobs placed twice, attributes that are not there, two plans in one
    situation, jobs that never start, and time. It needs no server; modules are looked for in this directory, too. The
    exit code is 1 if anything was found.
    """
    from retz.scheduler.proving import prove

    sys.path.insert(0, str(Path.cwd()))
    watch = _Watch(name, budget * HANGS)
    try:
        with redirect_stdout(sys.stderr):  # what the planner prints is no result of ours
            proof = prove(watch.make, watch.dice, time.perf_counter, seed=seed, rounds=rounds, budget_s=budget)
    except LoadError as error:
        raise CliError(str(error)) from None
    except _Hangs:
        again = f"retz planner test {name} --seed {watch.seed} --rounds 1"
        raise CliError(f"a plan took longer than {watch.most_s:g} s: it hangs; again: {again}") from None
    found = _summary(proof)
    if as_json:
        times = {"slowest_s": proof.slowest_s, "large_s": proof.large_s}
        print_json("planner test", name=name, seed=seed, rounds=rounds, found=found, **times)
    else:
        _tell(proof, found, f"planner {name}: {plural(rounds, 'situation')} from seed {seed}")
    return REFUSED if found else 0


def _summary(proof: Proof) -> list[dict[str, Any]]:
    """Of each kind of finding the first, and how many there were."""
    counts = Counter(finding.kind for finding in proof.findings)
    firsts = {finding.kind: finding for finding in reversed(proof.findings)}
    return [
        {"kind": kind, "count": count, "seed": firsts[kind].seed, "text": firsts[kind].text}
        for kind, count in counts.items()
    ]


def _tell(proof: Proof, found: list[dict[str, Any]], title: str) -> None:
    print(
        f"{title}; the slowest plan took {proof.slowest_s * 1e3:.1f} ms, one of 100 000 jobs {proof.large_s * 1e3:.1f}"
    )
    if not found:
        print("nothing found")
        return
    columns = [Column("FOUND"), Column("TIMES", True), Column("SEED", True), Column("FIRST")]
    print_table(columns, [[each["kind"], str(each["count"]), str(each["seed"]), each["text"]] for each in found])
    print("one situation again: the same command with --seed SEED --rounds 1")


class _Hangs(BaseException):
    """No plan came. Not an exception that the suite, or the planner, takes for one of the planner's."""


class _Watch:
    """Makes planners that are not waited for longer than ``most_s``, and knows which situation is tried."""

    def __init__(self, name: str, most_s: float) -> None:
        self._name = name
        self.most_s = most_s
        self.seed = 0

    def dice(self, seed: int) -> random.Random:
        """The random source of a seed."""
        self.seed = seed
        return random.Random(seed)

    def make(self) -> OwnPlanner:
        """A new planner."""
        return _Watched(load(self._name), self.most_s)


class _Watched:
    def __init__(self, planner: OwnPlanner, most_s: float) -> None:
        self._planner = planner
        self._most_s = most_s

    def plan(self, situation: Situation) -> list[Any]:
        before = signal.signal(signal.SIGALRM, _late)
        signal.setitimer(signal.ITIMER_REAL, self._most_s)
        try:
            return list(self._planner.plan(situation))
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


def _late(number: int, frame: FrameType | None) -> None:
    raise _Hangs
