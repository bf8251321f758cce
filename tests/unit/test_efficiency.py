"""Efficiency of jobs: parts, totals, retries, and that memory is bounded."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retz.cli.app import App
from retz.cli.eff import eff_command
from retz.client.efficiency import Report, efficiency
from tests.doubles.api import job as plain


def attempt(seconds: float, cpu_s: float, peak: float, number: int = 1, **more: Any) -> dict[str, Any]:
    end = f"2026-11-20T{6 + int(seconds) // 3600:02}:{int(seconds) % 3600 // 60:02}:{seconds % 60:06.3f}Z"
    usage = {"cpu_s": cpu_s, "max_rss_mb": peak, "gpu_util": None, "gpu_mem_mb": None}
    return {"number": number, "started": "2026-11-20T06:00:00.000Z", "ended": end, "usage": usage, **more}


def job(*attempts: dict[str, Any], cpus: float = 2.0, mem: int = 1000, **more: Any) -> dict[str, Any]:
    resources = {"cpus": cpus, "mem": mem, "disk": 0, "gpus": 0, "ports": 0}
    return {**plain(state="FINISHED"), "resources": resources, "attempts": list(attempts), "usage": None, **more}


def test_one_job() -> None:
    found = efficiency(job(attempt(100.0, 50.0, 250.0)))
    assert found is not None
    assert (found.elapsed_s, found.cpu, found.mem, found.worst, found.attempts) == (100.0, 0.25, 0.25, 0.25, 1)


def test_all_attempts_that_were_measured_count() -> None:
    lost = {**attempt(1000.0, 0.0, 0.0), "usage": None, "reason": "lost"}
    found = efficiency(job(lost, attempt(60.0, 30.0, 900.0, 2), attempt(40.0, 20.0, 100.0, 3)))
    assert found is not None
    assert (found.elapsed_s, found.cpu_s, found.cpu, found.mem, found.attempts) == (100.0, 50.0, 0.25, 0.9, 3)


def test_an_attempt_that_outgrew_its_size_was_given_that_size() -> None:
    sized = {"asked": {}, "runs": 9, "mem": 100, "outgrew": 1}
    report = Report(9)
    report.add(job(attempt(3600.0, 1.0, 100.0), attempt(3600.0, 1.0, 500.0, 2), sized=sized))
    assert report.total.mem_gib_hours == pytest.approx(1100 / 1024, abs=1e-4)
    assert report.worst[0].mem == 0.5


def test_what_was_never_started_or_measured_makes_no_part() -> None:
    report = Report(9)
    report.add(job())
    report.add(job(attempt(10.0, 5.0, 50.0), array={"size": 3}))
    assert report.total.jobs == 0
    report.add(job(attempt(10.0, 0.0, 0.0)))
    report.add(job(attempt(0.0, 0.5, 50.0)))
    assert (report.total.jobs, report.total.unmeasured, report.total.cpu) == (2, 1, None)
    assert [each.cpu for each in report.worst] == [None, None]


@given(
    st.lists(st.tuples(st.integers(1, 3000), st.integers(0, 6000), st.integers(1, 1000)), max_size=40),
    st.integers(1, 10),
)
def test_the_worst_are_kept_and_all_are_summed(runs: list[tuple[int, int, int]], most: int) -> None:
    report, everything = Report(most), Report(1000)
    for number, (seconds, cpu_s, peak) in enumerate(runs):
        one = job(attempt(float(seconds), float(cpu_s), float(peak)), id=number)
        report.add(one)
        everything.add(one)
    assert report.total == everything.total
    kept = [each.worst for each in report.worst]
    assert kept == sorted(each.worst for each in everything.worst)[:most]
    if runs:
        used, asked = sum(run[1] for run in runs), sum(2 * run[0] for run in runs)
        assert report.total.cpu == pytest.approx(used / asked, abs=1e-4)


class Pages:
    """An API of many pages, of which no two are alive at the same time."""

    def __init__(self, count: int) -> None:
        self.left, self.asked = count, list[str]()

    def call(self, call: Any) -> dict[str, Any]:
        self.asked.append(call.target)
        self.left -= 1
        jobs = [job(attempt(10.0, 10.0, 250.0), id=self.left * 2 + place) for place in range(2)]
        return {"jobs": jobs, "next": f"after{self.left}" if self.left else None}

    def resolve(self, ids: tuple[int, ...]) -> list[int]:
        return list(ids)


def run(pages: Pages, **options: Any) -> None:
    given_ = {"ids": (), "pipeline": None, "user": None, "since": None, "limit": None, "as_csv": False,
              "as_json": False, **options}  # fmt: skip
    assert eff_command.callback is not None
    wrapped: Any = eff_command.callback
    wrapped.__wrapped__(_as_app(pages), **given_)


def _as_app(pages: Any) -> App:
    found: App = pages
    return found


def test_pages_are_followed_and_filters_sent(capsys: pytest.CaptureFixture[str]) -> None:
    pages = Pages(3)
    run(pages, pipeline="etl", user="*", as_csv=True, limit=4)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("id,name,user,state,pipeline,run,elapsed_s,cpus,cpu_s,cpu,") and len(lines) == 5
    assert "state=ENDED" in pages.asked[0] and "pipeline=etl" in pages.asked[0] and "user=%2A" in pages.asked[0]
    assert ["cursor" in target for target in pages.asked] == [False, True, True]


def test_what_people_see(capsys: pytest.CaptureFixture[str]) -> None:
    run(Pages(1))
    out = capsys.readouterr().out
    assert "50%" in out and "25%" in out
    assert out.splitlines()[-1] == "2 jobs: 50% of 0.01 cpu hours, 25% of 0.0054 GiB hours of memory used"


class OneArray(Pages):
    """Array 1 goes on, its task 2 has ended; job 9 has ended, too."""

    def call(self, call: Any) -> dict[str, Any]:
        self.asked.append(call.target)
        array = job(id=1, array={"range": "1-3"}, state="QUEUED")
        task, other = (job(attempt(10.0, 10.0, 250.0), id=number) for number in (2, 9))
        jobs = [array, task] if "array%3D1" in call.target else [array, task, other, job(id=8, state="STARTED")]
        return {"jobs": jobs, "next": None}


def test_the_id_of_an_array_stands_for_its_tasks(capsys: pytest.CaptureFixture[str]) -> None:
    pages = OneArray(1)
    run(pages, ids=([1, 2], [8, 9]), as_csv=True)
    assert sorted(line.split(",")[0] for line in capsys.readouterr().out.splitlines()[1:]) == ["2", "9"]
    assert "state=ALL" in pages.asked[0] and "state=ENDED" in pages.asked[1]
    pages = OneArray(1)
    run(pages, ids=([1],), as_csv=True)
    assert "where=array%3D1&where=kind%3Dtask" in pages.asked[1]
