"""Planners of users' own through the whole server: what they decide, and what their faults cost."""

from __future__ import annotations

import asyncio
import os
import select
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from retz.config import ConfigError
from retz.config_server import load_server
from retz.server.planners import outside, process
from retz.server.planners.outside import OutsidePlanner
from retz.server.scheduling import scheduler_of
from tests.integration.http_site import ROOT, Site, running_site

pytestmark = pytest.mark.anyio

FOUR_CPUS: dict[str, Any] = {"resources": {"cpus": 4, "mem": "100"}}
ONE_CPU: dict[str, Any] = {"resources": {"cpus": 1, "mem": "100"}}

PLANNERS = '''
import os
import pathlib
import time

from retz.scheduler.plugin import Choice


def tightest(situation, shapes):
    """As many as fit, shape by shape."""
    free = {offer.id: offer.room for offer in situation.offers}
    for shape in shapes:
        count = shape.count
        for offer in situation.offers:
            jobs = min(count, free[offer.id].times(shape.need))
            if jobs and offer.accepts(shape):
                yield Choice(shape.key, offer.id, jobs)
                free[offer.id] = free[offer.id].less(shape.need, jobs)
                count -= jobs


class NewestFirst:
    def plan(self, situation):
        print("what planners print is no plan")
        return tightest(situation, reversed(situation.waiting))


class UntilFile:
    """Misbehaves as long as the file 'bad' is there."""

    def plan(self, situation):
        if pathlib.Path(os.environ["PLANNER_DIR"], "bad").exists():
            self.misbehave(situation)
        return self.answer(situation)

    def answer(self, situation):
        return tightest(situation, reversed(situation.waiting))

    def misbehave(self, situation):
        raise ValueError("no plan today")


class Hangs(UntilFile):
    def misbehave(self, situation):
        time.sleep(1000)


class Dies(UntilFile):
    def misbehave(self, situation):
        os._exit(7)


class Answers(UntilFile):
    bad = []

    def misbehave(self, situation):
        self.bad = self.wrong(situation)

    def answer(self, situation):
        bad, self.bad = self.bad, []
        return bad or super().answer(situation)


class OverCommits(Answers):
    def wrong(self, situation):
        return [Choice(shape.key, offer.id, shape.count) for shape in situation.waiting for offer in situation.offers]


class Unknown(Answers):
    def wrong(self, situation):
        return [Choice(shape.key, "elsewhere") for shape in situation.waiting]


class Nonsense(Answers):
    def wrong(self, situation):
        return [("one", 2, "three")]


class Words(Answers):
    def wrong(self, situation):
        return [("one", 2, 3)]


class Endless(Answers):
    def wrong(self, situation):
        return [Choice(1, "x" * 100, 0)] * 3000


class Lazy:
    """Places nothing before it was asked often enough."""

    asked = 0

    def plan(self, situation):
        self.asked += 1
        return tightest(situation, situation.waiting) if self.asked > 3 else []


def cannot_be_made():
    raise OSError("no licence")
'''


@pytest.fixture(autouse=True)
def planners(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with module ``theirs``, outside the package, and a file ``bad``."""
    home = tmp_path / "planners"
    home.mkdir()
    (home / "theirs.py").write_text(PLANNERS)
    (home / "bad").touch()
    monkeypatch.syspath_prepend(str(home))
    monkeypatch.setenv("PLANNER_DIR", str(home))
    return home


def launched(site: Site) -> list[int]:
    return [int(task.id.split(".")[0]) for task in site.engine.launched]


def planner(site: Site) -> OutsidePlanner:
    assert site.core.outside_planner is not None
    return site.core.outside_planner


def options(name: str, **more: object) -> dict[str, object]:
    return {"retz.planner.name": f"theirs.{name}", "retz.planner.budget": "20s", **more}


async def failure(site: Site) -> str | None:
    found: str | None = (await site.get("/status", ROOT)).json["planner_failure"]
    return found


async def test_a_planner_from_outside_the_package_decides(tmp_path: Path) -> None:
    async with running_site(tmp_path, options("NewestFirst")) as site:
        first = await site.running(**FOUR_CPUS)
        waiting = [await site.submit(**FOUR_CPUS, priority=number) for number in (1, 2, 3)]
        for expected in reversed(waiting):
            site.engine.ended(f"{launched(site)[-1]}.1")
            await site.until(lambda: planner(site)._in_row == 0 and launched(site)[-1] == expected)  # noqa: B023
        assert launched(site) == [first, *reversed(waiting)]
        assert (await site.get("/status")).json["planner"] == "theirs.NewestFirst"
        assert await failure(site) is None


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("UntilFile", "ValueError: no plan today"),
        ("Hangs", "took longer than 0.2 s (retz.planner.budget)"),
        ("Dies", "its process ended (exit code 7)"),
        ("OverCommits", "cpus, 100 MiB (shape"),
        ("Unknown", "there is no offer 'elsewhere'"),
        ("Nonsense", "TypeError"),
        ("Words", "its answer is no plan"),
        ("Endless", "its answer is no plan"),
    ],
)
async def test_a_planner_that_fails_costs_its_turns_and_no_more(
    tmp_path: Path,
    planners: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    name: str,
    says: str,
) -> None:
    budget = "0.2s" if name == "Hangs" else "20s"
    async with running_site(tmp_path, options(name, **{"retz.planner.budget": budget})) as site:
        jobs = [{"command": "true", **FOUR_CPUS, "priority": priority} for priority in (0, 3)]
        first, second = (await site.ask("POST", "/api/v2/jobs", jobs=jobs)).json["ids"]
        await site.until(lambda: launched(site) == [first])  # in order of submission
        assert planner(site).replaced
        told = await failure(site)
        assert told is not None and says in told and "in order of submission" in told
        assert (await site.get("/status")).json["planner_failure"] is None  # for administrators only
        kinds = [record.message for record in caplog.records if "lost a turn" in record.message]
        assert len(kinds) == 1  # once per kind

        (planners / "bad").unlink()
        monkeypatch.setattr(planner(site), "_budget_s", 20.0)
        monkeypatch.setattr(planner(site), "_retry_at", 0.0)
        third = await site.submit(**FOUR_CPUS, priority=5)
        await site.until(lambda: not planner(site).replaced)
        site.engine.ended(f"{first}.1")
        await site.until(lambda: launched(site) == [first, third])
        assert second not in launched(site)
        assert any("works again" in record.message for record in caplog.records)


async def test_the_example_of_the_docs_plans_for_a_server(tmp_path: Path, planners: Path) -> None:
    text = (Path(__file__).parents[2] / "docs/planners.md").read_text()
    (planners / "shortest.py").write_text(text.split("```python\n")[1].split("```")[0])
    async with running_site(
        tmp_path, {"retz.planner.name": "shortest.ShortestFirst", "retz.planner.budget": "20s"}
    ) as site:
        first = await site.running(**FOUR_CPUS)
        long, short = [await site.submit(**FOUR_CPUS, timeout_s=seconds) for seconds in (3600, 60)]
        for job_id in (short, long):
            site.engine.ended(f"{launched(site)[-1]}.1")
            await site.until(lambda: launched(site)[-1] == job_id)  # noqa: B023
        assert launched(site) == [first, short, long]


async def test_one_bad_turn_does_not_replace_a_planner(tmp_path: Path, planners: Path) -> None:
    async with running_site(tmp_path, options("Dies")) as site:
        (planners / "bad").unlink()
        first = await site.running(**FOUR_CPUS)
        worker = planner(site)._worker
        assert worker is not None
        await worker.stop()  # as the kernel does when memory runs out
        second = await site.submit(**FOUR_CPUS)
        third = await site.submit(**FOUR_CPUS, priority=3)
        site.engine.ended(f"{first}.1")
        await site.until(lambda: launched(site) == [first, third])
        assert second not in launched(site) and not planner(site).replaced


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("theirs.cannot_be_made", "theirs.cannot_be_made has no method 'plan'"),
        ("theirs.Missing", "module theirs has nothing called 'Missing'"),
        ("nowhere.Planner", "there is no module 'nowhere' here"),
        ("os.path.join", "has no method 'plan'"),
    ],
)
async def test_a_planner_that_cannot_be_loaded_is_told_at_the_start(tmp_path: Path, name: str, says: str) -> None:
    async with running_site(tmp_path, {"retz.planner.name": name}) as site:
        told = await failure(site)
        assert told is not None and says in told
        first = await site.submit(**FOUR_CPUS)
        await site.until(lambda: launched(site) == [first])


async def test_a_planner_that_takes_for_ever_to_import_is_given_up(
    tmp_path: Path, planners: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (planners / "slow.py").write_text("import time\ntime.sleep(1000)\n")
    monkeypatch.setattr(process, "LOAD_S", 0.3)
    async with running_site(tmp_path, {"retz.planner.name": "slow.Planner"}) as site:
        first = await site.submit(**FOUR_CPUS)
        await site.until(lambda: launched(site) == [first])
        assert "took longer than 0.3 s to be imported" in str(await failure(site))


async def test_a_planner_that_waits_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outside, "ASK_AGAIN_S", 0.0)
    async with running_site(tmp_path, options("Lazy", **{"retz.planner.patience": "0.1s"})) as site:
        first = await site.submit(**ONE_CPU)
        await site.until(lambda: launched(site) == [first])


async def test_why_says_that_the_planner_decides(tmp_path: Path) -> None:
    async with running_site(tmp_path, options("Lazy")) as site:
        job_id = await site.submit(**ONE_CPU)
        why = (await site.get(f"/jobs/{job_id}/why")).json
        assert "fits; planner theirs.Lazy decides when" in str(why)


async def test_users_limits_hold_for_any_planner(tmp_path: Path) -> None:
    async with running_site(tmp_path, options("NewestFirst", **{"retz.max.user.running": "2"})) as site:
        jobs = [await site.submit(**ONE_CPU, priority=number) for number in range(4)]
        await site.until(lambda: len(launched(site)) == 2)
        await asyncio.gather(*(site.core.settled() for _ in range(3)))
        assert len(launched(site)) == 2
        site.engine.ended(f"{launched(site)[0]}.1")
        await site.until(lambda: len(launched(site)) == 3)
        assert set(launched(site)) < set(jobs)
        assert await failure(site) is None


async def test_the_worker_ends_with_the_server(tmp_path: Path) -> None:
    async with running_site(tmp_path, options("NewestFirst")) as site:
        worker = planner(site)._worker
        assert worker is not None
        pid = worker._process.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


SERVER = """
import asyncio
from retz.server.planners.process import Worker

async def main():
    worker = await Worker.start("theirs.Hangs")
    print(worker._process.pid, flush=True)
    await asyncio.sleep(1000)

asyncio.run(main())
"""


def test_the_worker_ends_with_a_server_that_is_killed(planners: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(planners), *filter(None, sys.path)])}
    with subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, env=environment) as server:
        assert server.stdout is not None
        worker = os.pidfd_open(int(server.stdout.readline()))
        server.kill()
    assert select.select([worker], [], [], 10)[0], "a pidfd is readable when its process has ended"
    os.close(worker)


@pytest.mark.parametrize("name", ["lottery", "fiifo"])
def test_a_name_that_means_nothing_is_refused(tmp_path: Path, name: str) -> None:
    config = load_server({"retz.planner.name": name, "retz.data-dir": str(tmp_path)}, environ={"HOME": str(tmp_path)})
    with pytest.raises(ConfigError, match=r"unknown planner.*package\.module\.Class"):
        scheduler_of(config)


def test_an_entry_point_is_a_name(tmp_path: Path, planners: Path) -> None:
    info = planners / "theirs-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[retz.planners]\nnewest = theirs:NewestFirst\n")
    config = load_server(
        {"retz.planner.name": "newest", "retz.data-dir": str(tmp_path)}, environ={"HOME": str(tmp_path)}
    )
    assert scheduler_of(config).outside
