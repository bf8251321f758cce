"""The ResourceManager's log: Hadoop's own tests, its quirks put right, and hostile lines."""

from __future__ import annotations

from collections.abc import Iterable
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from estimator.errors import ParseError
from estimator.model import RecurrenceId, ResourceSkyline
from estimator.skyline import Skyline
from estimator.translator import applications
from estimator.translator.applications import Application, Applications
from estimator.translator.base import Finished
from estimator.translator.lines import each_line
from estimator.translator.resource_manager import ResourceManagerLineParser

APP = "application_1497832133857_0330"
C1, C2 = (f"container_e26_1497832133857_0330_01_00000{number}" for number in (1, 2))


def line(time: str, message: str, day: str = "06/21/2017") -> bytes:
    process = 'Pid="5156" Tid="39272" TS="0x01D2EAA8DD060D14"'
    return f'252823:e,{day} {time},yarn resourcemanager,DefaultTag,{process} String1="INFO {message}"'.encode()


def submit(time: str, app: str = f"APPID={APP}") -> bytes:
    told = f"TARGET=ClientRMService  RESULT=SUCCESS  {app}  CALLERCONTEXT=HIVE_QUERY_ID:Exo_1"
    return line(time, f"RMAuditLogger: USER=hadoop  IP=1.2.3.4  OPERATION=Submit Application Request  {told}")


def move(time: str, what: str, container: str, app: str = f"APPID={APP}", key: str = "CONTAINERID") -> bytes:
    told = f"TARGET=SchedulerApp RESULT=SUCCESS  {app}  {key}={container}"
    return line(time, f"RMAuditLogger: USER=hadoop  OPERATION=AM {what} Container  {told}")


def sized(container: str, size: str) -> bytes:
    ids = f"AppId: {APP} AttemptId: appattempt_{APP[12:]}_000001 MasterContainer: Container: [ContainerId: {container}"
    return line("16:10:14", f"Storing attempt: {ids}, NodeId: node:10131, Resource: {size}, Priority: 0]")


def summary(time: str, name: str = "FraudDetection-1", app: str = APP) -> bytes:
    told = f"appId={app},name={name},user=hadoop, queue=PROD,preemptedResources=<memory:0\\, vCores:0>"
    return line(time, f"resourcemanager.RMAppManager$ApplicationSummary: {told}")


def parse(
    lines: Iterable[bytes], parser: ResourceManagerLineParser | None = None
) -> tuple[list[Finished], list[tuple[int, str]]]:
    """Jobs and bad lines by number; the two ways of parsing must agree."""
    parser = parser or ResourceManagerLineParser()
    data = b"".join(each + b"\n" for each in lines)
    bad: list[tuple[int, str]] = []
    other: list[tuple[int, str]] = []
    jobs = list(parser.parse_block(data, lambda offset, why: bad.append((data.count(b"\n", 0, offset), why))))
    single = ResourceManagerLineParser()

    def note(offset: int, why: str) -> None:
        other.append((data.count(b"\n", 0, offset), why))

    assert list(each_line(data, single.parse_line, note)) == jobs and other == bad
    return jobs, bad


def only(lines: Iterable[bytes]) -> ResourceSkyline:
    jobs, bad = parse(lines)
    assert not bad and len(jobs) == 1
    return jobs[0][1]


FRAUD = [
    submit("16:10:13"),
    line("16:10:13", f"rmapp.RMAppImpl: Storing application with id {APP}"),
    move("16:10:13", "Allocated", C1),
    sized(C1, "<memory:1800, vCores:1>"),
    line("16:12:34", f"rmapp.RMAppImpl: {APP} State change from ACCEPTED to RUNNING"),
    move("16:12:35", "Allocated", C2),
    move("16:15:58", "Released", C2),
    move("16:18:35", "Released", C1),
    line("16:18:35", f"RMAuditLogger: OPERATION=Application Finished - Succeeded  APPID={APP}"),
    summary("16:18:35"),
]


def count(job: ResourceSkyline, time: int, memory: int = 1800) -> float:
    return job.skyline.at(time)["memory"] / memory


def test_hadoops_sample() -> None:
    jobs, bad = parse(FRAUD)
    assert not bad and [run for run, _ in jobs] == [RecurrenceId("FraudDetection", "1")]
    job = jobs[0][1]
    assert (job.job_id, job.input_size) == (APP, 0.0)
    assert (job.submitted, job.finished) == (1498061413000, 1498061915000)
    assert job.container == {"memory": 1800.0, "vcores": 1.0}
    assert [count(job, time) for time in (0, 141, 142, 344, 345, 501, 502)] == [1, 1, 2, 2, 1, 1, 0]


def test_job_metadata() -> None:
    steps = [submit("16:27:25"), move("16:27:30", "Allocated", C1), move("16:27:40", "Allocated", C2)]
    ends = [move("16:37:30", "Released", C1), move("16:37:40", "Released", C2), summary("16:40:00")]
    job = only([*steps, *ends])
    assert [count(job, time, 1024) for time in (0, 4, 5, 14, 15, 604, 605, 614, 615)] == [0, 0, 1, 1, 2, 2, 1, 1, 0]
    job = only([*steps, ends[0], ends[2]])  # a container that was never given back
    assert [count(job, time, 1024) for time in (0, 4, 5, 604, 605)] == [0, 0, 1, 1, 0]


def test_the_last_submission_counts() -> None:
    job = only([submit("16:10:13"), move("16:10:14", "Allocated", C1), submit("16:10:23"), summary("16:18:35")])
    assert job.submitted == 1498061423000 and job.skyline.is_empty


def test_submission_without_id() -> None:
    jobs, bad = parse([submit("16:10:13", "APPIDs=2"), summary("16:18:35")])
    assert not jobs and [number for number, _ in bad] == [0]


@pytest.mark.parametrize(
    "broken", [move("16:10:13", "Allocated", C1, "APPIDs=3"), move("16:10:13", "Allocated", C1, key="CONTAINERIDs")]
)
def test_allocation_without_ids(broken: bytes) -> None:
    jobs, bad = parse([submit("16:10:13"), broken, move("16:18:35", "Released", C1), summary("16:18:35", "Test-3")])
    assert [number for number, _ in bad] == [1]
    assert jobs[0][0] == RecurrenceId("Test", "3") and jobs[0][1].skyline.is_empty


@pytest.mark.parametrize(
    "date", ["2017.07.16", "21/06/2017", "6/21/2017", "06/31/2017", "00/00/0000", "06-21-2017", "", "06/21/99999"]
)
def test_dates_are_strict(date: str) -> None:
    with pytest.raises(ParseError, match="no date"):
        ResourceManagerLineParser().parse_line(line("16:10:13", "OPERATION=Submit Application Request", date))


@pytest.mark.parametrize(
    ("name", "run"),
    [
        ("Foo-2017-06-21", ("Foo", "2017-06-21")),
        ("a.b c:d-e.f g:h", ("a.b c:d", "e.f g:h")),
        ("select\\, all-1", ("select, all", "1")),
        ("nächtlich-1", ("nächtlich", "1")),
    ],
)
def test_names_are_kept_whole(name: str, run: tuple[str, str]) -> None:
    jobs, bad = parse([submit("16:10:13"), summary("16:18:35", name)])
    assert not bad and jobs[0][0] == run


@pytest.mark.parametrize("name", ["nightly", "-1", "nightly-", ""])
def test_jobs_of_no_pipeline_are_counted(name: str) -> None:
    parser = ResourceManagerLineParser()
    jobs, bad = parse([submit("16:10:13"), summary("16:18:35", name)], parser)
    assert not jobs and not bad and parser.nameless() == 1 and parser.unfinished() == 0


def test_each_container_has_its_size_if_the_log_says_so() -> None:
    told = f"{C2}  RESOURCE=<memory:4096, vCores:2>"
    steps = [submit("16:10:00"), move("16:10:00", "Allocated", C1), sized(C1, "<memory:1024, vCores:1>")]
    ends = [move("16:10:20", "Released", C2), move("16:10:30", "Released", C1), summary("16:10:30")]
    expected = Skyline.of(
        {
            0: {"memory": 1024, "vcores": 1},
            10: {"memory": 5120, "vcores": 3},
            20: {"memory": 1024, "vcores": 1},
            30: {},
        }
    )
    one = only([*steps, move("16:10:10", "Allocated", told), *ends])
    assert one.skyline == expected and one.container == {"memory": 1024.0, "vcores": 1.0}
    # Told in a line of its own, before the allocation; the size of the master is not touched.
    assert only([*steps, sized(C2, "<memory:4096, vCores:2>"), move("16:10:10", "Allocated", C2), *ends]) == one


def test_without_a_size_a_container_is_as_large_as_the_master() -> None:
    steps = [submit("16:10:00"), move("16:10:00", "Allocated", C2), move("16:10:05", "Released", C2)]
    job = only([*steps, sized(C1, "<memory:2048, vCores:3>"), summary("16:10:30")])
    assert job.skyline == Skyline.interval(0, 5, {"memory": 2048, "vcores": 3})
    assert job.container == {"memory": 2048.0, "vcores": 3.0}


def test_gpus() -> None:
    told = f"{C1}  RESOURCE=<memory:2048, vCores:3, yarn.io/gpu: 2>"
    moves = [move("16:10:00", "Allocated", told), move("16:10:05", "Released", C1)]
    job = only([submit("16:10:00"), *moves, summary("16:10:30")])
    assert job.skyline == Skyline.interval(0, 5, {"memory": 2048, "vcores": 3, "gpus": 2})
    assert job.container == {"memory": 2048.0, "vcores": 3.0, "gpus": 2.0}


def test_ids_without_an_epoch() -> None:
    """The application of ``container_<cluster>_<app>_..`` is found where an ``e26_`` is missing."""
    plain = C1.replace("e26_", "")
    size = line("16:10:14", f"Assigned [ContainerId: {plain}, NodeId: n:1, Resource: <memory:512, vCores:1>]")
    moves = [move("16:10:13", "Allocated", plain), size, move("16:10:23", "Released", plain)]
    job = only([submit("16:10:13"), *moves, summary("16:10:23")])
    assert job.skyline == Skyline.interval(0, 10, {"memory": 512, "vcores": 1})


def test_a_failed_attempt_begins_anew() -> None:
    failed = line("16:10:40", f"Application Attempt appattempt_{APP[12:]}_000001 is done. finalState=FAILED")
    moves = [move("16:10:50", "Allocated", C2), move("16:11:00", "Released", C2)]
    job = only([*FRAUD[:4], failed, *moves, summary("16:11:00")])
    assert job.submitted == 1498061440000
    assert job.skyline == Skyline.interval(10, 20, {"memory": 1024, "vcores": 1})
    unknown = line("16:10:40", "Application Attempt appattempt_1_2_000001 is done. finalState=FAILED")
    assert parse([unknown]) == ([], [])


def test_a_refused_submission_is_none() -> None:
    parser = ResourceManagerLineParser()
    assert parse([submit("16:10:13").replace(b"SUCCESS", b"FAILURE")], parser) == ([], [])
    assert parser.unfinished() == 0


def test_log4j_has_the_same_messages() -> None:
    plain = [
        each.replace(b"252823:e,06/21/2017 ", b"2017-06-21 ")
        .replace(b',yarn resourcemanager,DefaultTag,Pid="5156" Tid="39272" TS="0x01D2EAA8DD060D14" String1="', b",123 ")
        .rstrip(b'"')
        for each in FRAUD
    ]
    assert plain[0].startswith(b"2017-06-21 16:10:13,123 INFO RMAudit")
    assert parse(plain) == parse(FRAUD)


def test_the_time_zone_moves_the_submission_only() -> None:
    parser = ResourceManagerLineParser(timezone=ZoneInfo("Asia/Tokyo"))
    jobs = [job for each in FRAUD if (job := parser.parse_line(each))]
    assert jobs[0][1].submitted == 1498061413000 - 9 * 3600 * 1000
    assert jobs[0][1].skyline == only(FRAUD).skyline


def test_times_that_go_backwards() -> None:
    early = [move("16:10:00", "Allocated", C1), move("16:10:20", "Released", C1)]
    job = only([submit("16:10:10"), *early, summary("16:10:20")])
    assert job.skyline.start == -10 and job.skyline.end == 10
    turned = [move("16:10:20", "Allocated", C1), move("16:10:15", "Released", C1)]
    jobs, bad = parse([submit("16:10:10"), *turned, summary("16:10:20")])
    assert jobs[0][1].skyline.is_empty and [number for number, _ in bad] == [2]


@pytest.mark.parametrize("size", ["<memory:-1, vCores:1>", "<memory:18446744073709551616, vCores:1>", "<>", "nan"])
def test_sizes_that_are_none(size: str) -> None:
    jobs, bad = parse([*FRAUD[:3], sized(C1, size), move("16:10:23", "Released", C1), summary("16:10:23")])
    assert [number for number, _ in bad] == [3]
    assert jobs[0][1].skyline == Skyline.interval(0, 10, {"memory": 1024, "vcores": 1})


def test_amounts_beyond_measure_spoil_their_job_only() -> None:
    huge = "<memory:9007199254740992, vCores:1>"
    both = [move("16:10:13", "Allocated", C2), move("16:10:23", "Released", C1), move("16:10:23", "Released", C2)]
    jobs, bad = parse([*FRAUD[:3], sized(C1, huge), *both, summary("16:10:23"), *FRAUD])
    assert len(bad) == 1 and "beyond" in bad[0][1] and [job for _, job in jobs] == [only(FRAUD)]


def test_what_is_not_known_is_passed_over() -> None:
    assert parse([*FRAUD[1:]]) == ([], [])
    assert parse([b"", b",,,,", b"\x00" * 50, bytes(range(11, 256)), b'{"a": 1}', b"java.lang.Error"]) == ([], [])
    jobs, bad = parse([b"// , Resource: finalState", b"17/06/21 16:10:13 INFO AM Released Container"])
    assert not jobs and [(number, why[:7]) for number, why in bad] == [(0, "no date"), (1, "no date")]
    node = line("16:10:13", "NodeManager from node n:1 registered, Resource: <memory:8192, vCores:8>")
    assert parse([node, line("16:10:13", "some service is done. finalState=FAILED")]) == ([], [])
    long = submit("16:10:13", "APPID=application_" + "1" * 5000)
    assert [number for number, _ in parse([long])[1]] == [0]


def test_a_line_full_of_keywords_is_looked_at_once() -> None:
    """Once for each of its words it would take minutes."""
    jobs, bad = parse([b"ApplicationSummary, Resource:" * 200_000, *FRAUD])
    assert len(jobs) == 1 and [number for number, _ in bad] == [0]


def test_unfinished_applications_are_counted() -> None:
    parser = ResourceManagerLineParser()
    parse(FRAUD[:-1], parser)
    assert parser.unfinished() == 1


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(applications, "MAX_APPLICATIONS", 3)
    monkeypatch.setattr(applications, "MAX_CONTAINERS", 5)
    known = Applications()
    for number in range(5):
        known.submit(b"app%d" % number, number)
    assert len(known) == 3 and known.forgotten == 2
    for number in range(7):
        known.allocate(b"app4", b"c%d" % number, 10)
        known.release(b"app3", b"c%d" % number, 20)
    assert len(known) == 0 and known.forgotten == 5  # the younger ones went too: app4 alone had too many
    known.submit(b"app", 0)
    for number in range(4):
        known.allocate(b"app", b"c", number)
        known.release(b"app", b"c", number + 1)
    assert isinstance(known.end(b"app"), Application) and known.forgotten == 5


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from([*FRAUD, *(each[:-60] for each in FRAUD), b"", b"\xff, Resource:"]), max_size=30))
def test_any_order_of_any_lines_is_survived(lines: list[bytes]) -> None:
    jobs, _ = parse(lines)
    assert len(jobs) <= lines.count(FRAUD[-1]) + lines.count(FRAUD[-1][:-60])
