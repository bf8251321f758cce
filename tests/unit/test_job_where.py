"""Conditions on jobs."""

from __future__ import annotations

import pytest

from retz.model.array import parse_array
from retz.model.job import Attempt, Job
from retz.model.resources import Resources
from retz.store.job_where import check_of, parse_condition

WAITING = Job(id=1, owner="ann", command="sleep 1", resources=Resources(4, 8192, gpus=1), submitted=100.0, name="Sweep")
ENDED = Job(
    id=2,
    owner="bo",
    command=("train", "--fast"),
    resources=Resources(0.5, 512),
    submitted=100.0,
    state="FAILED",
    ended=400.0,
    exit_code=3,
    tags=("night",),
    pipeline="etl",
    attempts=(Attempt(1, "n7", launched=150.0, started=160.0, ended=400.0),),
)


ARRAY = Job(id=3, owner="ann", command="x", resources=Resources(1, 1), submitted=1.0, array=parse_array("1-9"))
TASK = Job(id=4, owner="ann", command="x", resources=Resources(1, 1), submitted=1.0, array_id=3, array_index=1)


def test_arrays_and_their_tasks() -> None:
    def chosen(text: str) -> list[int]:
        check = check_of(parse_condition(text), 1000.0)
        return [job.id for job in (WAITING, ARRAY, TASK) if check(job)]

    assert [chosen(f"kind={kind}") for kind in ("job", "array", "task")] == [[1], [3], [4]]
    assert chosen("kind!=task") == [1, 3]
    assert chosen("array=3") == [3, 4]


def fulfil(*texts: str) -> list[int]:
    checks = [check_of(parse_condition(text), 1000.0) for text in texts]
    return [job.id for job in (WAITING, ENDED) if all(check(job) for check in checks)]


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("gpus>0", [1]),
        ("gpus=0", [2]),
        ("cpus>=4", [1]),
        ("cpus<=0.5", [2]),
        ("mem>1g", [1]),
        ("mem<513", [2]),
        ("mem!=512", [1]),
        ("wait>10m", [1]),
        ("wait=60", [2]),
        ("run>=4m", [2]),
        ("!run>=4m", [1]),
        ("run>0", [2]),
        ("exit=3", [2]),
        ("priority=0", [1, 2]),
        ("state=failed", [2]),
        ("!state=failed", [1]),
        ("user!=ann", [2]),
        ("name~sweep", [1]),
        ("name=sweep", []),
        ("tag=night", [2]),
        ("tag!=night", [1]),
        ("pipeline=etl", [2]),
        ("pipeline=", [1]),
        ("command~train --f", [2]),
        ("text~SWEEP", [1]),
        ("agent=n7", [2]),
        ("!agent=n7", [1]),
    ],
)
def test_conditions(text: str, ids: list[int]) -> None:
    assert fulfil(text) == ids


def test_all_must_hold() -> None:
    assert fulfil("cpus>0", "state=queued", "!text~train") == [1]
    assert fulfil("gpus>0", "exit=3") == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no condition"),
        ("gpus", "no condition"),
        ("gpus>", "no amount of gpus"),
        ("gpus>many", "no amount of gpus"),
        ("gpus>nan", "no amount"),
        ("mem>8q", "say 8g"),
        ("wait>soon", "say 10m"),
        ("colour=red", "no field 'colour'"),
        ("cpus~4", "cpus is a number"),
        ("user>ann", "user is a text"),
        ("state=asleep", "no state 'asleep'"),
        ("name~" + "x" * 200, "no condition"),
    ],
)
def test_what_is_wrong_is_said(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_condition(text)
