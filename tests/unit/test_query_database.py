"""Queries over the real store: indexes, numbers and all."""

from __future__ import annotations

import asyncio
from pathlib import Path

from msgspec.structs import replace

from retz.model.job import STATES, Job
from retz.model.resources import Resources
from retz.store.archive import Archive
from retz.store.database import Database
from retz.store.job_query import JobQuery
from retz.store.query import select_ids, window
from retz.store.tables import Change


async def _steps(directory: Path) -> None:
    database = Database.open(directory)
    archive = Archive.open(directory / "archive")
    jobs = [
        Job(
            id=number,
            owner="ann",
            command="true",
            resources=Resources(cpus=1),
            submitted=1.0,
            tags=("t",) * (number % 2),
        )
        for number in range(1, 1501)
    ]
    database.apply([Change("jobs", job.id, job) for job in jobs]).wait()
    page = await window(database.jobs, archive, JobQuery(owner="ann", limit=2), seq=lambda: database.seq)
    assert ([job.id for job in page.jobs], page.total, page.as_of) == ([1500, 1499], 1500, database.seq)

    over = [replace(job, state="FINISHED", ended=2.0) for job in jobs[:3]]
    database.apply([Change("jobs", job.id, job) for job in over]).wait()
    archive.append(over)
    database.apply([Change("jobs", over[0].id, None)]).wait()
    page = await window(database.jobs, archive, JobQuery(states=STATES, sort="id", limit=4), seq=lambda: database.seq)
    assert ([job.id for job in page.jobs], page.total) == ([1, 2, 3, 4], 1500)
    page = await window(database.jobs, archive, JobQuery(states=STATES, sort="pipeline"), seq=lambda: database.seq)
    assert page.total == 1500
    assert await select_ids(database.jobs, archive, JobQuery(tags=("t",), ids=((1, 9),))) == [5, 7, 9]
    archive.close()
    database.close()


def test_hot_table_and_archive_are_one_list(tmp_path: Path) -> None:
    asyncio.run(_steps(tmp_path))
