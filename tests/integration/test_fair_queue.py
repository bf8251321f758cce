"""Fairness, limits and patience through the whole server: HTTP, core, dispatcher, store."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from retz.config import ConfigError
from retz.config_server import load_server
from retz.server.scheduling import scheduler_of
from tests.integration.http_site import BOB, PuppetEngine, Site, running_site

pytestmark = pytest.mark.anyio

ONE_CPU: dict[str, Any] = {"resources": {"cpus": 1, "mem": "100"}}
FOUR_CPUS: dict[str, Any] = {"resources": {"cpus": 4, "mem": "100"}}


def launched(site: Site) -> list[str]:
    return [task.id for task in site.engine.launched]


async def why(site: Site, job_id: int) -> Any:
    return (await site.get(f"/jobs/{job_id}/why")).json


async def test_the_second_users_job_is_next_although_the_first_has_filled_the_queue(tmp_path: Path) -> None:
    """With nothing configured."""
    async with running_site(tmp_path) as site:
        mine = [await site.submit(**ONE_CPU) for _ in range(12)]
        assert launched(site) == [f"{job_id}.1" for job_id in mine[:4]]
        theirs = await site.submit(user=BOB, **ONE_CPU)
        site.engine.ended(f"{mine[0]}.1")
        await site.until(lambda: len(launched(site)) == 5)
        assert launched(site)[4] == f"{theirs}.1"


async def test_a_hundred_thousand_jobs_of_the_first_do_not_delay_the_second(tmp_path: Path) -> None:
    """Counted in placements: none of the first user's comes between the second's submit and their start."""
    async with running_site(tmp_path, {"retz.planner.name": "fair"}) as site:
        body = [{"command": "true", "resources": {"cpus": 1, "mem": 100 + number % 50}} for number in range(100_000)]
        assert (await site.ask("POST", "/api/v2/jobs", jobs=body)).status == 201
        await site.submit(array="1-1000000", **ONE_CPU)
        assert len(launched(site)) == 4
        theirs = [await site.submit(user=BOB, **ONE_CPU) for _ in range(2)]
        for number in range(2):
            site.engine.ended(launched(site)[number])
            await site.until(lambda: len(launched(site)) > 4 + number)  # noqa: B023 (awaited here)
        assert launched(site)[4:] == [f"{job_id}.1" for job_id in theirs]


async def test_what_was_used_survives_a_restart(tmp_path: Path) -> None:
    options: dict[str, object] = {"retz.planner.name": "fair"}
    async with running_site(tmp_path, options) as site:
        await site.running(**FOUR_CPUS)
        shares = site.core.scheduler.shares
        assert shares is not None
        await site.until(lambda: shares.used("ann", site.core.clock()) > 0.02)
        site.core.dispatcher.save_shares()
    async with running_site(tmp_path, options) as site:
        shares = site.core.scheduler.shares
        assert shares is not None
        assert shares.used("ann", site.core.clock()) > 0.02
        assert shares.used("bob", site.core.clock()) == 0.0


async def test_more_than_a_user_may_have_waiting_is_refused(tmp_path: Path) -> None:
    async with running_site(tmp_path, {"retz.max.user.queued": "3"}) as site:
        first = await site.running(**FOUR_CPUS)
        waiting = [await site.submit(**ONE_CPU), await site.submit(held=True)]
        body = [{"command": "true", **ONE_CPU}] * 2
        refused = await site.ask("POST", "/api/v2/jobs", jobs=body)
        assert refused.status == 422
        assert "you have 2 jobs waiting" in refused.json["detail"]
        assert "retz.max.user.queued" in refused.json["detail"]
        await site.submit(user=BOB, **ONE_CPU)
        await site.submit(**ONE_CPU)
        assert (await site.ask("POST", "/api/v2/jobs", jobs=body[:1])).status == 422
        site.engine.ended(f"{first}.1")
        await site.until(lambda: f"{waiting[0]}.1" in launched(site))
        await site.submit(**ONE_CPU)


async def test_a_bulk_counts_before_it_is_in_memory(tmp_path: Path) -> None:
    async with running_site(tmp_path, {"retz.max.user.queued": "1000"}) as site:
        body = [{"command": "true", "held": True}] * 700
        answers = await asyncio.gather(*(site.ask("POST", "/api/v2/jobs", jobs=body) for _ in range(3)))
        assert sorted(answer.status for answer in answers) == [201, 422, 422]
        assert site.core.db.jobs.waiting("ann") == 700


async def test_arrays_in_a_bulk_count_with_every_task_before_they_are_in_memory(tmp_path: Path) -> None:
    async with running_site(tmp_path, {"retz.max.user.queued": "1000"}) as site:
        body: list[dict[str, Any]] = [{"command": "true", "held": True}] * 250
        body += [{"command": "true", "held": True, "array": "1-400"}]
        answers = await asyncio.gather(*(site.ask("POST", "/api/v2/jobs", jobs=body) for _ in range(3)))
        assert sorted(answer.status for answer in answers) == [201, 422, 422]
        assert site.core.db.jobs.waiting("ann") == 650
        room = {"command": "true", "held": True, "array": "1-350"}
        assert (await site.ask("POST", "/api/v2/jobs", jobs=[room | {"array": "1-351"}])).status == 422
        assert (await site.ask("POST", "/api/v2/jobs", jobs=[room])).status == 201


async def test_a_user_at_the_limit_is_passed_over_and_told_so(tmp_path: Path) -> None:
    async with running_site(tmp_path, {"retz.max.user.cpus": "2"}) as site:
        mine = [await site.submit(**ONE_CPU) for _ in range(3)]
        theirs = await site.submit(user=BOB, **ONE_CPU)
        assert launched(site) == [f"{mine[0]}.1", f"{mine[1]}.1", f"{theirs}.1"]
        answer = await why(site, mine[2])
        assert answer["blocked_by"] == "user_limit"
        assert "its user holds 2 of 2 allowed at once (retz.max.user.cpus)" in answer["summary"]
        site.engine.ended(f"{mine[0]}.1")
        await site.until(lambda: f"{mine[2]}.1" in launched(site))
        too_large = await site.ask("POST", "/api/v2/jobs", jobs=[{"command": "true", **FOUR_CPUS}])
        assert too_large.status == 422
        assert "retz.max.user.cpus" in too_large.json["detail"]


async def test_a_job_that_waited_long_holds_its_place(tmp_path: Path) -> None:
    async with running_site(tmp_path, {"retz.planner.patience": "0.05s"}) as site:
        running = [await site.running(**ONE_CPU) for _ in range(4)]
        big = await site.submit(**FOUR_CPUS)
        await site.until(lambda: site.core.scheduler.place_of(big) is not None)
        assert "holds a place on host1" in (await why(site, big))["summary"]
        small = await site.submit(**ONE_CPU)
        for job_id in running[:3]:
            site.engine.ended(f"{job_id}.1")
        await site.core.settled()
        answer = await why(site, small)
        assert (answer["blocked_by"], answer["summary"]) == (
            "place",
            f"host1 is kept for job {big}, which has waited long",
        )
        assert len(launched(site)) == 4
        site.engine.ended(f"{running[3]}.1")
        await site.until(lambda: len(launched(site)) == 5)
        assert launched(site)[4] == f"{big}.1"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"retz.planner.name": "fairest"}, "retz.planner.name: unknown planner 'fairest'.*fair, fifo, priority"),
        ({"retz.planner.fair-resources": "cpus,memory"}, "retz.planner.fair-resources: not a resource: 'memory'"),
        ({"retz.planner.half-life": "0s"}, "retz.planner.half-life must be more than 0"),
    ],
)
def test_bad_settings_are_named(tmp_path: Path, options: dict[str, object], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        scheduler_of(load_server({"retz.data-dir": str(tmp_path), **options}))


class SharedEngine(PuppetEngine):
    """One of several who want the machine."""

    shared = True

    def __init__(self) -> None:
        super().__init__()
        self.declined: list[str] = []
        self.revived = 0

    def decline(self, offer_ids: Sequence[str]) -> None:
        self.declined += offer_ids

    def revive(self) -> None:
        self.revived += 1
        asyncio.get_running_loop().call_soon(self.offer)


async def test_offers_of_a_kept_agent_are_not_given_back(tmp_path: Path) -> None:
    engine = SharedEngine()
    async with running_site(tmp_path, {"retz.planner.patience": "0.05s"}, engine) as site:
        first = [await site.running(**ONE_CPU) for _ in range(3)]
        big = await site.submit(**FOUR_CPUS)
        await site.until(lambda: site.core.scheduler.place_of(big) is not None)
        assert engine.revived > 0
        engine.declined.clear()
        site.engine.ended(f"{first[0]}.1")
        await site.core.settled()
        await site.until(lambda: site.core.scheduler.idle_offers() == [] and not site.core.scheduler.hungry)
        assert engine.declined == []
        assert len(site.core.scheduler.offers) == 1
        assert (await site.ask("DELETE", f"/api/v2/jobs/{big}")).status == 202
        await site.until(lambda: engine.declined)
