"""The job page against a real server: what it says, and its output, followed, searched and jumped about in."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from retz.model.user import User
from tests.tui_frames import assert_golden
from tui.screens.files import FilesPage
from tui.screens.job import JobPage
from tui.screens.pipeline import PipelinePage
from tui.widgets.facts import Facts
from tui.widgets.logview import LogView
from tui.widgets.usageplot import UsagePlot

from .http_site import ANN, BOB, Site
from .tui_window import Window, app_of, opened

pytestmark = pytest.mark.anyio


class JobWindow(Window):
    """The window, when a job is on it."""

    @property
    def page(self) -> JobPage:
        """The job's page."""
        page = self.app.page
        assert isinstance(page, JobPage)
        return page

    @property
    def log(self) -> LogView:
        """The viewer."""
        return self.page.view

    def rows(self) -> list[str]:
        """The rows of output."""
        return [row.text for row in self.log._rows]

    async def open(self, job_id: int) -> None:
        """The page of a job, loaded."""
        await self.app.drill(JobPage(job_id))
        await self.until(lambda: self.page.job is not None and self.page.job.id == job_id)


@asynccontextmanager
async def window(
    site: Site, user: User = ANN, size: tuple[int, int] = (120, 40), **options: Any
) -> AsyncIterator[JobWindow]:
    """The application against the site."""
    async with opened(JobWindow, app_of(site, user, settings={"server_retry": 0.0}, **options), size) as it:
        yield it


def write(site: Site, job_id: int, text: str | bytes, path: str = "stdout", attempt: int = 1) -> None:
    """The job writes something."""
    data = text.encode() if isinstance(text, str) else text
    site.engine.files[f"{job_id}.{attempt}"].setdefault(path, bytearray()).extend(data)


async def test_from_the_queue_to_a_job_and_back(site: Site) -> None:
    job_id = await site.running("python join.py", name="join", pipeline="etl", tags=["nightly"])
    write(site, job_id, "hello\n")
    async with window(site) as it:
        await it.until(lambda: "join" in it.text)
        await it.press("enter")
        await it.until(lambda: isinstance(it.app.page, JobPage) and it.rows() == ["hello"])
        await it.says(f"queue ▸ {job_id} join", "● started on host1", "python join.py", "pipeline etl", "nightly",
                      "It uses 1.5 of 1 cpus and 20M of 1.0G memory")  # fmt: skip
        await it.press("escape")
        await it.until(lambda: not isinstance(it.app.page, JobPage))
        assert it.app.job == job_id


async def test_number_two_shows_the_job_last_selected_or_the_newest(site: Site) -> None:
    first, second = await site.submit("one", held=True), await site.submit("two", held=True)
    async with window(site) as it:
        await it.until(lambda: "two" in it.text)
        await it.press("2")
        await it.until(lambda: isinstance(it.app.page, JobPage) and it.page.job is not None)
        assert it.page.job is not None and it.page.job.id == second
        await it.press("1", "down")
        await it.until(lambda: it.app.job == first)
        await it.press("2")
        await it.until(lambda: it.page.job is not None and it.page.job.id == first)


async def test_a_queued_job_says_why_it_waits_and_then_runs(site: Site) -> None:
    job_id = await site.submit("true", held=True)
    async with window(site) as it:
        await it.open(job_id)
        await it.until(lambda: "It is held" in it.text and "no output yet" in it.text)
        await site.ask("PATCH", f"/api/v2/jobs/{job_id}", held=False)
        await site.until(lambda: f"{job_id}.1" in site.engine.files)
        write(site, job_id, "begun\n")
        site.engine.started(f"{job_id}.1")
        await it.until(lambda: it.rows() == ["begun"] and "● started" in it.text)
        site.engine.ended(f"{job_id}.1", 3)
        await it.until(lambda: "gave up after" in it.text and "exit code 3" in it.text and "complete" in it.text)


async def test_output_is_followed_until_one_looks_elsewhere(site: Site) -> None:
    job_id = await site.running()
    write(site, job_id, "".join(f"line {number}\n" for number in range(1000)))
    async with window(site) as it:
        await it.open(job_id)
        await it.until(lambda: it.rows()[-1:] == ["line 999"])
        write(site, job_id, "line 1000\n")
        await it.until(lambda: it.rows()[-1] == "line 1000")
        await it.until(lambda: it.log.follow and "▼ follow" in it.text)
        await it.press("g")
        await it.until(lambda: it.rows()[0] == "line 0")
        write(site, job_id, "line 1001\n")
        await it.until(lambda: it.log.window.blocks.size == len(site.engine.files[f"{job_id}.1"]["stdout"]))
        await it.says("▽ f follows")
        assert it.rows()[0] == "line 0"
        await it.press("G")
        await it.until(lambda: it.rows()[-1] == "line 1001" and "▼ follow" in it.text)


async def test_only_what_is_shown_is_fetched(site: Site) -> None:
    job_id = await site.running()
    data = b"".join(b"%09d\n" % number for number in range(500_000))
    write(site, job_id, data)
    asked: list[tuple[int, int | None]] = []
    async with window(site) as it:
        await it.open(job_id)
        await it.until(lambda: it.rows()[-1:] == ["000499999"])
        real = it.log._read
        assert real is not None

        async def counting(offset: int, length: int | None) -> Any:
            asked.append((offset, length))
            return await real(offset, length)

        it.log.open(counting, live=False)
        await it.until(lambda: it.rows()[-1:] == ["000499999"])
        await it.press("g")
        await it.until(lambda: it.rows()[0] == "000000000")
        await it.press("percent_sign", *"50", "%", "enter")
        await it.until(lambda: it.rows()[0] == "000250000")
        await it.press("percent_sign", *"12345", "enter")
        await it.until(lambda: it.rows()[0] == "000012344")
        assert sum(length or -offset for offset, length in asked) < 2_500_000


async def test_searching_up_and_down(site: Site) -> None:
    job_id = await site.running()
    lines = [f"line {number}" for number in range(120_000)]
    lines[1000] = "a Needle here"
    lines[110_000] = "a NEEDLE there"
    write(site, job_id, "\n".join(lines))
    async with window(site) as it:
        await it.open(job_id)
        await it.until(lambda: it.rows()[-1:] == ["line 119999"])
        await it.press("g")
        await it.until(lambda: it.rows()[0] == "line 0")
        await it.press("slash", *"needle", "enter")
        await it.until(lambda: it.rows()[3] == "a Needle here")
        await it.press("n")
        await it.until(lambda: it.rows()[3] == "a NEEDLE there")
        await it.press("n")
        await it.until(lambda: "no more 'needle' that way" in it.text)
        await it.press("N")
        await it.until(lambda: it.rows()[3] == "a Needle here")
        await it.press("escape")
        assert it.log.search is None and isinstance(it.app.page, JobPage)


async def test_a_search_can_be_stopped(site: Site) -> None:
    job_id = await site.running()
    write(site, job_id, "nothing\n")
    async with window(site) as it:
        await it.open(job_id)
        await it.until(lambda: it.rows() == ["nothing"])

        async def stuck(offset: int, length: int | None) -> Any:
            await asyncio.Event().wait()

        it.log._read = stuck
        await it.press("slash", *"needle", "enter")
        await it.until(lambda: it.log.busy)
        await it.press("escape")
        await it.until(lambda: not it.log.busy)
        assert isinstance(it.app.page, JobPage) and it.rows() == ["nothing"]


async def test_output_cannot_draw_on_the_screen(site: Site) -> None:
    job_id = await site.running("printf '\x1b[2J'", name="日本")
    write(site, job_id, b"\x1b[31mred\x1b[0m \x1b]0;title\x07\x1b[2J \xff\x00|\n10%\r99%\n\xe6\x97\xa5\tx\n")
    async with window(site) as it:
        await it.open(job_id)
        await it.until(lambda: it.rows() == ["red ␛]0;title␇␛[2J \ufffd␀|", "99%", "日      x"])
        await it.says("日本", "'␛[2J'")
        assert "\x1b" not in it.text


async def test_a_line_of_ten_megabytes(site: Site) -> None:
    job_id = await site.running()
    write(site, job_id, b"y" * 10_000_000 + b"end")
    async with window(site) as it:
        await it.open(job_id)
        await it.press("w")
        await it.until(lambda: it.log.window.wrap and it.rows()[-1:] and it.rows()[-1].endswith("yend"))
        await it.press("g")
        await it.until(lambda: it.log.window.top == (0, 0) and set(it.rows()[0]) == {"y"})
        await it.press("w", "right", "right")
        await it.until(lambda: "yyy›" in it.text)


async def test_attempts_can_be_switched(site: Site) -> None:
    job_id = await site.running()
    write(site, job_id, "first\n")
    site.engine.lost(f"{job_id}.1")
    await site.until(lambda: f"{job_id}.2" in site.engine.files)
    write(site, job_id, "second\n", attempt=2)
    site.engine.started(f"{job_id}.2")
    await site.core.settled()
    async with window(site) as it:
        await it.open(job_id)
        await it.until(lambda: it.rows() == ["second"] and "attempt 2" in it.text)
        await it.says("lost", "It was lost once before")
        await it.press("left_square_bracket")
        await it.until(lambda: it.rows() == ["first"] and "attempt 1" in it.text and "complete" in it.text)
        await it.press("right_square_bracket")
        await it.until(lambda: it.rows() == ["second"] and it.log.live)


async def test_any_file_of_the_sandbox(site: Site) -> None:
    job_id = await site.running()
    write(site, job_id, "oops\n", "stderr")
    write(site, job_id, "data\n", "result.csv")
    async with window(site) as it:
        await it.open(job_id)
        await it.press("o")
        await it.until(lambda: it.rows() == ["oops"])
        await it.press("F")
        await it.until(lambda: isinstance(it.app.page, FilesPage) and "result.csv" in it.text)
        await it.press("enter")
        await it.until(lambda: isinstance(it.app.page, JobPage) and it.rows() == ["data"])
        await it.says("result.csv")


async def test_a_sandbox_that_is_gone_is_said_plainly(site: Site) -> None:
    job_id = await site.running()
    site.engine.ended(f"{job_id}.1")
    await site.core.settled()
    site.engine.collect([f"{job_id}.1"])
    async with window(site) as it:
        await it.open(job_id)
        await it.until(lambda: "sandboxes of ended jobs are removed after some days" in it.text)
        await it.says("It ended well")


async def test_what_was_used_is_drawn_against_what_was_asked_for(site: Site) -> None:
    job_id = await site.running(resources={"cpus": 2, "mem": 100})
    site.engine.ended(f"{job_id}.1")
    await site.core.settled()
    async with window(site) as it:
        await it.open(job_id)
        plot = it.page.query_one("#memory", UsagePlot)
        await it.until(lambda: plot.values == [30.0, 10.0])
        assert plot.title() == ("10M of 100M", "most 30M")
        await it.says("asked for", "of 2")


async def test_somebody_elses_job_is_not_there(site: Site) -> None:
    job_id = await site.running("the secret")
    async with window(site, BOB) as it:
        await it.app.drill(JobPage(job_id))
        await it.until(lambda: ":open ID shows another job" in it.text)
        assert "secret" not in it.text and f"{job_id}" in it.text


async def test_secrets_stay_masked_and_details_have_a_page_of_their_own(site: Site) -> None:
    job_id = await site.running("true", environment={"API_TOKEN": "hunter2", "DAY": "monday"})
    async with window(site, size=(80, 24)) as it:
        await it.open(job_id)
        await it.press("d")
        await it.until(lambda: "DAY=monday" in it.text and "API_TOKEN=<masked>" in it.text)
        assert it.app.focused is it.page.query_one(Facts) and not it.log.region
        await it.press("escape")
        await it.until(lambda: "DAY=monday" not in it.text)
        await it.press("z")
        await it.until(lambda: "command" not in it.text.splitlines()[1:-1][4])
        assert isinstance(it.app.page, JobPage)


async def test_killing_asks_first(site: Site) -> None:
    job_id = await site.running(kill_grace_s=7)
    async with window(site) as it:
        await it.open(job_id)
        await it.press("K")
        await it.until(lambda: "SIGKILL 7 s later" in it.text)
        assert not site.engine.killed
        await it.press("y")
        await it.until(lambda: site.engine.killed == [f"{job_id}.1"])
        await it.until(lambda: "It was told to end" in it.text)


async def test_nothing_can_be_changed_read_only(site: Site) -> None:
    job_id = await site.running()
    async with window(site, readonly=True) as it:
        await it.open(job_id)
        await it.press("K", "r", "h", "p", "u")
        assert it.app.page is it.app.screen and "kill" not in it.text.splitlines()[-1]


async def test_the_past_shows_the_job_as_it_was(site: Site) -> None:
    job_id = await site.running()
    began = (await site.get(f"/jobs/{job_id}")).json
    running = site.core.find(job_id)
    assert running is not None and running.started is not None
    between = running.started + 0.005  # the API tells whole milliseconds: it may have been submitted in the same one
    await site.until(lambda: site.core.clock() > between + 0.005)
    site.engine.ended(f"{job_id}.1")
    await site.core.settled()
    async with window(site) as it:
        await it.open(job_id)
        await it.until(lambda: "✔ finished" in it.text)
        job = await it.app.session.client.job(job_id)
        assert began["state"] == "STARTED"
        it.app.rewind(between)
        await it.until(lambda: "finished" not in it.text and "output is of now" in it.text)
        it.app.rewind(job.submitted.timestamp() - 60)
        await it.until(lambda: "as it is now" in it.text)
        it.app.rewind(None)
        await it.until(lambda: "✔ finished" in it.text and "as it is now" not in it.text)


async def test_another_job_by_its_number(site: Site) -> None:
    first, second = await site.submit("one", held=True), await site.submit("two", held=True)
    async with window(site) as it:
        await it.open(second)
        await it.app.command(f"open {first}")
        await it.until(lambda: it.page.job is not None and it.page.job.id == first)
        await it.app.command("open x")
        await it.until(lambda: any("a job's number" in notice.message for notice in it.app._notifications))
        await it.app.command("open 999")
        await it.until(lambda: "999" in it.text and ":open ID shows another job" in it.text)


def timeless(text: str) -> str:
    """A frame without what is different each time: clocks, durations, and how they share the bar."""
    text = re.sub(r"\d\d:\d\d(:\d\d)?", lambda found: "0" * 2 + ":00" * (found[0].count(":")), text)
    return re.sub("[┄▒▓]+", lambda found: "▓" * len(found[0]), text)


async def test_its_pipelines_skylines_are_one_key_away(site: Site) -> None:
    job_id, other = await site.running(pipeline="etl"), await site.submit(held=True)
    async with window(site) as it:
        await it.open(other)
        await it.press("s")
        await it.until(lambda: any("part of no pipeline" in notice.message for notice in it.app._notifications))
        await it.app.command(f"open {job_id}")
        await it.until(lambda: it.page.job is not None and it.page.job.id == job_id)
        await it.press("s")
        await it.until(lambda: isinstance(it.app.page, PipelinePage) and it.app.page.pipeline == "etl")
        await it.press("escape")
        await it.until(lambda: isinstance(it.app.page, JobPage))


async def test_a_server_that_goes_away_takes_nothing_along(site: Site) -> None:
    job_id = await site.running()
    write(site, job_id, "hello\n")
    async with window(site) as it:
        await it.open(job_id)
        await it.until(lambda: it.rows() == ["hello"])
        await site.shut()
        await it.until(lambda: "✘ lost" in it.text and it.log.stale)
        await it.press("g", "slash", *"x", "enter")
        await it.until(lambda: it.log.note and not it.log.busy)
        await it.says("● started")
        assert it.rows() == ["hello"]


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 60)])
async def test_the_frame(site: Site, size: tuple[int, int]) -> None:
    job_id = await site.running(
        "python join.py --day 2026-11-20", name="join", environment={"DAY": "2026-11-20", "DB_PASSWORD": "x"},
        tags=["nightly", "eu"], timeout_s=1800, resources={"cpus": 2, "mem": 100, "ports": 1},
    )  # fmt: skip
    write(site, job_id, "".join(f"stage {number} of 100: joined {number * 1234:>9} rows\n" for number in range(100)))
    site.engine.ended(f"{job_id}.1", 3)
    await site.core.settled()
    async with window(site, size=size) as it:
        await it.open(job_id)
        plot = it.page.query_one("#memory", UsagePlot)
        await it.until(lambda: plot.values and len(it.rows()) > 10 and "✘ failed 3" in it.text)
        await it.pilot.pause()
        assert_golden(f"job_{size[0]}x{size[1]}", timeless(it.text))
