"""Offers of a cluster combined, claimed, taken back; what tasks take out of them."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retz.engine.base import Assignment, Task, Uri
from retz.engine.mesos.offers import MesosBook, pick_ports, room_of
from retz.engine.mesos.tasks import NoRoom, Pool, task_info
from retz.engine.mesos.wire import Entry, Launch, MesosOffer
from retz.model.container import Container, Volume
from retz.model.resources import Resources

PORTS = Entry("ports", 101.0, ((31000, 31100),))
RESERVED = {"role": "eng", "reservations": [{"role": "eng", "type": "STATIC"}]}


def offer(name: str, agent: str = "S1", role: str = "*", **amounts: float) -> MesosOffer:
    entries = tuple(Entry(resource, amount) for resource, amount in (amounts or {"cpus": 1.0, "mem": 100.0}).items())
    return MesosOffer(name, agent, "host1", "http://10.0.0.1:5051/slave(1)", role, entries, {"rack": "r1"})


def task(command: str | tuple[str, ...] = "true", **more: Any) -> Task:
    more.setdefault("resources", Resources(cpus=0.5, mem=32))
    return Task(id="12.1", agent="S1", command=command, environment={"A": "b"}, **more)


def test_crumbs_of_one_agent_are_one_offer() -> None:
    book = MesosBook()
    first = book.add([offer("O1"), offer("O2", agent="S2")])
    assert first.void == [] and len(first.new) == 2
    second = book.add([offer("O3", cpus=0.5, mem=10.0)])
    assert second.void == [first.new[0].id]
    assert second.new[0].room == (1500, 110, 0, 0, 0)
    bundle = book.take(second.new[0].id)
    assert bundle is not None and bundle.ids == ["O1", "O3"]


def test_offers_of_two_roles_are_never_combined() -> None:
    news = MesosBook().add([offer("O1", role="eng"), offer("O2", role="ops")])
    assert len(news.new) == 2


def test_a_claimed_offer_is_left_alone() -> None:
    book = MesosBook()
    [standing] = book.add([offer("O1")]).new
    assert book.claim(standing.id) is not None
    assert book.claim(standing.id) is not None
    news = book.add([offer("O2")])
    assert news.void == [] and news.new[0].room == (1000, 100, 0, 0, 0)
    bundle = book.take(standing.id)
    assert bundle is not None and bundle.ids == ["O1"]


def test_what_the_master_takes_back_is_void() -> None:
    book = MesosBook()
    [old] = book.add([offer("O1"), offer("O2", cpus=2.0, mem=5.0)]).new
    news = book.rescind(["O1", "unknown"])
    assert news.void == [old.id]
    assert news.new[0].room == (2000, 5, 0, 0, 0)
    assert book.rescind(["O2"]).void == [news.new[0].id]
    assert len(book) == 0


def test_both_parts_taken_back_leave_nothing() -> None:
    book = MesosBook()
    [old] = book.add([offer("O1"), offer("O2")]).new
    news = book.rescind(["O1", "O2"])
    assert old.id in news.void and news.new == []
    assert len(book) == 0


def test_a_claimed_offer_that_lost_a_part_cannot_be_used() -> None:
    book = MesosBook()
    [standing] = book.add([offer("O1"), offer("O2")]).new
    book.claim(standing.id)
    [rest] = book.rescind(["O2"]).new
    assert book.take(standing.id) is None
    bundle = book.take(rest.id)
    assert bundle is not None and bundle.ids == ["O1"], "the master still holds it for us"


def test_a_claimed_offer_that_lost_all_parts_one_by_one() -> None:
    book = MesosBook()
    [standing, other] = book.add([offer("O1"), offer("O2"), offer("O3", agent="S2")]).new
    book.claim(standing.id)
    book.add([offer("O4")])
    news = book.rescind(["O1", "O2", "O4", "O3"])
    assert other.id in news.void and news.new == []
    assert len(book) == 0


def test_offers_of_a_lost_agent_are_void() -> None:
    book = MesosBook()
    one, two, three = book.add([offer("O1"), offer("O2", role="eng"), offer("O3", agent="S2")]).new
    book.claim(two.id)
    assert book.drop_agent("S1") == [one.id]
    assert book.take(two.id) is None and book.take(three.id) is not None


def test_a_disconnection_voids_everything() -> None:
    book = MesosBook()
    one, two = book.add([offer("O1"), offer("O2", agent="S2")]).new
    book.claim(one.id)
    assert book.clear() == [two.id]
    assert book.take(one.id) is None and len(book) == 0


@given(st.lists(st.tuples(st.sampled_from("acdrt"), st.integers(0, 7)), max_size=60))
def test_every_offer_of_the_master_is_at_one_place(steps: list[tuple[str, int]]) -> None:
    """Whatever happens, nothing that the master offered is used twice or forgotten."""
    book, here, known, made = MesosBook(), set[str](), set[str](), 0
    for step, number in steps:
        if step == "a":
            made += 1
            name = f"O{made}"
            news = book.add([offer(name, agent=f"S{number % 3}")])
            here.add(name)
        elif step == "r" and here:
            name = sorted(here)[number % len(here)]
            news = book.rescind([name])
        elif step == "c" and known:
            book.claim(sorted(known)[number % len(known)])
            continue
        elif step in "td" and known:
            ours = sorted(known)[number % len(known)]
            bundle = book.take(ours)
            if bundle is not None:
                assert set(bundle.ids) <= here
                here -= set(bundle.ids)
            known.discard(ours)
            continue
        else:
            continue
        assert set(news.void) <= known
        known -= set(news.void)
        known |= {new.id for new in news.new}
        if step == "r":
            here.discard(name)
    held = [part for bundle in [*book._standing.values(), *book._claimed.values()] for part in bundle.ids]
    assert sorted(held) == sorted(here)


def test_amounts_are_counted_in_thousandths() -> None:
    assert room_of([Entry("cpus", 0.1), Entry("cpus", 0.2), Entry("mem", 31.9999999)]) == (300, 32, 0, 0, 0)
    assert room_of([Entry("cpus", 1.9999999999), PORTS, Entry("gpus", 2.0)]) == (2000, 0, 0, 2, 101)


def test_ports_are_picked_from_several_ranges() -> None:
    entries = [Entry("ports", 4.0, ((5, 6), (9, 10)))]
    assert pick_ports(entries, 3, (5,)) == (6, 9, 10)
    assert pick_ports(entries, 4, (5,)) is None
    assert pick_ports([], 0, ()) == ()


def test_reserved_resources_are_used_first() -> None:
    pool = Pool([Entry("cpus", 1.0), Entry("cpus", 0.3, (), RESERVED), Entry("mem", 64.0)])
    taken = pool.take(task())
    assert taken == [Entry("cpus", 0.3, (), RESERVED), Entry("cpus", 0.2), Entry("mem", 32.0)]
    assert task_info(Launch(task(), taken))["resources"] == [
        {"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.3}, **RESERVED},
        {"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.2}},
        {"name": "mem", "type": "SCALAR", "scalar": {"value": 32.0}},
    ]
    with pytest.raises(NoRoom, match="cpus"):
        pool.take(task(resources=Resources(cpus=0.9, mem=1)))


def test_ports_become_ranges() -> None:
    pool = Pool([Entry("cpus", 1.0), Entry("mem", 64.0), PORTS, Entry("ports", 1.0, ((7, 7),), RESERVED)])
    taken = pool.take(task(assignment=Assignment(ports=(7, 31000, 31001, 31003))))
    assert task_info(Launch(task(), taken[2:]))["resources"] == [
        {"name": "ports", "type": "RANGES", "ranges": {"range": [{"begin": 7, "end": 7}]}, **RESERVED},
        {
            "name": "ports",
            "type": "RANGES",
            "ranges": {"range": [{"begin": 31000, "end": 31001}, {"begin": 31003, "end": 31003}]},
        },
    ]
    with pytest.raises(NoRoom, match="port 99"):
        pool.take(task(resources=Resources(cpus=0.1, mem=1), assignment=Assignment(ports=(99,))))


@given(st.integers(0, 2**32))
def test_tasks_never_take_more_than_there_is(seed: int) -> None:
    rng = random.Random(seed)
    marks: tuple[dict[str, Any], ...] = (RESERVED, {})
    entries = [Entry("cpus", rng.randrange(1, 4000) / 1000, (), marks[n % 2]) for n in range(4)]
    entries += [Entry("mem", float(rng.randrange(1, 500)), (), marks[n % 2]) for n in range(3)]
    pool, used = Pool(entries), {"cpus": 0.0, "mem": 0.0}
    while True:
        need = Resources(cpus=rng.randrange(1, 900) / 1000, mem=rng.randrange(1, 90))
        try:
            parts = pool.take(task(resources=need))
        except NoRoom:
            break
        assert sum(part.amount for part in parts if part.name == "mem") == need.mem
        for part in parts:
            assert part.amount > 0
            used[part.name] += part.amount
    for name, amount in used.items():
        assert amount <= sum(entry.amount for entry in entries if entry.name == name) + 1e-9


def test_a_shell_line_becomes_a_command_task() -> None:
    info = task_info(Launch(task("echo hi", timeout_s=1.5, kill_grace_s=2.0, directory="/a b"), []))
    assert info["task_id"] == {"value": "12.1"} and info["agent_id"] == {"value": "S1"}
    command = info["command"]
    assert command["shell"] is True and command["value"].endswith("cd -- '/a b' || exit 1; echo hi")
    assert "\n" not in command["value"]
    assert command["environment"] == {"variables": [{"name": "A", "value": "b"}]}
    assert "user" not in command and "uris" not in command and "container" not in info
    assert info["max_completion_time"] == {"nanoseconds": 1_500_000_000}
    assert info["kill_policy"] == {"grace_period": {"nanoseconds": 2_000_000_000}}
    assert {"key": "retz.job", "value": "12"} in info["labels"]["labels"]


def test_an_argument_vector_is_not_parsed_by_a_shell() -> None:
    command = task_info(Launch(task(("echo", "$HOME", "a b")), []))["command"]
    assert command["shell"] is False and command["value"] == "/bin/sh"
    assert command["arguments"][-3:] == ["echo", "$HOME", "a b"]


def test_an_endless_time_limit_fits_into_64_bits() -> None:
    assert task_info(Launch(task(timeout_s=1e300), []))["max_completion_time"]["nanoseconds"] < 2**63


def test_files_user_and_container_of_the_application() -> None:
    container = Container("docker", "debian:12", (Volume("nfs", "vol", "/data", "RW", {"opt": "x"}),))
    info = task_info(
        Launch(task(files=(Uri("http://x/a.tgz"), Uri("/big", cache=True)), user="ann", container=container), [])
    )
    assert info["command"]["user"] == "ann"
    assert info["command"]["uris"] == [
        {"value": "http://x/a.tgz", "executable": False, "extract": True, "cache": False},
        {"value": "/big", "executable": False, "extract": True, "cache": True},
    ]
    assert info["container"]["mesos"]["image"] == {"type": "DOCKER", "docker": {"name": "debian:12"}}
    [volume] = info["container"]["volumes"]
    assert volume["mode"] == "RW" and volume["container_path"] == "/data"
    assert volume["source"]["docker_volume"]["driver_options"] == {"parameter": [{"key": "opt", "value": "x"}]}
