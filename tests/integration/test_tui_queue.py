"""The window's shell and its queue, against a running server."""

from __future__ import annotations

import asyncio
import re
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
from textual import events
from textual.widgets import Input

from retz.client import RetzError
from retz.config import ClientConfig
from retz.model.user import User
from tests.tui_frames import assert_golden
from tui.app import RetzApp
from tui.once import OnceError, _frame
from tui.screens.queue import QueuePage
from tui.widgets.bars import Banner
from tui.widgets.filterbar import FilterBar

from . import tui_window
from .http_site import ANN, BOB, ROOT, Site, running_site
from .tui_window import Window, app_of

pytestmark = pytest.mark.anyio


def window(site: Site, user: User = ANN, **options: Any) -> RetzApp:
    return app_of(site, user, settings={"tui_keys": options.pop("tui_keys", {})}, **options)


class Shown(Window):
    """A window that is open, at the queue."""

    @property
    def page(self) -> QueuePage:
        page = self.app.pages[-1]
        assert isinstance(page, QueuePage)
        return page

    @property
    def ids(self) -> list[int]:
        table = self.page.table
        return [row.id for row in (table.row(index) for index in range(table.total)) if row is not None]

    @property
    def notices(self) -> list[str]:
        return [notice.message for notice in self.app._notifications]

    async def type(self, text: str) -> None:
        for character in text:
            self.app.post_message(events.Key({" ": "space"}.get(character, character), character))
        await self.pilot.pause()


def opened(app: RetzApp, size: tuple[int, int] = (120, 30)) -> AbstractAsyncContextManager[Shown]:
    return tui_window.opened(Shown, app, size)


async def some_jobs(site: Site) -> list[int]:
    return [
        await site.submit("sleep 1", name="small", resources={"cpus": 1, "mem": 64}, held=True),
        await site.submit("train --fast", name="large", resources={"cpus": 3, "mem": 2048}, held=True, tags=["night"]),
        await site.submit("sleep 3", name="third", resources={"cpus": 1, "mem": 64}, held=True, priority=5),
    ]


async def test_jobs_appear_and_go(site: Site) -> None:
    async with opened(window(site)) as shown:
        await shown.says("no live jobs")
        job = await site.submit(name="fresh", held=True)
        await shown.until(lambda: shown.ids == [job])
        await shown.says("fresh")
        await site.ask("DELETE", f"/api/v2/jobs/{job}")
        await shown.until(lambda: shown.ids == [])


async def test_another_user_sees_nothing_of_it(site: Site) -> None:
    await some_jobs(site)
    async with opened(window(site, BOB)) as shown:
        assert shown.ids == []
        await shown.press("slash")
        await shown.type("user:ann")
        await shown.until(lambda: "administrator" in shown.page.query_one(FilterBar).wrong)
    async with opened(window(site, ROOT)) as shown:
        await shown.until(lambda: len(shown.ids) == 3)


async def test_the_filter_applies_as_it_is_typed(site: Site) -> None:
    small, large, third = await some_jobs(site)
    async with opened(window(site)) as shown:
        await shown.press("slash")
        await shown.type("cpu>2")
        await shown.until(lambda: shown.ids == [large])
        await shown.type(" mem>8q")
        await shown.until(lambda: "mem>8g" in shown.page.query_one(FilterBar).wrong)
        assert shown.ids == [large]
        await shown.press("escape", "escape")
        await shown.until(lambda: shown.ids == [third, large, small])
        shown.page.set_filter("!tag:night !sleep.3")
        await shown.until(lambda: shown.ids == [third, small])


async def test_letters_in_the_filter_are_no_commands(site: Site) -> None:
    await some_jobs(site)
    async with opened(window(site)) as shown:
        await shown.press("slash")
        await shown.type("qK?1:")
        await shown.until(lambda: shown.page.query_one(FilterBar).input.value == "qK?1:")
        assert len(shown.app.screen_stack) == 2


async def test_pasted_text_is_no_command(site: Site) -> None:
    await some_jobs(site)
    async with opened(window(site)) as shown:
        shown.app.screen.post_message(events.Paste("Kyq"))
        await shown.pilot.pause()
        assert len(shown.app.screen_stack) == 2
        assert shown.app.is_running
        await shown.press("slash")
        shown.app.screen.post_message(events.Paste("small"))
        await shown.until(lambda: shown.page.query_one(FilterBar).input.value == "small")


async def test_sorting(site: Site) -> None:
    small, large, third = await some_jobs(site)
    async with opened(window(site)) as shown:
        await shown.until(lambda: shown.ids == [third, large, small])
        await shown.press("S")
        await shown.until(lambda: shown.ids == [small, large, third])
        await shown.press("s", "j", "j", "j", "j", "enter")
        await shown.until(lambda: shown.page.sort == "priority")
        await shown.press("S")
        await shown.until(lambda: shown.ids[0] == third)


async def test_the_far_end_of_a_long_list(site: Site) -> None:
    body = [{"command": "true", "held": True} for _ in range(500)]
    ids = (await site.ask("POST", "/api/v2/jobs", jobs=body)).json["ids"]
    async with opened(window(site)) as shown:
        table = shown.page.table
        await shown.until(lambda: table.total == 500)
        await shown.press("G")
        await shown.until(lambda: table.selected is not None)
        assert table.selected is not None
        assert table.selected.id == min(ids)
        await shown.press("k")
        assert table.selected.id == min(ids) + 1
        await shown.press("g")
        await shown.until(lambda: table.selected is not None and table.selected.id == max(ids))


async def test_marked_jobs_are_killed_once_confirmed(site: Site) -> None:
    small, large, third = await some_jobs(site)
    async with opened(window(site)) as shown:
        await shown.until(lambda: len(shown.ids) == 3)
        await shown.press("space", "space", "K")
        await shown.until(lambda: len(shown.app.screen_stack) == 3)
        await shown.says("kill 2 jobs?")
        await shown.press("n", "K")
        await shown.until(lambda: len(shown.app.screen_stack) == 3)
        await site.ask("DELETE", f"/api/v2/jobs/{large}")
        await shown.press("y")
        await shown.until(lambda: "1 killed, 1 had ended already" in shown.notices)
        await shown.until(lambda: shown.ids == [small])
        assert (await site.get(f"/jobs/{third}")).json["state"] == "KILLED"


async def test_kill_by_filter(site: Site) -> None:
    small, large, third = await some_jobs(site)
    foreign = await site.submit("sleep 9", user=BOB, held=True)
    async with opened(window(site)) as shown:
        await shown.press("ctrl+k")
        await shown.until(lambda: any("first say which" in notice for notice in shown.notices))
        shown.page.set_filter("sleep")
        await shown.until(lambda: shown.ids == [third, small])
        await shown.press("ctrl+k")
        await shown.until(lambda: "kill ALL 2 that match sleep" in shown.text)
        await shown.press("y")
        await shown.until(lambda: "2 killed" in shown.notices)
        assert (await site.get(f"/jobs/{large}")).json["state"] == "QUEUED"
        assert (await site.get(f"/jobs/{foreign}", BOB)).json["state"] == "QUEUED"


async def test_release_hold_priority_resubmit(site: Site) -> None:
    job = await site.submit(held=True, resources={"cpus": 1, "mem": 64})
    async with opened(window(site)) as shown:
        await shown.until(lambda: shown.ids == [job])

        async def field(name: str, wanted: object) -> None:
            while (await site.get(f"/jobs/{job}")).json[name] != wanted:
                await shown.pilot.pause()

        async with asyncio.timeout(30):
            await shown.press("p")
            await shown.until(lambda: isinstance(shown.app.focused, Input))
            await shown.type("-7")
            await shown.press("backspace", "backspace", "backspace")
            await shown.type("99")
            await shown.says("a whole number from -20")
            await shown.press("backspace", "enter")
            await field("priority", 9)
            await shown.press("r", "y")
            await shown.until(lambda: any(f"submitted again: job {job + 1}" in notice for notice in shown.notices))
            shown.page.set_filter(f"id:{job}")
            await shown.until(lambda: shown.ids == [job])
            await shown.press("u", "y")
            await field("held", False)


async def test_readonly_has_no_changing_commands(site: Site) -> None:
    (job, *_) = await some_jobs(site)
    async with opened(window(site, readonly=True)) as shown:
        await shown.until(lambda: job in shown.ids)
        await shown.press("K", "h", "u", "p", "r", "ctrl+k")
        assert len(shown.app.screen_stack) == 2
        names = {command.name for command in shown.app.commands()}
        assert "filter" in names
        assert not names & {"kill", "hold", "release", "priority", "resubmit"}
        bound = {active.binding.action for active in shown.page.active_bindings.values()}
        assert not bound & QueuePage.changing
        assert "kill" not in shown.text


async def test_commands_by_name(site: Site) -> None:
    small, *_ = await some_jobs(site)
    async with opened(window(site)) as shown:
        await shown.press("colon")
        await shown.type("filter name:small")
        await shown.press("enter")
        await shown.until(lambda: shown.ids == [small])
        await shown.press("colon", "up", "escape", "colon")
        await shown.type("th")
        await shown.press("tab")
        await shown.type("retz-light")
        await shown.press("enter")
        await shown.until(lambda: shown.app.theme == "retz-light")
        await shown.app.command("nonsense")
        await shown.until(lambda: any("no command 'nonsense'" in notice for notice in shown.notices))


async def test_help_is_made_from_the_bindings(site: Site) -> None:
    async with opened(window(site, tui_keys={"queue.kill": "x"})) as shown:
        await shown.press("question_mark")
        await shown.until(lambda: "keys and commands" in shown.text)
        text = shown.text
        assert re.search(r"\bx +Kill the marked jobs", text)
        assert "queue.kill" in text
        await shown.press("escape")
        await shown.says("x kill")


async def test_copies(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    job = await site.submit("echo 'hello world'", held=True)
    copied: list[str] = []
    monkeypatch.setattr(RetzApp, "copy_to_clipboard", lambda self, text: copied.append(text))
    async with opened(window(site)) as shown:
        await shown.until(lambda: shown.ids == [job])
        await shown.press("y", "Y")
        assert copied == [str(job), "echo 'hello world'"]


async def test_columns_can_be_hidden(site: Site) -> None:
    async with opened(window(site)) as shown:
        await shown.says("PIPELINE")
        shown.page.table.hidden = {"pipeline"}
        shown.page.table.lay_out()
        await shown.until(lambda: "PIPELINE" not in shown.text)
        await shown.press("c")
        await shown.until(lambda: "columns, as far as there is room" in shown.text)
        await shown.press("space", "enter")
        await shown.until(lambda: shown.page.table.hidden == {"id", "pipeline"})


async def test_what_strangers_wrote_cannot_draw(site: Site) -> None:
    await site.submit("printf '\x1b[2J'", name="bad\u202ename", held=True)
    async with opened(window(site)) as shown:
        await shown.until(lambda: len(shown.ids) == 1)
        await shown.press("K")
        await shown.pilot.pause()
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\u202e]", shown.text)


async def test_a_lost_server_is_told_and_keys_go_on(tmp_path: Path) -> None:
    async with running_site(tmp_path) as site:
        await some_jobs(site)
        async with opened(window(site)) as shown:
            await shown.until(lambda: len(shown.ids) == 3)
            await site.shut()
            await shown.until(lambda: shown.page.query_one(Banner).display)
            await shown.says("trying again")
            assert shown.page.table.stale
            await shown.press("j")
            assert shown.page.table.cursor == 1
            assert len(shown.ids) == 3


async def test_a_server_that_starts_nothing_is_told(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tui.session.STATUS_S", 0.02)
    async with opened(window(site)) as shown:
        banner = shown.page.query_one(Banner)
        assert not banner.display
        site.core.dispatcher.failed("no master answers")
        await shown.until(lambda: banner.display)
        await shown.says("no job can be started: no master answers")
        assert not shown.page.table.stale
        monkeypatch.setattr(type(site.core.db), "failed", property(lambda _db: "disk is gone"))
        await shown.until(lambda: "nothing can be changed: disk is gone" in shown.text)
        monkeypatch.undo()
        site.core.dispatcher.recovered()
        await site.core.dispatcher.set_mode("open")  # the page asks too
        await shown.until(lambda: not banner.display)


async def test_a_fault_on_a_page_is_a_notice(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(window(site)) as shown:
        client = shown.app.session.client
        monkeypatch.setattr(client, "list", lambda **_: [][0])
        shown.page.reload(now=True)
        await shown.until(lambda: any("report it" in notice for notice in shown.notices))
        monkeypatch.undo()
        job = await site.submit(held=True)
        await shown.until(lambda: shown.ids == [job])


async def test_a_refused_action_is_a_notice(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    job = await site.submit(held=True)

    async def refuse(*_: object, **__: object) -> None:
        raise RetzError("the server is read-only: its disk is full")

    async with opened(window(site)) as shown:
        await shown.until(lambda: shown.ids == [job])
        monkeypatch.setattr(shown.app.session.client, "many", refuse)
        await shown.press("K", "y")
        await shown.until(lambda: any("disk is full" in notice for notice in shown.notices))


def steady(text: str) -> str:
    """Without what the clock decides."""
    text = re.sub(r"\d\d:\d\d:\d\d", "hh:mm:ss", text)
    return re.sub(r"\d\d:\d\d\b", "mm:ss", text)


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_frames(site: Site, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site.core.aggregates, "read", lambda *_: [])
    monkeypatch.setattr("tui.screens.queue.FORESEE", False)  # comes when it comes
    await some_jobs(site)
    running = await site.running("serve", name="running", resources={"cpus": 1, "mem": 64}, pipeline="etl", run="1")
    app = window(site)
    text = steady(await _frame(app, "queue", size))
    assert f"{running} ● started" in text
    assert_golden(f"queue-{size[0]}x{size[1]}", text)


async def test_it_says_when_a_job_will_start(site: Site) -> None:
    await site.running(timeout_s=7200.0, resources={"cpus": 4, "mem": 64})
    await site.submit(timeout_s=7200.0, resources={"cpus": 4, "mem": 64})
    async with opened(window(site), (160, 30)) as shown:
        await shown.until(lambda: site.core.forecasts.latest is not None)
        shown.app.screen.reload()  # type: ignore[attr-defined]
        await shown.until(lambda: "→ " in shown.text)


async def test_one_frame(site: Site) -> None:
    with pytest.raises(OnceError, match="there is no screen 'nowhere'"):
        await _frame(window(site), "nowhere", (80, 24))
    app = RetzApp(ClientConfig(server_uri="http://127.0.0.1:1", access_key="a", access_secret="b"))
    with pytest.raises(OnceError, match="no server at"):
        await _frame(app, "queue", (80, 24))


async def test_ages_and_numbers_of_the_past_are_of_that_time(site: Site) -> None:
    await site.submit(name="old", held=True)
    async with opened(window(site)) as shown:
        shown.app.rewind(shown.app.session.now() + 3725)
        await shown.until(lambda: shown.page.counts.past)
        # Waiting until the time that is looked at.
        await shown.until(lambda: re.search(r"1:0[23]:\d\d", shown.text))
        shown.app.rewind(None)
        await shown.until(lambda: not shown.page.counts.past)
        await shown.says("◌ 1 queued")


async def test_machines_go_by_their_host_names(site: Site) -> None:
    job = await site.running("serve", name="there")
    async with opened(window(site), (160, 30)) as shown:
        await shown.until(lambda: shown.ids == [job] and "host1" in shown.text)
        assert " a1 " not in shown.text
        await shown.press("enter")
        await shown.until(lambda: "on host1 for" in shown.text)
        assert shown.app.session.host("gone-for-ever") == "gone-for-ever"
