"""Sums over all machines: what equal amounts save must not change what comes out."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from retz.model.agent import Agent
from retz.model.resources import Resources, Vector, add, from_vector
from retz.server.shares import MANY, Latest, machines, shares, sums

VECTORS = st.tuples(*(st.integers(0, 3) for _ in range(5)))


@given(st.lists(VECTORS, max_size=6), st.dictionaries(st.integers(0, 7), VECTORS))
def test_sums_are_those_of_the_machines(totals: list[Vector], held: dict[int, Vector]) -> None:
    agents = [Agent(id=f"a{n}", host="h", total=from_vector(total)) for n, total in enumerate(totals)]
    mine = {f"a{n}": vector for n, vector in held.items()}
    total = used = (0, 0, 0, 0, 0)
    for agent in agents:
        total = add(total, agent.total.vector)
        used = add(used, shares(agent, mine.get(agent.id, (0, 0, 0, 0, 0))).used)
    found = sums(agents, mine)
    assert (found.total, found.used) == (from_vector(total), from_vector(used))
    assert found.largest == from_vector(max(totals, default=(0, 0, 0, 0, 0)))


def test_of_no_machine() -> None:
    assert sums([], {}) == (Resources(), Resources(), Resources(), Resources())


def test_machines_come_with_what_nobody_holds() -> None:
    agents = [
        Agent(id="a", host="h", total=Resources(4), others=Resources(1)),
        Agent(id="b", host="h", total=Resources(2)),
    ]
    found = machines(agents, {"a": (1000, 0, 0, 0, 0)})
    assert [(machine.agent.id, machine.free[0]) for machine in found] == [("a", 2000), ("b", 2000)]


def test_what_is_made_of_many_machines_is_made_once_a_second() -> None:
    now = 100.0
    few, many = ([Agent(id=f"a{n}", host="h", total=Resources(2)) for n in range(count)] for count in (MANY, MANY + 1))
    for agents, seen in ((few, 1.0), (many, 0.0)):
        latest = Latest(sums, lambda: now)
        assert latest.of(agents, {}).used.cpus == 0.0
        assert latest.of(agents, {"a0": (1000, 0, 0, 0, 0)}).used.cpus == seen
    now += 1.0
    assert latest.of(many, {"a0": (1000, 0, 0, 0, 0)}).used.cpus == 1.0
