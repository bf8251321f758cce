"""Jobs exported from Retz, in every form in which Retz itself writes them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from estimator.errors import ParseError
from estimator.model import RecurrenceId
from estimator.skyline import Skyline
from estimator.solver.demand import merge
from estimator.translator.base import Finished
from estimator.translator.retz_jobs import RetzJobLineParser
from retz.model.job import Attempt, Job, Usage
from retz.model.resources import Resources
from retz.server.http.views import job_of
from retz.store import archive_segment, journal

SERIES = Usage(cpu_s=4.0, interval_s=2.0, series=((150, 50), (100, 90), (20, 30), (10, 5)))
LOST = Attempt(number=1, agent="a", launched=1000.5, started=1001.25, ended=1003.0, reason="lost")
NEVER = Attempt(number=2, agent="a", launched=1003.5, ended=1003.75, reason="lost")
GOOD = Attempt(number=3, agent="b", launched=1004.0, started=1005.0, ended=1012.5, usage=SERIES)


def job(**changes: Any) -> Job:
    fields: dict[str, Any] = {
        "id": 7,
        "owner": "ann",
        "command": "make",
        "resources": Resources(cpus=2.5, mem=100, gpus=1),
        "submitted": 1000.0,
        "pipeline": "nightly",
        "run": "2017-06-21",
        "state": "FINISHED",
        "ended": 1012.5,
        "attempts": (LOST, NEVER, GOOD),
    }
    return Job(**fields | changes)


def api(job: Job) -> bytes:
    return msgspec.json.encode(job_of(job))


def archived(job: Job) -> bytes:
    return archive_segment.encode_line(job)


def journalled(job: Job) -> bytes:
    return journal.encode_line(5, [("users", "ann", {"id": "ann"}), ("jobs", 7, job), ("jobs", 6, None)])


def listed(job: Job) -> bytes:
    return msgspec.json.encode({"schema": 1, "kind": "list", "jobs": [job_of(job)], "total": 1})


def watched(job: Job) -> bytes:
    return msgspec.json.encode({"schema": 1, "kind": "watch", "seq": 3, "job": job_of(job)})


FORMS = [api, archived, journalled, listed, watched]
WITH_SERIES = (archived, journalled)


def parse(line: bytes) -> Finished:
    finished = RetzJobLineParser().parse_line(line)
    assert finished is not None
    return finished


def block(data: bytes, parser: RetzJobLineParser | None = None) -> tuple[list[Finished], list[tuple[int, str]]]:
    bad: list[tuple[int, str]] = []
    parser = parser or RetzJobLineParser()
    return list(parser.parse_block(data, lambda offset, why: bad.append((offset, why)))), bad


@pytest.mark.parametrize("form", FORMS)
def test_every_form_says_the_same(form: Callable[[Job], bytes]) -> None:
    run, found = parse(form(job()))
    assert run == RecurrenceId("nightly", "2017-06-21")
    assert (found.job_id, found.submitted, found.finished) == ("7", 1001000, 1012000)
    held = {"memory": 100, "vcores": 2.5, "gpus": 1}
    # Zero is the second of the first attempt's start, 1001.25; all moments are rounded down.
    assert found.skyline == Skyline.of({0: held, 2: {}, 4: held, 11: {}})
    assert found.container == held
    if form in WITH_SERIES:
        assert found.used is not None
        assert found.used.at(5) == {"memory": 50, "vcores": 1.5} and found.used.at(6) == {"memory": 90, "vcores": 1.0}
        assert (found.used.start, found.used.end) == (4, 11)
    else:
        assert found.used is None


def test_jobs_of_one_run_come_one_by_one_and_know_their_place() -> None:
    late = Attempt(number=1, agent="a", launched=1100.0, started=1100.0, ended=1101.0)
    data = b"\n".join([api(job()), b"", api(job(id=8, attempts=(late,), ended=1101.0)), b""])
    jobs, bad = block(data)
    assert not bad and [found.job_id for _, found in jobs] == ["7", "8"] and jobs[0][0] == jobs[1][0]
    assert jobs[1][1].submitted - jobs[0][1].submitted == 99000


def test_jobs_one_after_the_other_do_not_stand_side_by_side() -> None:
    begins = [1000.25 + 10.5 * number for number in range(5)]
    jobs = [
        job(id=number, ended=start + 10.4, attempts=(Attempt(1, "a", start, start, start + 10.4, usage=SERIES),))
        for number, start in enumerate(begins)
    ]
    found, _ = block(b"".join(archived(each) + b"\n" for each in jobs))
    held = merge([each for _, each in found])
    used = merge([each for _, each in found], "used")
    assert held is not None and held[0].peak() == {"memory": 100, "vcores": 2.5, "gpus": 1}
    assert (held[0].start, held[0].end) == (0, 52)
    assert used is not None and used[0].peak() == {"memory": 90, "vcores": 1.5}


def test_a_job_shorter_than_a_second_is_not_lost() -> None:
    usage = Usage(cpu_s=0.3, max_rss_mb=20.0, interval_s=2.0)
    short = Attempt(number=1, agent="a", launched=1000.5, started=1000.5, ended=1000.75, usage=usage)
    found = parse(archived(job(attempts=(short,))))[1]
    assert found.skyline == Skyline.interval(0, 1, {"memory": 100, "vcores": 2.5, "gpus": 1})
    assert found.used == Skyline.interval(0, 1, {"memory": 20, "vcores": 1.2})
    nobody_looked = Attempt(number=1, agent="a", launched=1000.5, started=1000.5, ended=1000.75, usage=Usage())
    assert parse(archived(job(attempts=(nobody_looked,))))[1].used is None


def test_many_jobs_in_one_line() -> None:
    line = msgspec.json.encode({"jobs": [job_of(job()), job_of(job(id=8)), {"id": []}, job_of(job(pipeline=None))]})
    parser = RetzJobLineParser()
    jobs, bad = block(b"\n" + line + b"\r\n", parser)
    assert [found.job_id for _, found in jobs] == ["7", "8"]
    assert [offset for offset, _ in bad] == [1] and parser.nameless() == 1
    assert block(b'{"jobs": []}\n') == ([], [])
    with pytest.raises(ParseError, match="2 jobs"):
        RetzJobLineParser().parse_line(msgspec.json.encode({"jobs": [job_of(job()), job_of(job())]}))


@pytest.mark.parametrize("form", FORMS)
def test_jobs_without_a_pipeline_or_a_start_are_passed_over(form: Callable[[Job], bytes]) -> None:
    parser = RetzJobLineParser()
    assert parser.parse_line(form(job(pipeline=None))) is None and parser.nameless() == 1
    assert parser.parse_line(form(job(attempts=(NEVER,)))) is None
    assert parser.parse_line(form(job(attempts=()))) is None
    assert parser.unfinished() == 0


def test_a_running_job_is_unfinished_until_it_ends() -> None:
    parser = RetzJobLineParser()
    running = job(state="STARTED", ended=None, attempts=(LOST,))
    assert parser.parse_line(journalled(running)) is None and parser.parse_line(journalled(running)) is None
    assert parser.unfinished() == 1
    assert parser.parse_line(journalled(job())) is not None and parser.unfinished() == 0
    assert parser.parse_line(api(job(state="QUEUED", ended=None, attempts=()))) is None and parser.unfinished() == 0


def test_an_attempt_that_was_never_seen_to_end_ends_with_its_job() -> None:
    open_end = Attempt(number=1, agent="a", launched=1000.0, started=1000.0)
    assert parse(api(job(attempts=(open_end,))))[1].skyline.end == 12


def test_no_run_means_a_run_of_its_own() -> None:
    assert parse(archived(job(run=None)))[0] == ("nightly", "7")


def test_times_may_have_any_zone() -> None:
    line = api(job()).decode()
    assert parse(line.replace("00:16:52.500Z", "09:16:52.500+09:00").encode()) == parse(line.encode())
    assert parse(line.replace("Z", "").encode()) == parse(line.encode())


def test_the_head_of_a_journal_is_no_job() -> None:
    assert block(journal.header_line({"retz": "journal", "schema": 1, "first": 17})) == ([], [])


@pytest.mark.parametrize("form", [archived, journalled])
def test_damage_is_seen(form: Callable[[Job], bytes]) -> None:
    with pytest.raises(ParseError, match="checksum"):
        RetzJobLineParser().parse_line(form(job()).replace(b"nightly", b"nightlz"))


def changed(**fields: Any) -> bytes:
    document = json.loads(api(job()))
    return json.dumps(document | fields).encode()


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"[]",
        b"3",
        b"null",
        b'"job"',
        b"\x00\xff",
        b"[" * 100_000,
        b'{"id": ' + b"9" * 5000 + b"}",
        b'{"id": 1, "pipeline": "p", "ended": NaN}',
        changed(id=None),
        changed(pipeline=7),
        changed(pipeline="a\x1b[0m"),
        changed(run="x" * 1001),
        changed(pipeline="\ud800\n"),
        changed(ended="yesterday"),
        changed(ended=-1),
        changed(ended=True),
        changed(ended=1e300),
        changed(resources=[]),
        changed(resources={"mem": -5}),
        changed(resources={"cpus": float("nan")}),
        changed(resources={"mem": 2**64}),
        changed(resources={"mem": "5"}),
        changed(attempts={}),
        changed(attempts=[3]),
        changed(attempts=[{"started": [], "ended": 5}]),
        changed(attempts=[{"started": 10, "ended": 5}]),
        changed(attempts=[{"started": 1, "ended": 5, "usage": {"series": [[1, 2]], "interval_s": 0}}]),
        changed(attempts=[{"started": 1, "ended": 5, "usage": {"series": [[1]], "interval_s": 1}}]),
        changed(attempts=[{"started": 1, "ended": 5, "usage": {"series": [[-1, 2]], "interval_s": 1}}]),
        changed(attempts=[{"started": 1, "ended": 5, "usage": {"series": {"a": 1}, "interval_s": 1}}]),
        b"00000000 1 1 [[1]]",
    ],
)
def test_bad_jobs(line: bytes) -> None:
    with pytest.raises(ParseError):
        RetzJobLineParser().parse_line(line)
    good = api(job()) + b"\n"
    jobs, bad = block(good + line + b"\n" + good)
    assert len(jobs) == 2 and [offset for offset, _ in bad] == [len(good)]
