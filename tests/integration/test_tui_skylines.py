"""Skylines, cluster, rewind and users against a real server with real workers of the estimator."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from estimator.sample import tpch_q12
from retz.client.types import Prediction
from retz.model.resources import Resources
from retz.model.user import User
from retz.store.aggregates import AggregatePoint
from tui.screens.cluster import ClusterPage, Happened
from tui.screens.pipeline import PipelinePage
from tui.screens.skylines import SkylinesPage
from tui.screens.users import UsersPage

from .http_site import ANN, ROOT, Site, running_site
from .tui_window import Window, app_of, opened

pytestmark = pytest.mark.anyio


class PipelineWindow(Window):
    """The window, when it is about pipelines."""

    async def pipeline(self, name: str) -> PipelinePage:
        """Its page, with a prediction or the reason why there is none."""
        page = PipelinePage(name)
        await self.app.drill(page)
        await self.until(lambda: not page.solving and (page.prediction is not None or page.refusal))
        return page


@asynccontextmanager
async def window(site: Site, user: User = ANN, size: tuple[int, int] = (120, 40)) -> AsyncIterator[PipelineWindow]:
    """The application against the site."""
    async with opened(PipelineWindow, app_of(site, user, settings={"server_retry": 0.0}), size) as it:
        yield it


@asynccontextmanager
async def estimating(directory: Path, *logs: str) -> AsyncIterator[Site]:
    """A site that keeps skylines, with these histories of ann's."""
    async with running_site(directory) as site:
        site.core.skylines.start()
        try:
            if logs:
                added = await site.ask("POST", "/resourceestimator/translator", body="\n".join([*logs, ""]).encode())
                assert added.status == 200, added
            yield site
        finally:
            await site.core.skylines.stop()


# -- skylines ----------------------------------------------------------------------------------------------------------


async def test_from_the_list_to_a_prediction_and_what_if(tmp_path: Path) -> None:
    async with estimating(tmp_path, *tpch_q12()) as site, window(site) as it:
        await it.press("5")
        await it.says("retz ▸ skylines", "1 pipeline", "tpch_q12", "9 runs of 3 min 50 s to 4 min 35 s")
        await it.press("enter")
        await it.says("skylines ▸ tpch_q12", "memory, allocated", "from 9 runs", "alpha 0.10", "% less")
        page = it.app.page
        assert isinstance(page, PipelinePage) and page.prediction is not None
        # The cursor reads values, esc puts it away, and then the page.
        await it.press("right")
        await it.says("at 2 min 18 s", "predicted 2.", "past 2.")
        await it.press("tab")
        await it.says("vcores, allocated")
        # Many keys: the newest wish is solved, and keys went on meanwhile.
        await it.press(*["right_square_bracket"] * 4)
        await it.says("what if alpha 0.30")
        await it.until(lambda: not page.solving)
        assert page.prediction.settings["alpha"] == 0.3
        await it.press("S")
        await it.says("predict with")
        await it.press("down", "down", "down", "enter")
        await it.until(lambda: not page.solving and page.prediction is not None and page.prediction.solver == "peak")
        await it.press("escape")
        assert page.plot.cursor is None and it.app.page is page
        await it.press("escape")
        await it.until(lambda: isinstance(it.app.page, SkylinesPage))
        await it.press("enter")
        await it.says("skylines ▸ tpch_q12", "from 9 runs")
        await it.press("enter")
        await it.says("retz ▸ queue", "state:all pipeline:tpch_q12")


async def test_an_answer_that_came_too_late_is_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with estimating(tmp_path, *tpch_q12()) as site, window(site) as it:
        page = await it.pipeline("tpch_q12")
        asked, ended, real = list[float | None](), list[float | None](), it.app.session.client.prediction
        first = asyncio.Event()

        async def slow(name: str, **wishes: Any) -> Prediction:
            asked.append(wishes["alpha"])
            try:
                if wishes["alpha"] == 0.15:
                    first.set()
                    await asyncio.Event().wait()  # an answer that never comes
                return await real(name, **wishes)
            finally:
                ended.append(wishes["alpha"])

        monkeypatch.setattr(it.app.session.client, "prediction", slow)
        await it.press("right_square_bracket")
        await it.until(first.is_set)
        await it.says("solving…")
        assert page.solving and page.prediction is not None
        await it.press("right_square_bracket")
        await it.until(lambda: not page.solving)
        assert asked == ended == [0.15, 0.2] and page.prediction.settings["alpha"] == 0.2


async def test_a_thin_history_says_what_to_do(tmp_path: Path) -> None:
    async with estimating(tmp_path, tpch_q12()[0]) as site, window(site, size=(80, 24)) as it:
        page = await it.pipeline("tpch_q12")
        assert page.prediction is None
        await it.says("1 run so far", "2 are needed", "1 past run")
        await it.press("u")
        await it.says("memory, used", "0 runs so far whose use was measured")
        assert not page.plot.display  # nothing was measured: there is nothing to draw
        other = await it.pipeline("nothing")
        assert other.history is None
        await it.says("no run of a pipeline 'nothing' is known yet")


async def test_runs_are_chosen_and_the_picture_is_written_but_overwrites_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    (here / "tpch_q12-memory.png").write_text("mine")
    async with estimating(tmp_path / "data", *tpch_q12()) as site, window(site) as it:
        monkeypatch.chdir(here)
        page = await it.pipeline("tpch_q12")
        await it.says("9 past runs")
        await it.press("space")
        await it.says("past runs to draw")
        await it.press("space", "enter")
        await it.says("8 past runs")
        assert page.chosen is not None and "tpch_q12_8" not in page.chosen
        await it.press("p")
        await it.until(lambda: (here / "tpch_q12-memory-2.png").exists())
        await it.told("wrote")
        assert (here / "tpch_q12-memory-2.png").read_bytes().startswith(b"\x89PNG")
        assert (here / "tpch_q12-memory.png").read_text() == "mine"
        monkeypatch.setattr(Path, "open", _refused)
        await it.press("p")
        await it.told("could not be written")


def _refused(path: Path, mode: str = "r") -> Any:
    raise PermissionError(13, "Permission denied", str(path))


async def test_names_of_strangers_cannot_draw(tmp_path: Path) -> None:
    async with estimating(tmp_path) as site, window(site) as it:
        job_id = await site.running(pipeline="re\u202ed", run="a\u2066b")
        site.engine.ended(f"{job_id}.1")
        await it.press("5")
        await it.says("re·d")
        await it.press("enter")
        await it.says("skylines ▸ re·d", "1 run", "2 are needed")
        await it.press("space")
        await it.says("a·b")
        assert not {"\u202e", "\u2066"} & set(it.text)


async def test_an_administrator_sees_other_users_pipelines(tmp_path: Path) -> None:
    async with estimating(tmp_path, *tpch_q12()) as site:
        async with window(site, ROOT) as it:
            await it.press("5")
            await it.says("0 pipelines", "no pipelines yet: mark jobs with 'retz run --pipeline NAME'")
            await it.press("o", *"ann", "enter")
            await it.says("1 pipeline of ann", "tpch_q12")
            await it.press("enter")
            await it.says("ann: tpch_q12", "% less")
        async with window(site) as it:
            await it.press("5")
            await it.says("1 pipeline")
            await it.press("o")
            assert isinstance(it.app.screen, SkylinesPage)  # no dialog: this is for administrators


# -- cluster and rewind ------------------------------------------------------------------------------------------------


def record_hours(site: Site, now: float) -> None:
    """Three hours of minutes: two users, the second one for the last hour only."""
    for minute in range(180, 0, -1):
        held = {"ann": Resources(cpus=2, mem=2048)}
        if minute <= 60:
            held["bob"] = Resources(cpus=1, mem=1024)
        used = Resources(cpus=sum(each.cpus for each in held.values()), mem=sum(each.mem for each in held.values()))
        point = AggregatePoint(
            time=int(now) // 60 * 60 - 60 * minute, queued=minute, running=len(held), started=2, ended=2,
            wait_p50_s=5.0, wait_p90_s=65.0, total=Resources(cpus=4, mem=8192), used=used, by_user=held,
        )  # fmt: skip
        site.core.aggregates.append(point)


async def test_the_cluster_over_time(site: Site) -> None:
    record_hours(site, time.time())
    async with window(site, ROOT) as it:
        await it.press("6")
        await it.says(
            "cpus held by user, last 24 hours", "⣿⣿ ann", "⢕⢕ bob", "p50    00:05", "p90    01:05", "▲", "live"
        )
        await it.press("tab")
        await it.says("memory held by user", "8GB")
        await it.press("plus", "plus")
        await it.says("last hour")
        job_id = await site.running(name="new")
        await it.says(f"{job_id:>8}  ann        new on host1", "● started", "◌ queued")
    async with window(site) as it:  # another user is not named to ann
        await it.press("6")
        await it.says("⣿⣿ ann", "⢕⢕ others")
        assert "bob" not in it.text


async def test_rewinding_moves_the_queue_too(site: Site) -> None:
    record_hours(site, time.time())
    job_id = await site.running(name="of-today")
    async with window(site, ROOT) as it:
        await it.says("of-today")
        await it.press("6")
        await it.says("▲", "⣿⣿ ann")
        await it.press("comma", "less_than_sign", "less_than_sign")
        await it.says("◀ rewound to", "R live")
        moment = it.app.moment
        assert moment is not None and moment % 60 == 0 and 7200 < it.app.session.now() - moment < 7400
        page = it.app.page
        assert isinstance(page, ClusterPage)
        await it.until(lambda: page.at() is not None)
        await it.until(lambda: any(" bob " in line and line.endswith(" 0") for line in it.text.splitlines()))
        await it.press("1")
        await it.until(lambda: "of-today" not in it.text)
        await it.press("6", "full_stop")
        assert it.app.moment == moment + 60
        await it.press("1", "R")
        await it.says("of-today", "● live", str(job_id))
        assert it.app.moment is None


async def test_playing_goes_on_until_live(site: Site) -> None:
    record_hours(site, time.time())
    async with window(site, ROOT) as it:
        await it.press("6")
        await it.says("⣿⣿ ann")
        await it.press("less_than_sign", "space")
        begin = it.app.moment
        assert begin is not None
        await it.says("▶ ×60")
        await it.press("1")  # the queue moves on with it
        await it.until(lambda: it.app.moment is not None and it.app.moment > begin + 20)
        await it.press("R", "6")
        await it.until(lambda: "▶" not in it.text and "● live" in it.text)


async def test_a_moment_is_typed_and_dragged(site: Site) -> None:
    record_hours(site, time.time())
    async with window(site, ROOT) as it:
        await it.press("6")
        await it.says("⣿⣿ ann")
        await it.app.command("at nonsense")
        await it.told("'nonsense' is no time")
        await it.app.command("at 2026-01-02 03:04")
        await it.says("rewound to 01-02 03:04:00")
        await it.pilot.click("#slider", offset=(40, 0))
        await it.until(lambda: it.app.moment is not None and "01-02 03:04" not in it.text)


async def test_events_are_bounded_and_those_of_the_past_stay(site: Site) -> None:
    async with window(site) as it:
        await it.press("6")
        await it.says("nothing has happened yet")
        await asyncio.gather(*(site.submit(name=f"job{number}") for number in range(30)))
        await it.says("job29")
        shown = it.app.screen.query_one(Happened)
        assert len(shown.shown) == shown.size.height < 30
        assert len(it.app.session.recent) <= 200


async def test_a_user_is_disabled_and_enabled(tmp_path: Path) -> None:
    async with running_site(tmp_path, {"retz.shared-uid": True}) as site:
        await _disable_and_enable(site)


async def _disable_and_enable(site: Site) -> None:
    record_hours(site, time.time())
    async with window(site, ROOT) as it:
        await it.press("7")
        await it.says("ann: 0 queued")
        await it.press("d")
        await it.says("disable ann?", "their jobs go on")
        await it.press("y")
        await it.says("DISABLED")
        assert not site.core.users.get("ann").enabled
        await it.press("d")
        await it.says("enable ann?")
        await it.press("y")
        await it.until(lambda: site.core.users.get("ann").enabled)
    async with window(site) as it:
        await it.press("7")
        await it.says("administrators see everybody")
        await it.press("d")
        await it.says("administrators see everybody")
        assert isinstance(it.app.screen, UsersPage)  # no question was asked


async def test_users_and_their_jobs(site: Site) -> None:
    record_hours(site, time.time())
    await site.submit(name="waits", held=True)
    async with window(site, ROOT) as it:
        await it.press("7")
        await it.says("3 users", "ann", "bob", "root", "▓▓▓▓▓▓▓▓▓·", "'retz admin' makes users")
        await it.says("ann: 1 queued, 0 starting, 0 started.")
        await it.press("enter")
        await it.says("retz ▸ queue", "user:ann", "waits")
    async with window(site) as it:
        await it.press("7")
        await it.says("1 user ", "administrators see everybody")
        assert isinstance(it.app.page, UsersPage) and "bob" not in it.text
