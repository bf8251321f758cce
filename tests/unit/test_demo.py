"""What ``make demo`` says about its last run is true whatever became of it."""

from __future__ import annotations

from typing import Any

from retz.demo.learning import BUILD, outcome
from retz.demo.queue import Expected, difference


def job(given: int, asked: int = 600, used: float | None = 94.2, **sized: Any) -> dict[str, Any]:
    known = {"asked": {"mem": asked}, "mem": given, "outgrew": None, **sized}
    usage = None if used is None else {"max_rss_mb": used}
    return {"id": 15, "resources": {"mem": given}, "sized": known, "usage": usage}


def test_a_saving_is_told() -> None:
    told = outcome(job(105)).strip()
    assert told == "job 15 asked for 600M, got 105M, used 94M: 82% of its memory was free for others."


def test_nothing_saved_is_not_called_a_saving() -> None:
    assert "free for others" not in outcome(job(600)) + outcome(job(700)) + outcome(job(598))


def test_an_unmeasured_job_has_used_nothing_that_anybody_knows() -> None:
    assert "used" not in outcome(job(105, used=None))


def test_too_few_runs() -> None:
    assert outcome(job(600, mem=None)).endswith("asked for 600M, and got that: too few runs were measured.")


def test_who_outgrew_its_size_is_told_so() -> None:
    assert outcome(job(600, mem=105, outgrew=1)).endswith("got 105M, needed more, and ran once more with 600M.")


def test_the_program_of_the_pipeline_is_one() -> None:
    compile(BUILD, "build.py", "exec")


ENDLESS = Expected("never ends", "KILLED", "user")


def ended(*started: str | None, **job: Any) -> dict[str, Any]:
    attempts = [{"started": each} for each in started]
    return {"state": "KILLED", "reason": "user", "exit_code": None, "attempts": attempts, **job}


def test_a_launch_that_a_killed_server_took_back_is_no_run() -> None:
    assert difference(ended(None, "2026-11-20T10:00:00Z"), ENDLESS) is None


def test_a_job_that_ran_twice_or_never_is_told() -> None:
    assert difference(ended("2026-11-20T10:00:00Z", "2026-11-20T10:00:01Z"), ENDLESS) == "ran 2 times, expected once"
    assert difference(ended(None), ENDLESS) == "ran 0 times, expected once"


def test_another_end_than_expected_is_told() -> None:
    told = difference(ended("2026-11-20T10:00:00Z", state="FAILED", reason="oom"), ENDLESS)
    assert told is not None and "'oom'" in told and "'user'" in told
