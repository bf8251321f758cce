"""Windows over hot table and archive against the obvious: filter everything, sort everything, slice."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from unittest import mock

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from retz.model.job import ENDED_STATES, STATES, Attempt, Job
from retz.model.resources import Resources
from retz.store import query as query_module
from retz.store.archive import Archive
from retz.store.files import FileLayer
from retz.store.job_query import JobQuery, join_ranges
from retz.store.past import as_of
from retz.store.query import Window, select_ids, window
from tests.doubles.hot_table import HotTable

TIMES = st.integers(0, 12).map(float)
OWNERS, APPLICATIONS, TAGS = ("ann", "bob"), ("default", "web"), ("a", "b", "c")
PIPELINES, NAMES = (None, "", "p", "q"), ("", "night", "Day")
COMMANDS: tuple[str | tuple[str, ...], ...] = ("echo Night", ("ls", "-l", "day"), "true")


class Unsynced(FileLayer):
    """Durability is not the question here."""

    def fsync(self, fd: int) -> None:
        pass

    def fsync_dir(self, path: Path) -> None:
        pass


@st.composite
def job_records(draw: st.DrawFn, job_id: int) -> Job:
    state = draw(st.sampled_from([state for state in STATES if state != "CREATED"]))
    submitted, launched, started, end = sorted(draw(st.tuples(TIMES, TIMES, TIMES, TIMES)))
    over = end if state in ENDED_STATES else None
    launches = state != "QUEUED" and (state != "KILLED" or draw(st.booleans()))
    attempt = Attempt(
        number=1, agent="here", launched=launched, started=None if state == "STARTING" else started, ended=over
    )
    return Job(
        id=job_id,
        owner=draw(st.sampled_from(OWNERS)),
        command=draw(st.sampled_from(COMMANDS)),
        resources=Resources(cpus=1, mem=1),
        submitted=submitted,
        application=draw(st.sampled_from(APPLICATIONS)),
        name=draw(st.sampled_from(NAMES)),
        tags=tuple(draw(st.lists(st.sampled_from(TAGS), unique=True))),
        priority=draw(st.integers(-2, 2)),
        pipeline=draw(st.sampled_from(PIPELINES)),
        state=state,
        held=state == "QUEUED" and draw(st.booleans()),
        ended=over,
        attempts=(attempt,) if launches else (),
    )


@st.composite
def stores(draw: st.DrawFn) -> tuple[list[Job], list[Job]]:
    """(hot jobs, archived jobs); some ended ones are in both."""
    numbers = draw(st.lists(st.integers(1, 60), unique=True, max_size=25))
    hot, archived = [], []
    for number in numbers:
        job = draw(job_records(number))
        place = draw(st.sampled_from(("hot", "archive", "archive", "both"))) if job.ended is not None else "hot"
        if place != "archive":
            hot.append(job)
        if place != "hot":
            archived.append(job)
    return hot, archived


def maybe(*values: object) -> st.SearchStrategy[object]:
    return st.one_of(st.none(), st.sampled_from(values))


RANGES = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=3).map(join_ranges)
QUERIES = st.builds(
    JobQuery,
    states=st.one_of(
        st.just(STATES), st.lists(st.sampled_from(STATES), min_size=1, max_size=4).map(tuple), st.just(ENDED_STATES)
    ),
    ids=st.one_of(st.none(), st.none(), RANGES),
    owner=maybe(*OWNERS, "nobody"),
    tags=st.one_of(st.just(()), st.lists(st.sampled_from((*TAGS, "z")), max_size=2).map(tuple)),
    application=maybe(*APPLICATIONS),
    name=maybe(None, None, *NAMES),
    pipeline=maybe(None, None, "", "p"),
    held=maybe(None, None, True, False),
    text=maybe(None, None, "NIGHT", "l d", "u"),
    since=st.one_of(st.none(), st.none(), TIMES),
    until=st.one_of(st.none(), st.none(), TIMES),
    at=st.one_of(st.none(), st.none(), TIMES),
    sort=st.sampled_from([sign + field for field in ("id", "state", "user", "application", "priority", "pipeline")
                          for sign in ("", "-")]),
    limit=st.integers(1, 8),
    offset=st.integers(0, 12),
)  # fmt: skip


def expected(jobs: list[Job], query: JobQuery) -> list[Job]:
    """All matching jobs in order."""
    if query.at is not None:
        jobs = [past for past in (as_of(job, query.at) for job in jobs) if past is not None]
    wanted = [job for job in jobs if _wanted(job, query)]
    return sorted(wanted, key=lambda job: (_key(job, query.sort.lstrip("-")), job.id), reverse=query.sort[0] == "-")


def _wanted(job: Job, query: JobQuery) -> bool:
    text = "\n".join((job.name, job.command if isinstance(job.command, str) else " ".join(job.command))).lower()
    return (
        job.state in query.states
        and (query.ids is None or any(job.id in range(low, high + 1) for low, high in query.ids))
        and query.owner in (None, job.owner)
        and set(query.tags) <= set(job.tags)
        and query.application in (None, job.application)
        and query.name in (None, job.name)
        and query.pipeline in (None, job.pipeline)
        and query.held in (None, job.held)
        and (query.text is None or query.text.lower() in text)
        and (query.since is None or query.since <= job.submitted)
        and (query.until is None or job.submitted < query.until)
    )


def _key(job: Job, field: str) -> tuple[bool, object]:
    if field == "state":
        return True, STATES.index(job.state)
    if field == "pipeline":
        return job.pipeline is not None, job.pipeline or ""
    return True, {"id": 0, "user": job.owner, "application": job.application, "priority": job.priority}[field]


async def pages(hot: HotTable, archive: Archive, query: JobQuery) -> list[Window]:
    """Every window from the first to the last, by cursor."""
    found = [await window(hot, archive, query, seq=lambda: hot.seq)]
    while found[-1].next is not None:
        found.append(await window(hot, archive, replace(query, cursor=found[-1].next), seq=lambda: hot.seq))
        assert len(found) < 100
    return found


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(stores(), QUERIES, st.sampled_from((0, 3, 1000)), st.sampled_from((2, 10, 4000)))
def test_windows_equal_filter_sort_and_slice(
    store: tuple[list[Job], list[Job]], query: JobQuery, small: int, steps: int
) -> None:
    """The thresholds between walking an index and looking at everything are drawn, too."""
    hot_jobs, archived = store
    everything = list({job.id: job for job in (*archived, *hot_jobs)}.values())
    want = expected(everything, query)
    hot = HotTable(hot_jobs)
    with (
        tempfile.TemporaryDirectory() as directory,
        mock.patch.object(query_module, "_SMALL", small),
        mock.patch.object(query_module, "_MAX_STEPS", steps),
    ):
        archive = Archive.open(Path(directory), segment_records=5, files=Unsynced())
        archive.append(archived)
        found = asyncio.run(pages(hot, archive, query))
        chosen = asyncio.run(select_ids(hot, archive, query)) if query.at is None else sorted(job.id for job in want)
        archive.close()
    first = want[query.offset : query.offset + query.limit]
    assert found[0].jobs == first
    assert all(page.total == len(want) and page.exact for page in found)
    assert [job for page in found for job in page.jobs] == want[query.offset :]
    assert chosen == sorted(job.id for job in want)
