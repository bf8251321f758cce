"""The scheduler by example: where jobs go, what a pass costs, what check believes."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from retz.model.agent import Offer
from retz.model.job import Job
from retz.model.resources import Resources
from retz.scheduler import scheduler as scheduler_module
from retz.scheduler.scheduler import Placement, Scheduler


def job(job_id: int, cpus: float = 1, **more: Any) -> Job:
    amounts = {name: more.pop(name) for name in ("mem", "disk", "gpus", "ports") if name in more}
    return Job(
        id=job_id,
        owner=more.pop("owner", "ann"),
        command="true",
        resources=Resources(cpus=cpus, **amounts),
        submitted=0.0,
        **more,
    )


def offer(offer_id: str, cpus: float = 4, mem: int = 1000, gpus: int = 0, **attributes: Any) -> Offer:
    return Offer(
        id=offer_id, agent=f"on-{offer_id}", room=(round(cpus * 1000), mem, 1000, gpus, 10), attributes=attributes
    )


def filled(*jobs: Job, **options: Any) -> Scheduler:
    scheduler = Scheduler(**options)
    for each in jobs:
        scheduler.add(each)
    return scheduler


def plan(scheduler: Scheduler, running: int = 0, limit: int = 256) -> list[tuple[int, str]]:
    """One whole pass: (job, offer) pairs, nothing used."""
    work = scheduler.prepare(running, limit)
    return [] if work is None else [(job, offer) for job, offer in scheduler.check(work.solve(), running)]


def test_several_jobs_share_an_offer_until_it_is_full() -> None:
    scheduler = filled(job(1, 2), job(2, 1), job(3, 1), job(4, 1))
    scheduler.offer([offer("a", cpus=4)])
    assert plan(scheduler) == [(1, "a"), (2, "a"), (3, "a")]


def test_a_job_of_another_shape_passes_one_that_does_not_fit() -> None:
    scheduler = filled(job(1, 8), job(2, 8), job(3, 1))
    scheduler.offer([offer("a", cpus=4)])
    assert plan(scheduler) == [(3, "a")]


def test_inside_a_shape_jobs_go_by_id_even_when_requeued() -> None:
    scheduler = filled(job(7), job(9), job(2), job(8))
    scheduler.offer([offer("a", cpus=3)])
    assert plan(scheduler) == [(2, "a"), (7, "a"), (8, "a")]


def test_the_tightest_offer_is_used() -> None:
    scheduler = filled(job(1, 2, mem=10))
    scheduler.offer([offer("wide", cpus=8), offer("tight", cpus=2), offer("small", cpus=1)])
    assert plan(scheduler) == [(1, "tight")]


def test_machines_with_gpus_are_left_alone_by_jobs_without() -> None:
    scheduler = filled(job(1, 1), job(2, 1, gpus=1))
    scheduler.offer([offer("gpu", cpus=1, gpus=4), offer("plain", cpus=64)])
    assert plan(scheduler) == [(1, "plain"), (2, "gpu")]


def test_but_are_used_when_nothing_else_is_free() -> None:
    scheduler = filled(job(1, 4))
    scheduler.offer([offer("gpu", cpus=4, gpus=4), offer("plain", cpus=2)])
    assert plan(scheduler) == [(1, "gpu")]


def test_attributes_are_respected_and_others_pass() -> None:
    scheduler = filled(job(1, attributes="rack=r2"), job(2, attributes="level>=10"), job(3))
    scheduler.offer([offer("a", cpus=2, rack="r1", level=12.0)])
    assert plan(scheduler) == [(2, "a"), (3, "a")]
    scheduler.offer([offer("b", rack="r2")])
    assert (1, "b") in plan(scheduler)


def test_an_attribute_that_is_present_is_not_the_number_one() -> None:
    scheduler = filled(job(1, attributes="x=1"))
    scheduler.offer([offer("a", x=True)])
    assert plan(scheduler) == []
    scheduler.offer([offer("b", x=1.0)])
    assert plan(scheduler) == [(1, "b")]


@pytest.mark.parametrize(("running", "placed"), [(0, 3), (1, 2), (3, 0), (9, 0)])
def test_max_running(running: int, placed: int) -> None:
    scheduler = filled(*(job(number) for number in range(1, 9)), max_running=3)
    scheduler.offer([offer("a", cpus=8)])
    assert len(plan(scheduler, running)) == placed


def test_what_max_running_held_back_is_placed_later() -> None:
    scheduler = filled(job(1), job(2), max_running=1)
    scheduler.offer([offer("a"), offer("b")])
    assert plan(scheduler, 0) == [(1, "a")]
    scheduler.use("a", [1])
    assert scheduler.prepare(1) is None
    assert plan(scheduler, 0) == [(2, "b")]


def test_nothing_new_means_no_pass() -> None:
    scheduler = filled(job(1, 8))
    assert scheduler.prepare(0) is None, "no offers"
    scheduler.offer([offer("a")])
    assert plan(scheduler) == []
    assert scheduler.prepare(0) is None, "nothing changed"
    scheduler.add(job(2, 8))
    assert scheduler.prepare(0) is None, "one more of a shape that is known not to fit"
    scheduler.add(job(3, 2))
    work = scheduler.prepare(0)
    assert work is not None
    assert work.size == 1, "only the new shape is looked at"
    assert work.solve() == [Placement(3, "a")]


def test_an_empty_queue_needs_no_pass() -> None:
    scheduler = filled(job(1))
    scheduler.offer([offer("a")])
    scheduler.remove(1)
    assert scheduler.prepare(0) is None


def test_the_limit_is_kept_and_the_rest_comes_next() -> None:
    scheduler = filled(*(job(number) for number in range(1, 6)))
    scheduler.offer([offer("a", cpus=2), offer("b", cpus=3)])
    first = plan(scheduler, limit=2)
    assert first == [(1, "a"), (2, "a")]
    scheduler.use("a", [1, 2])
    assert plan(scheduler) == [(3, "b"), (4, "b"), (5, "b")]


def test_what_a_cut_pass_found_blocked_fits_the_very_next_offer() -> None:
    scheduler = filled(job(1, 8), job(2, 1), job(3, 1))
    scheduler.offer([offer("a", cpus=1)])
    assert plan(scheduler, limit=1) == [(2, "a")]
    scheduler.use("a", [2])
    scheduler.offer([offer("b", cpus=8)])
    assert plan(scheduler) == [(1, "b")]


def test_a_plan_that_was_not_used_is_made_again() -> None:
    scheduler = filled(job(1), job(2, 3, mem=1))
    scheduler.offer([offer("a", cpus=3)])
    assert plan(scheduler) == [(1, "a")]
    assert plan(scheduler) == [(1, "a")]
    scheduler.remove(1)
    assert plan(scheduler) == [(2, "a")], "blocked only by a placement that was not used"


def test_a_plan_that_was_never_solved_is_made_again() -> None:
    scheduler = filled(job(1))
    scheduler.offer([offer("a")])
    assert scheduler.prepare(0) is not None
    assert plan(scheduler) == [(1, "a")]


def test_use_takes_offer_and_jobs_and_what_is_left_comes_back() -> None:
    scheduler = filled(job(1), job(2), job(3))
    scheduler.offer([offer("a", cpus=2)])
    assert scheduler.use("a", [1, 2]).id == "a"
    assert (len(scheduler), 1 in scheduler, 3 in scheduler) == (1, False, True)
    assert dict(scheduler.offers) == {}
    with pytest.raises(KeyError):
        scheduler.use("a", [])
    scheduler.offer([offer("a2", cpus=1)])
    assert plan(scheduler) == [(3, "a2")]


def test_the_launches_of_one_step_leave_together() -> None:
    scheduler = filled(job(1), job(2), job(3), job(4, cpus=2), job(5))
    scheduler.offer([offer(name, cpus=2) for name in "abc"])
    assert [used.id for used in scheduler.use_all({"b": [1, 3], "a": [2], "c": []})] == ["b", "a", "c"]
    assert ([number in scheduler for number in (1, 2, 3, 4, 5)], dict(scheduler.offers)) == (
        [False] * 3 + [True] * 2,
        {},
    )
    scheduler.offer([offer("d", cpus=3)])
    assert plan(scheduler) == [(4, "d"), (5, "d")]


def test_an_offer_may_be_replaced_and_unknown_ids_are_ignored() -> None:
    scheduler = filled(job(1, 4))
    scheduler.offer([offer("a", cpus=2)])
    assert plan(scheduler) == []
    scheduler.offer([offer("a", cpus=4)])
    scheduler.rescind(["nobody"])
    scheduler.remove(99)
    assert plan(scheduler) == [(1, "a")]


def test_adding_again_moves_a_job() -> None:
    scheduler = filled(job(1, priority=5), job(2, priority=5), planner="priority")
    scheduler.add(job(2, priority=-5))
    assert (len(scheduler), scheduler.shapes) == (2, 2)
    assert (scheduler.ahead(2), scheduler.ahead(1)) == (0, 1)


class TestCheck:
    def test_drops_what_is_not_right_any_more(self) -> None:
        scheduler = filled(job(1, 2), job(2, 2), job(3, 2), job(4, 1), job(5, attributes="ssd"))
        scheduler.offer([offer("a", cpus=4)])
        asked = [
            Placement(99, "a"),  # no such job
            Placement(1, "gone"),  # no such offer
            Placement(5, "a"),  # its constraint does not hold
            Placement(1, "a"),
            Placement(1, "a"),  # twice
            Placement(2, "a"),
            Placement(3, "a"),  # no room left
        ]
        assert scheduler.check(asked, 0) == [Placement(1, "a"), Placement(2, "a")]

    def test_keeps_max_running(self) -> None:
        scheduler = filled(job(1), job(2), job(3), max_running=5)
        scheduler.offer([offer("a")])
        asked = [Placement(number, "a") for number in (1, 2, 3)]
        assert scheduler.check(asked, 3) == asked[:2]
        assert scheduler.check(asked, 7) == []

    def test_the_world_may_change_while_a_thread_solves(self) -> None:
        scheduler = filled(*(job(number) for number in range(1, 9)))
        scheduler.offer([offer("a"), offer("b")])
        work = scheduler.prepare(0)
        assert work is not None
        found: list[Placement] = []
        thread = threading.Thread(target=lambda: found.extend(work.solve()))
        thread.start()
        scheduler.remove(2)
        scheduler.rescind(["b"])
        scheduler.add(job(10, 0.5))
        thread.join()
        assert [each.job for each in scheduler.check(found, 0)] == [1, 3, 4]
        scheduler.use("a", [1, 3, 4])
        scheduler.offer([offer("c", cpus=1.5)])
        assert plan(scheduler) == [(5, "c"), (10, "c")]


def test_idle_offers() -> None:
    scheduler = Scheduler()
    scheduler.offer([offer("a"), offer("b", cpus=8)])
    assert sorted(scheduler.idle_offers()) == ["a", "b"], "nobody waits"
    scheduler.add(job(1, 6))
    assert scheduler.idle_offers() == [], "not known yet"
    work = scheduler.prepare(0)
    assert work is not None
    assert scheduler.idle_offers() == [], "still being found out"
    assert scheduler.check(work.solve(), 0) == [Placement(1, "b")]
    scheduler.use("b", [1])
    scheduler.add(job(2, 6))
    assert plan(scheduler) == []
    assert scheduler.idle_offers() == ["a"]
    scheduler.add(job(3, 6))
    assert scheduler.idle_offers() == ["a"], "one more of the same changes nothing"
    scheduler.add(job(4, 1))
    assert scheduler.idle_offers() == []


def test_ahead_of_jobs_that_are_not_queued() -> None:
    scheduler = filled(job(1), job(2))
    assert (scheduler.ahead(9), scheduler.ahead_ids(9, 5)) == (0, [])


def test_thousands_of_one_shape_keep_their_order() -> None:
    scheduler = Scheduler()
    for number in range(5000, 0, -1):
        scheduler.add(job(number))
    for number in range(1, 4001, 2):
        scheduler.remove(number)
    assert (len(scheduler), scheduler.shapes, scheduler.ahead(4001)) == (3000, 1, 2000)
    scheduler.offer([offer("a", cpus=3)])
    assert plan(scheduler) == [(2, "a"), (4, "a"), (6, "a")]


def test_an_empty_need_fits_everywhere() -> None:
    scheduler = filled(job(1, 0), job(2, 0))
    scheduler.offer([offer("a", cpus=0, mem=0)])
    assert plan(scheduler) == [(1, "a"), (2, "a")]


def test_a_pass_that_sees_only_heads_stops_rather_than_break_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler_module, "COPIED_SHAPES", 1)
    jobs = [job(1, 2), job(2, 2), job(3, 1), job(4, 1), job(5, 0.5), job(6, 0.5)]
    scheduler = filled(*jobs)
    scheduler.offer([offer("a", cpus=9)])
    placed: list[int] = []
    room = 9.0
    while len(scheduler):
        work = scheduler.prepare(0)
        assert work is not None
        ids = [each.job for each in scheduler.check(work.solve(), 0)]
        placed += ids
        old = next(iter(scheduler.offers))
        scheduler.use(old, ids)
        room -= sum(jobs[number - 1].resources.cpus for number in ids)
        scheduler.offer([offer(f"{old}+", cpus=room)])
    assert placed == [1, 2, 3, 4, 5, 6]
