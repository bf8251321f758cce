"""Starts handed to the launcher ahead of time: they begin at another task's end, or never, and only once."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from retz.engine.base import KnownTask
from retz.engine.local import standby
from retz.model.agent import Offer
from retz.model.resources import Resources

from .engine_contract.site import ONE, Recorder, Site, drop

UNTIL_GO = "while [ ! -e ../go ]; do sleep 0.01; done"
Scenario = Callable[[Site], Coroutine[Any, Any, None]]


@pytest.fixture
def one_slot(tmp_path: Path) -> Iterator[Site]:
    place = Site("local", tmp_path / "engine", total=Resources(cpus=1.0, mem=64), gpus=())
    yield place
    place.clean()


async def become_brief(site: Site) -> None:
    """Run short tasks until the engine knows that its tasks are short."""
    for number in range(20):
        assert (await site.run("true", f"{900 + number}.1")).exit_code == 0


async def standby_offer(recorder: Recorder) -> Offer:
    offer: Offer = await recorder.until(
        lambda: next((offer for offer in recorder.standing.values() if "-after-" in offer.id), None)
    )
    return offer


async def line_up(site: Site, second: str = "echo second") -> None:
    """Task 1.1 runs until ``go`` exists; 2.1 waits in the launcher for its end."""
    await become_brief(site)
    await site.launch(site.task(UNTIL_GO, "1.1"))
    offer = await standby_offer(site.recorder)
    del site.recorder.standing[offer.id]
    site.engine.assign(offer, ONE, site.task("").assignment)
    site.engine.launch(offer, [site.task(second, "2.1")])
    await site.engine.usage(["1.1"])  # an answer from the launcher: it has read what came before


def go(site: Site) -> None:
    (site.sandbox("1.1").parent / "go").touch()


def test_a_follower_starts_at_the_end_of_the_task_before(one_slot: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(site: Site) -> None:
        await line_up(site)
        assert not site.sandbox("2.1").exists()
        go(site)
        first, second = await site.recorder.final("1.1"), await site.recorder.final("2.1")
        assert (first.exit_code, second.exit_code) == (0, 0)
        assert second.started is not None and second.started >= first.at - 0.001
        assert (site.sandbox("2.1") / "stdout").read_text() == "second\n"
        whole = await site.recorder.until(lambda: [o for o in site.recorder.standing.values() if o.room[0] == 1000])
        assert len(whole) == 1

    monkeypatch.setattr("retz.engine.local.engine.WITHDRAW_S", 60.0)
    monkeypatch.setattr(standby, "WITHDRAW_S", 60.0)
    one_slot.play(scenario)


async def line_up_three(site: Site, middle: str | tuple[str, ...]) -> None:
    """3.1 waits for 2.1, which waits for 1.1."""
    await become_brief(site)
    await site.launch(site.task(UNTIL_GO, "1.1"))
    for command, task in ((middle, "2.1"), ("echo third", "3.1")):
        offer = await standby_offer(site.recorder)
        del site.recorder.standing[offer.id]
        site.engine.assign(offer, ONE, site.task("").assignment)
        site.engine.launch(offer, [site.task(command, task)])
    await site.engine.usage(["1.1"])


@pytest.mark.parametrize("middle", ["true", ("no-such-program",)])
def test_a_line_of_three_moves_up_whatever_becomes_of_the_middle(
    one_slot: Site, monkeypatch: pytest.MonkeyPatch, middle: str | tuple[str, ...]
) -> None:
    async def scenario(site: Site) -> None:
        await line_up_three(site, middle)
        assert not [offer_id for offer_id in site.recorder.standing if "-after-" in offer_id], "a line has an end"
        go(site)
        ends = [await site.recorder.final(task) for task in ("1.1", "2.1", "3.1")]
        assert [end.exit_code for end in ends] == [0, 0 if middle == "true" else 127, 0]
        whole = await site.recorder.until(lambda: [o for o in site.recorder.standing.values() if o.room[0] == 1000])
        assert len(whole) == 1

    monkeypatch.setattr("retz.engine.local.engine.WITHDRAW_S", 60.0)
    one_slot.play(scenario)


def test_a_line_is_taken_back_whole(one_slot: Site) -> None:
    async def scenario(site: Site) -> None:
        await line_up_three(site, "true")
        assert (await site.recorder.final("2.1")).kind == "not_started"
        assert (await site.recorder.final("3.1")).kind == "not_started"
        go(site)
        assert (await site.recorder.final("1.1")).exit_code == 0
        assert (await site.run("true", "4.1")).exit_code == 0

    one_slot.play(scenario)


def test_a_follower_needs_no_server(one_slot: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(site: Site) -> None:
        await line_up(site)
        drop(site.engine)
        go(site)
        recorder = await site.start([KnownTask(id=task, agent="a", resources=ONE) for task in ("1.1", "2.1")])
        assert (await recorder.final("1.1")).exit_code == 0
        end = await recorder.final("2.1")
        # Either the launcher had started it when the new server came, or the new server took it back: never both.
        assert (end.kind, end.exit_code) in (("ended", 0), ("not_started", None))
        assert (site.sandbox("2.1") / "stdout").read_text() == ("second\n" if end.kind == "ended" else "")

    monkeypatch.setattr("retz.engine.local.engine.WITHDRAW_S", 60.0)
    one_slot.play(scenario)


def test_a_follower_is_taken_back_when_the_task_before_runs_on(one_slot: Site) -> None:
    async def scenario(site: Site) -> None:
        await line_up(site)
        assert (await site.recorder.final("2.1")).kind == "not_started"
        go(site)
        assert (await site.recorder.final("1.1")).exit_code == 0
        assert not site.sandbox("2.1").exists()

    one_slot.play(scenario)


def test_killing_a_follower_means_it_never_runs(one_slot: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(site: Site) -> None:
        await line_up(site)
        site.engine.kill("2.1", 1.0)
        assert (await site.recorder.final("2.1")).kind == "not_started"
        go(site)
        assert (await site.recorder.final("1.1")).exit_code == 0
        assert not site.sandbox("2.1").exists()

    monkeypatch.setattr("retz.engine.local.engine.WITHDRAW_S", 60.0)
    one_slot.play(scenario)


def test_with_the_launcher_dies_the_place_in_line(one_slot: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(site: Site) -> None:
        await line_up(site)
        os.kill(site.launcher_pid(), signal.SIGKILL)
        assert (await site.recorder.final("1.1")).kind == "lost"
        assert (await site.recorder.final("2.1")).kind == "not_started"
        assert (await site.run("true", "3.1")).exit_code == 0

    monkeypatch.setattr("retz.engine.local.engine.WITHDRAW_S", 60.0)
    one_slot.play(scenario)


def test_nobody_waits_in_line_while_there_is_room(tmp_path: Path) -> None:
    async def scenario(site: Site) -> None:
        await become_brief(site)
        await site.launch(site.task(UNTIL_GO, "1.1"))
        await site.recorder.started("1.1")
        assert ["-after-" in offer_id for offer_id in site.recorder.standing] == [False]
        go(site)
        await site.recorder.final("1.1")

    site = Site("local", tmp_path / "engine", total=Resources(cpus=2.0, mem=256), gpus=())
    site.play(scenario)
    site.clean()


def test_long_tasks_have_no_line(one_slot: Site) -> None:
    async def scenario(site: Site) -> None:
        await site.launch(site.task(UNTIL_GO, "1.1"))
        await site.recorder.started("1.1")
        assert not site.recorder.standing
        go(site)
        await site.recorder.final("1.1")

    one_slot.play(scenario)
