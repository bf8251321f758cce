"""What every engine owes the server, whatever it runs."""

from __future__ import annotations

import asyncio

import pytest

from retz.engine.base import Assignment
from retz.model.resources import Resources, from_vector

from .site import ONE, TOTAL, Site


def test_a_task_is_launched_and_ends(site: Site) -> None:
    async def scenario(site: Site) -> None:
        end = await site.run("true")
        assert (end.kind, end.exit_code, end.signal, end.reason) == ("ended", 0, None, None)
        assert end.seq > 0
        assert end.started is not None and end.started <= end.at
        assert end.usage is not None or site.kind == "mesos"  # too short to be measured there

    site.play(scenario)


def test_many_tasks_each_get_one_end(site: Site) -> None:
    async def scenario(site: Site) -> None:
        names = [f"{number}.1" for number in range(1, 21)]
        for name in names:
            await site.launch(site.task("true", name))
        for name in names:
            assert (await site.recorder.final(name)).exit_code == 0
        ends = [update.task for update in site.recorder.news if update.kind == "ended"]
        assert sorted(ends) == sorted(names)

    site.play(scenario)


def test_sequence_numbers_differ(site: Site) -> None:
    async def scenario(site: Site) -> None:
        await site.launch(*(site.task("true", f"{number}.1") for number in range(4)))
        ends = [await site.recorder.final(f"{number}.1") for number in range(4)]
        assert len({end.seq for end in ends}) == 4

    site.play(scenario)


def test_the_first_offer_is_everything(site: Site) -> None:
    async def scenario(site: Site) -> None:
        offer = await site.recorder.offer()
        assert from_vector(offer.room) == TOTAL
        assert offer.agent == site.engine.agents()[0].id
        assert site.engine.agents()[0].total == TOTAL

    site.play(scenario)


def test_offers_add_up(site: Site) -> None:
    async def scenario(site: Site) -> None:
        offer = await site.recorder.offer()
        await site.launch(site.task("true", resources=Resources(cpus=1.5, mem=100)))
        await site.recorder.final("1.1")
        last = await site.recorder.until(
            lambda: next((o for o in site.recorder.standing.values() if o.room == TOTAL.vector), None)
        )
        assert last.id != offer.id
        assert list(site.recorder.standing) == [last.id]

    site.play(scenario)


def test_a_declined_offer_comes_back_under_another_name(site: Site) -> None:
    async def scenario(site: Site) -> None:
        offer = await site.recorder.offer()
        del site.recorder.standing[offer.id]
        site.engine.decline([offer.id])
        again = await site.recorder.offer()
        assert again.id != offer.id and again.room == offer.room

    site.play(scenario)


def test_a_claimed_offer_is_neither_rescinded_nor_offered_twice(site: Site) -> None:
    """Between assign and launch the server waits for its disk; a task may end just then."""

    async def scenario(site: Site) -> None:
        recorder = site.recorder
        first = await recorder.offer()
        del recorder.standing[first.id]
        site.engine.launch(first, [site.task("sleep 0.05")])
        if site.kind != "null":
            claimed = await recorder.offer()
        else:  # its tasks are over before it offers again: claim what is offered then
            await recorder.final("1.1")
            claimed = await recorder.offer()
        assert site.engine.assign(claimed, ONE, Assignment()) is not None
        await recorder.final("1.1")
        if site.kind != "null":
            second = await recorder.until(lambda: next((o for o in recorder.standing.values() if o != claimed), None))
            assert second.room == ONE.vector
        assert claimed.id in recorder.standing
        del recorder.standing[claimed.id]
        site.engine.launch(claimed, [site.task("true", "2.1")])
        assert (await recorder.final("2.1")).exit_code == 0
        last = await recorder.until(
            lambda: next((o for o in recorder.standing.values() if o.room == TOTAL.vector), None)
        )
        assert list(recorder.standing) == [last.id]

    site.play(scenario)


def test_ports_are_distinct(site: Site) -> None:
    async def scenario(site: Site) -> None:
        offer = await site.recorder.offer()
        need = Resources(cpus=1.0, ports=2)
        first = site.engine.assign(offer, need, Assignment())
        assert first is not None
        second = site.engine.assign(offer, need, first)
        assert second is not None
        assert len({*first.ports, *second.ports}) == 4

    site.play(scenario)


def test_acknowledging_what_nobody_sent_is_harmless(site: Site) -> None:
    async def scenario(site: Site) -> None:
        site.engine.acknowledge([0, 12345])
        end = await site.run("true")
        site.engine.acknowledge([end.seq, end.seq])
        assert (await site.run("true", "2.1")).exit_code == 0

    site.play(scenario)


def test_killing_what_nobody_knows_is_harmless(site: Site) -> None:
    async def scenario(site: Site) -> None:
        site.engine.kill("99.1", 0.0)
        assert (await site.run("true")).exit_code == 0

    site.play(scenario)


def test_an_update_comes_again_until_it_is_acknowledged(site: Site) -> None:
    async def scenario(site: Site) -> None:
        end = await site.run("true")
        if site.kind != "null":
            recorder = await site.restart("1.1")
        else:  # nothing of it outlives the object
            await site.engine.stop()
            recorder = site.recorder
            recorder.news.clear()
            await site.engine.start(recorder, [site.known("1.1")])
        again = await recorder.final("1.1")
        assert (again.kind, again.exit_code) == ("ended", 0)
        assert again.seq == end.seq or (again.seq and site.kind == "mesos")  # Mesos's own numbers are its uuids

    site.play(scenario)


def test_a_known_task_that_nobody_ran_gets_its_truth(site: Site) -> None:
    async def whole() -> None:
        recorder = await site.start([site.known("7.1")])
        truth = await recorder.final("7.1")
        assert truth.kind == ("lost" if site.kind == "null" else "not_started")
        assert (await recorder.offer()).room == TOTAL.vector
        await site.engine.stop()

    asyncio.run(whole())


def test_files_of_nobody_are_not_found(site: Site) -> None:
    async def scenario(site: Site) -> None:
        await site.recorder.offer()  # from then on its agent is known
        for task in ("99.1", "../1", "x", ""):
            with pytest.raises(FileNotFoundError):
                await site.engine.list_files(task, "", site.agent)
            with pytest.raises(FileNotFoundError):
                await site.engine.open_file(task, "stdout", site.agent)
        site.engine.collect(["99.1"])

    site.play(scenario)


def test_usage_of_the_unknown_is_left_out(site: Site) -> None:
    async def scenario(site: Site) -> None:
        assert await site.engine.usage(["99.1"]) == {}

    site.play(scenario)
