"""Amounts as vectors of integers: sums of fractions stay exact."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from retz.model.resources import RESOURCE_NAMES, Resources, Vector, add, fits, from_vector, subtract

amount = st.integers(0, 10**9)
vectors: st.SearchStrategy[Vector] = st.tuples(amount, amount, amount, amount, amount)


def test_ten_tenths_of_a_cpu_are_one() -> None:
    room = Resources(cpus=1.0).vector
    for _ in range(10):
        assert fits(Resources(cpus=0.1).vector, room)
        room = subtract(room, Resources(cpus=0.1).vector)
    assert room == (0, 0, 0, 0, 0)


def test_names_are_in_the_order_of_the_vector() -> None:
    resources = Resources(cpus=1.5, mem=2, disk=3, gpus=4, ports=5)
    assert resources.vector == (1500, 2, 3, 4, 5)
    assert tuple(getattr(resources, name) for name in RESOURCE_NAMES) == (1.5, 2, 3, 4, 5)


@given(vectors)
def test_vectors_survive_the_way_there_and_back(vector: Vector) -> None:
    assert from_vector(vector).vector == vector


@given(vectors, vectors)
def test_adding_and_subtracting_undo_each_other(a: Vector, b: Vector) -> None:
    assert subtract(add(a, b), b) == a
    assert add(a, b) == add(b, a)


@given(vectors, vectors)
def test_what_fits_leaves_nothing_negative(need: Vector, room: Vector) -> None:
    assert fits(need, room) is (min(subtract(room, need)) >= 0)
    assert fits(need, add(need, room))
