"""Agents and GPUs on the screen, against a real server with an engine of many machines."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from retz.model.resources import Resources
from retz.model.user import User
from tests.tui_frames import assert_golden
from tui.screens.agents import AgentPage, AgentsPage, Watching
from tui.screens.gpus import GpusPage
from tui.screens.job import JobPage

from .farm import FarmEngine, farm
from .http_site import ANN, BOB, ROOT, Site, running_site
from .tui_window import Window, app_of, opened

pytestmark = pytest.mark.anyio

NEVER_S = 3600.0


@pytest.fixture(autouse=True)
def _only_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test shows changes when something happens, not because time passes."""
    monkeypatch.setattr(Watching, "poll_s", NEVER_S)
    monkeypatch.setattr(Watching, "every_s", 0.05)


class FarmWindow(Window):
    """The window, when machines are on it."""

    @property
    def still(self) -> str:
        """The frame with every time of day and duration set to zero."""
        return re.sub(r"\d?\d:\d\d(:\d\d)?", lambda found: re.sub(r"\d", "0", found[0]), self.text)

    @property
    def gpus(self) -> GpusPage:
        page = self.app.page
        assert isinstance(page, GpusPage)
        return page


@asynccontextmanager
async def screen(site: Site, user: User = ROOT, size: tuple[int, int] = (120, 40)) -> AsyncIterator[FarmWindow]:
    app = app_of(site, user, settings={"server_retry": 0.0})
    async with opened(FarmWindow, app, size, notifications=True) as it:
        yield it


@asynccontextmanager
async def running_farm(directory: Path, machines: int, gpus: int = 8, telemetry: bool = True) -> AsyncIterator[Site]:
    engine = FarmEngine(farm(machines, gpus, telemetry))
    async with running_site(directory, engine=engine) as site:
        yield site


def engine_of(site: Site) -> FarmEngine:
    assert isinstance(site.engine, FarmEngine)
    return site.engine


@pytest.fixture
async def eight(tmp_path: Path) -> AsyncIterator[Site]:
    """Eight machines with eight GPUs; five jobs hold some."""
    async with running_farm(tmp_path, 8) as site:
        for name, gpus, user in (("vit", 8, ANN), ("sweep", 1, BOB), ("join", 0, ANN), ("eval", 4, BOB)):
            await site.running("x", user, name=name, resources={"cpus": 4, "mem": 65_536, "gpus": gpus})
        yield site


# -- agents ----------------------------------------------------------------------------------------------------------


async def test_every_agent_with_what_is_held_and_who_runs_there(eight: Site) -> None:
    async with screen(eight) as it:
        await it.press("3")
        await it.says("8 agents", "n01", "n08", "8/8", "rack=r1 ssd", "2 jobs there: 3 join (ann), 1 vit (ann)")
        await it.press("j")
        await it.says("n02: 56 cpus, 384.0G and 3 GPUs free", "2 sweep (bob)")


async def test_who_is_nobody_else_s_business(eight: Site) -> None:
    async with screen(eight, BOB) as it:
        await it.press("3")
        await it.says("2 jobs there, 0 of them yours")
        assert "vit" not in it.text and "ann" not in it.text
        await it.press("4")
        await it.says("held by another user", "other users", "2 4  bob")
        assert "vit" not in it.text and "ann" not in it.text


async def test_filter_sort_and_back(eight: Site) -> None:
    async with screen(eight) as it:
        await it.press("3")
        await it.says("8 agents")
        await it.press("slash", *"rack=r3", "enter")
        await it.says("2 agents   / rack=r3", "n03", "n07")
        await it.press("escape")
        await it.says("8 agents", "n08")
        await it.press("S")
        await it.says("HOST↓")
        await it.until(lambda: it.text.index("n08") < it.text.index("n01"))
        await it.app.command("sort gpus")
        await it.says("GPUS↑")
        await it.until(lambda: it.text.index("n01") < it.text.index("n03"))
        await it.app.command("sort colour")
        await it.says("say one of host")


async def test_one_agent_and_its_jobs(eight: Site) -> None:
    async with screen(eight) as it:
        await it.press("3")
        await it.says("n01")
        await it.press("enter")
        await it.says("agents ▸ n01", "8 of      8 held", "2 jobs", "8 GPUs H200: 8 held", "vit", "join")
        eight.engine.ended("3.1")
        await it.until(lambda: "join" not in it.text)
        await it.press("e")
        await it.says("join", "✔ finished")
        await it.press("down", "enter")
        await it.until(lambda: isinstance(it.app.page, JobPage))
        await it.press("escape", "escape")
        await it.until(lambda: isinstance(it.app.page, AgentsPage))


async def test_what_happens_to_machines_is_seen(eight: Site) -> None:
    agents = list(farm(8))
    async with screen(eight) as it:
        await it.press("3")
        await it.says("● active")
        engine_of(eight).replace_agents([replace(agents[0], state="unreachable"), *agents[2:]])
        await eight.submit("x")
        await it.says("7 agents   1 unreachable", "✘ unreachable", "n01 is unreachable: it takes no new jobs")
        await it.app.drill(AgentPage("agent-2", "n02"))
        await it.says("agent agent-2 is not there (any more)")


async def test_a_cluster_that_others_use_too(eight: Site) -> None:
    agents = list(farm(8))
    shared = replace(agents[0], others=Resources(32, 65_536), offered=Resources(8, 1024))
    draining, kept = replace(agents[1], state="draining"), replace(agents[2], state="deactivated")
    async with screen(eight) as it:
        await it.press("3")
        await it.says("● active")
        engine_of(eight).replace_agents([shared, draining, kept, *agents[3:]])
        await eight.submit("x")
        await it.says(
            "1 deactivated   1 draining", "◍ draining", "⊘ deactivated", "▒░░░", "others hold 32 cpus and 64.0G"
        )
        await it.press("enter")
        await it.says("on offer now: 8 cpus and 1.0G", "32 others'")


async def test_no_machine_at_all(eight: Site) -> None:
    engine_of(eight).replace_agents([])
    async with screen(eight) as it:
        await it.press("3")
        await it.says("0 agents", "no agents")
        await it.press("enter", "j", "y", "4")
        await it.says("no machine has GPUs")
        await it.press("enter", "a", "y", "l", "j", "G", "m")
        assert isinstance(it.app.page, GpusPage)


async def test_ten_thousand_agents(tmp_path: Path) -> None:
    async with running_farm(tmp_path, 1) as site, screen(site) as it:
        engine_of(site).replace_agents([replace(agent, gpus=agent.gpus[:1]) for agent in farm(10_000, 1)])
        await it.press("3")
        await it.says("10 000 agents")
        await it.press("G")
        await it.until(lambda: "n10000" in it.text)
        page = it.app.page
        assert isinstance(page, AgentsPage)
        assert page.table.state()["rows"] <= 3 * 40, "no more than the screen and its neighbours"
        await it.press("4")
        await it.says("10 000 GPUs")
        await it.press("G")
        await it.says("n10000:0")
        assert len(it.gpus.grid._agents) <= 1000


# -- GPUs ------------------------------------------------------------------------------------------------------------


async def test_every_gpu_and_who_holds_it(eight: Site) -> None:
    async with screen(eight) as it:
        await it.press("4")
        await it.says("64 GPUs   13 held   51 free   1 with strangers", "held by 1 vit (ann) for", "util  37%")
        await it.press("j")
        await it.says("n02:0", "held by 2 sweep (bob)")
        await it.press("j", *"llllll")
        await it.says("n03:6", "! not ours: pid 8812 (jupyter) 34.0G")
        await it.press("m")
        await it.says("memory %", "mem for")
        await it.press("t")
        await it.says("temperature °C")
        await it.press("a")
        await it.says("gpus ▸ n03", "1 process on them not ours")


async def test_enter_opens_the_job_that_holds_it(eight: Site) -> None:
    async with screen(eight) as it:
        await it.press("4")
        await it.says("held by 1 vit")
        await it.press("enter")
        await it.until(lambda: isinstance(it.app.page, JobPage) and "vit" in it.text)
        await it.press("escape")
        await it.until(lambda: isinstance(it.app.page, GpusPage))
        await it.press("end")
        await it.says("n08:7")
        await it.press("enter")
        await it.says("nobody holds it")


async def test_the_cursor_goes_everywhere(eight: Site) -> None:
    async with screen(eight) as it:
        await it.press("4")
        await it.says("n08")
        for keys, place in (
            ("l", (0, 1)), ("hh", (0, 0)), ("j", (1, 0)), ("h", (0, 7)), ("l", (1, 0)), ("G", (7, 7)), ("l", (7, 7)),
            ("j", (7, 7)), ("k", (6, 7)), ("g", (0, 0)), ("k", (0, 0)),
        ):  # fmt: skip
            await it.press(*keys)
            await it.until(lambda: it.gpus.grid.place == place)  # noqa: B023 (awaited at once)
        await it.pilot.click("#grid", offset=(30, 3))
        await it.until(lambda: it.gpus.grid.place == (2, 2))


async def test_gpus_without_telemetry_say_why(tmp_path: Path) -> None:
    async with running_farm(tmp_path, 2, telemetry=False) as site, screen(site) as it:
        await site.running("x", name="vit", resources={"gpus": 1})
        await it.press("4")
        await it.says("▒▒▒▒▒▒▒", "held by 1 vit (ann)", "no telemetry (declared, no driver)")


async def test_a_history_grows_while_one_looks(eight: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    async with screen(eight) as it:
        await it.press("4")
        await it.says("util for")
        history = it.gpus._histories["util"]
        for _ in range(3):
            before = len(history.of("GPU-1-0"))
            it.gpus._noted_at = float("-inf")
            it.gpus.reload(now=True)
            await it.until(lambda: len(history.of("GPU-1-0")) > before)  # noqa: B023 (awaited at once)
        await it.says("▃▃▃▃")
        it.gpus.reload(now=True)
        await it.pilot.pause()
        assert len(history.of("GPU-1-0")) == 4, "a key pressed is no sample"


async def test_names_cannot_draw_on_the_screen(tmp_path: Path) -> None:
    async with running_farm(tmp_path, 1) as site, screen(site) as it:
        (agent,) = farm(1)
        evil = "\x1b[2J\x9b31m\u202e日本"
        engine_of(site).replace_agents([replace(agent, host=evil, attributes={evil: evil})])
        await site.running("x\x1b[31m", resources={"gpus": 1})
        for key, words in (("3", "1 job there"), ("4", "held by 1")):
            await it.press(key)
            await it.says(words, "日本")
            assert all(character.isprintable() or character == "\n" for character in it.text)


# -- the past ----------------------------------------------------------------------------------------------------------


async def test_the_past_shows_who_held_what_then(eight: Site) -> None:
    job = (await eight.get("/jobs/4", ROOT)).json
    await eight.until(lambda: eight.core.clock() > eight.core.db.jobs.record(4).attempts[0].started + 0.01)  # type: ignore[union-attr, operator]
    moment = eight.core.clock()
    for number in (1, 2, 3, 4):
        eight.engine.ended(f"{number}.1")
    await eight.core.settled()
    assert job["state"] == "STARTED"
    async with screen(eight) as it:
        await it.press("3")
        await it.says("nobody runs there")
        it.app.rewind(moment)
        await it.says("what 4 jobs held then", "Totals are today's", "2 jobs there: 3 join (ann), 1 vit (ann)", "8/8")
        await it.press("enter")
        await it.says("agents ▸ n01", "what 4 jobs held then", "8 GPUs H200: 8 held", "vit")
        await it.press("4")
        await it.says("64 GPUs   13 held   51 free", "held by 1 vit (ann)", "telemetry was not recorded")
        assert "util for" not in it.text and "▓" not in it.text
        it.app.rewind(None)
        await it.says("64 GPUs   0 held   64 free", "util  37%")


# -- frames ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_frames(eight: Site, size: tuple[int, int]) -> None:
    async with screen(eight, size=size) as it:
        name = f"{size[0]}x{size[1]}"
        await it.press("3")
        await it.says("8 agents", "3 join (ann), 1 vit (ann)")
        assert_golden(f"agents-{name}", it.still)
        await it.press("enter")
        await it.says("agents ▸ n01", "vit")
        assert_golden(f"agent-{name}", it.still)
        await it.press("4")
        await it.says("64 GPUs", "held by 1 vit")
        assert_golden(f"gpus-{name}", it.still)
