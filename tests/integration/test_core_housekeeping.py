"""What a server does in the background as days go by; the clock is the test's."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from retz.model.job import ENDED_STATES
from retz.server.housekeeping import Housekeeping
from retz.store.aggregates import AggregatePoint

from .http_site import Site, running_site

pytestmark = pytest.mark.anyio
DAY_S = 86_400.0


def _later(site: Site, days: float) -> None:
    site.core.clock = lambda: time.time() + days * DAY_S


async def _ended(site: Site) -> int:
    number = await site.running()
    site.engine.ended(f"{number}.1")
    await site.core.settled()
    return number


async def test_ended_jobs_leave_the_queue_and_can_be_found(site: Site) -> None:
    number, live = await _ended(site), await site.running()
    assert await Housekeeping(site.core).archive_ended() == 1
    assert await Housekeeping(site.core).archive_ended() == 0
    assert site.core.db.jobs.record(number) is None
    found = site.core.find(number)
    assert found is not None and found.state in ENDED_STATES
    assert site.core.db.jobs.record(live) is not None
    # Old news about an archived job changes nothing.
    site.engine.lost(f"{number}.1")
    await site.core.settled()
    assert site.core.db.jobs.record(number) is None


async def test_submission_keys_are_forgotten_after_a_day(site: Site) -> None:
    async def submit() -> tuple[int, int]:
        reply = await site.ask("POST", "/api/v2/jobs", key="k", jobs=[{"command": "true"}])
        return reply.status, reply.json["ids"][0]

    first = await submit()
    _later(site, 0.9)
    await Housekeeping(site.core).sweep()
    assert await submit() == (200, first[1])
    _later(site, 1.1)
    await Housekeeping(site.core).sweep()
    status, again = await submit()
    assert (status, again > first[1]) == (201, True)


async def test_sandboxes_are_kept_for_a_week_and_records_for_a_year(site: Site) -> None:
    number = await _ended(site)
    await Housekeeping(site.core).archive_ended()
    _later(site, 6.9)
    await Housekeeping(site.core).sweep()
    assert f"{number}.1" in site.engine.files
    _later(site, 7.1)
    await Housekeeping(site.core).sweep()
    assert f"{number}.1" not in site.engine.files
    assert site.core.find(number) is not None
    _later(site, 364)
    await Housekeeping(site.core).sweep()
    assert site.core.find(number) is not None
    _later(site, 366)
    await Housekeeping(site.core).sweep()
    assert site.core.find(number) is None


async def test_aggregates_are_kept_for_thirty_days(site: Site) -> None:
    now = int(time.time())
    site.core.aggregates.append(AggregatePoint(time=now - now % 60, queued=3.0, running=1.0))
    _later(site, 29)
    await Housekeeping(site.core).sweep()
    assert len(site.core.aggregates.read(now - 60, now + 60)) == 1
    _later(site, 32)
    await Housekeeping(site.core).sweep()
    assert site.core.aggregates.read(now - 60, now + 60) == []


async def test_a_restart_finds_what_was_not_archived_yet(tmp_path: Path) -> None:
    async with running_site(tmp_path) as site:
        number = await _ended(site)
    async with running_site(tmp_path) as site:
        assert site.core.db.jobs.record(number) is not None
        assert await Housekeeping(site.core).archive_ended() == 1
        assert site.core.find(number) is not None
