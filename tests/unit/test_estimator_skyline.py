"""Skylines against a naive model that holds a value for every moment, and the original's own tests."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from estimator.skyline import MAX_AMOUNT, MAX_RESOURCES, MAX_TIME, FloatArray, Operation, Skyline, ordered, total

NAMES = ("memory", "vcores", "gpus")
LOW, HIGH = -15, 45
MOMENTS = range(LOW, HIGH)
few = settings(max_examples=60, deadline=None)

amounts = st.one_of(st.integers(0, 5).map(float), st.integers(0, 3_000_000).map(lambda micros: micros / 1e6))
vectors = st.tuples(amounts, amounts, amounts)


@dataclass(frozen=True)
class Case:
    """A skyline, and its values at every moment: ``float64[len(MOMENTS), 3]``."""

    skyline: Skyline
    dense: FloatArray


@st.composite
def cases(draw: st.DrawFn) -> Case:
    intervals = draw(st.lists(st.tuples(st.integers(-8, 30), st.integers(0, 10), vectors), max_size=6))
    dense = np.zeros((len(MOMENTS), 3))
    for start, length, vector in intervals:
        dense[start - LOW : start + length - LOW] += vector
    skyline = Skyline.from_intervals(
        [start for start, _, _ in intervals],
        [start + length for start, length, _ in intervals],
        np.array([vector for _, _, vector in intervals]).reshape(-1, 3),
        NAMES,
    )
    return Case(skyline, dense)


def dense_of(skyline: Skyline) -> FloatArray:
    return np.array([[skyline.at(time).get(name, 0.0) for name in NAMES] for time in MOMENTS])


def close(skyline: Skyline, dense: FloatArray) -> None:
    """The skyline has these values everywhere, and is canonical."""
    np.testing.assert_allclose(dense_of(skyline), dense, atol=5e-7)
    assert len(skyline.times) != 1
    assert (np.diff(skyline.times) > 0).all()
    if len(skyline.times):
        before = np.vstack([np.zeros(skyline.values.shape[1]), skyline.values])
        assert (np.diff(before, axis=0) != 0).any(axis=1).all()
        assert not skyline.values[-1].any()
        assert not np.signbit(skyline.values[skyline.values == 0]).any()


@few
@given(cases())
def test_a_sum_of_intervals(case: Case) -> None:
    close(case.skyline, case.dense)
    assert case.skyline.is_empty == (not case.dense.any())


OPERATIONS: dict[Operation, Callable[[FloatArray, FloatArray], FloatArray]] = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "min": np.minimum,
    "max": np.maximum,
}
limits = st.none() | st.integers(LOW + 1, HIGH - 1)


@few
@given(cases(), cases(), st.sampled_from(sorted(OPERATIONS)), limits, limits)
def test_merging(one: Case, two: Case, operation: Operation, start: int | None, end: int | None) -> None:
    merged = OPERATIONS[operation](one.dense, two.dense)
    first, last = LOW if start is None else start, HIGH if end is None else end
    outside = [not first <= time < last for time in MOMENTS]
    merged[outside] = 0.0
    close(one.skyline.merge(two.skyline, operation, start, end), merged)


@few
@given(cases(), cases())
def test_operators_are_inverse(one: Case, two: Case) -> None:
    close(one.skyline + two.skyline, one.dense + two.dense)
    close(one.skyline - two.skyline, one.dense - two.dense)
    close(one.skyline + two.skyline - two.skyline, one.dense)
    assert (one.skyline - one.skyline).is_empty


@few
@given(cases(), st.integers(-8, 30), st.integers(0, 10), vectors)
def test_adding_and_removing_an_interval(case: Case, start: int, length: int, vector: tuple[float, ...]) -> None:
    more = case.dense.copy()
    more[start - LOW : start + length - LOW] += vector
    named = dict(zip(NAMES, vector, strict=True))
    added = case.skyline.add(start, start + length, named)
    close(added, more)
    close(added.remove(start, start + length, named), case.dense)


@few
@given(st.lists(cases(), max_size=4))
def test_a_total(several: list[Case]) -> None:
    close(total(case.skyline for case in several), sum((case.dense for case in several), np.zeros((len(MOMENTS), 3))))


@few
@given(cases(), limits, limits)
def test_between(case: Case, start: int | None, end: int | None) -> None:
    first, last = LOW if start is None else start, HIGH if end is None else end
    inside = np.array([[first <= time < last] for time in MOMENTS])
    close(case.skyline.between(start, end), np.where(inside, case.dense, 0.0))


@few
@given(cases(), st.integers(-6, 4))
def test_shifting(case: Case, by: int) -> None:
    close(case.skyline.shift(by), np.roll(case.dense, by, axis=0))
    assert case.skyline.shift(by).shift(-by) == case.skyline


@few
@given(cases())
def test_peak_integral_start_end(case: Case) -> None:
    peak, integral = case.skyline.peak(), case.skyline.integral()
    for index, name in enumerate(NAMES):
        assert peak[name] == pytest.approx(case.dense[:, index].max(), abs=1e-6)
        assert integral[name] == pytest.approx(case.dense[:, index].sum(), abs=1e-4)
    held = [time for time, row in zip(MOMENTS, case.dense, strict=True) if row.any()]
    expected = (held[0], held[-1] + 1) if held else (0, 0)
    assert (case.skyline.start, case.skyline.end) == expected
    assert case.skyline.duration == expected[1] - expected[0]


@few
@given(cases(), st.integers(1, 9), st.none() | st.integers(-14, 20), st.none() | st.integers(0, 5))
def test_samples(case: Case, interval: int, origin: int | None, count: int | None) -> None:
    begin = case.skyline.start if origin is None else origin
    number = max(0, -(-(case.skyline.end - begin) // interval)) if count is None else count
    padded = np.vstack([case.dense, np.zeros((60, 3))])
    pieces = [padded[begin - LOW + k * interval : begin - LOW + (k + 1) * interval] for k in range(number)]
    peaks = case.skyline.sample(interval, origin=origin, count=count)
    means = case.skyline.sample(interval, how="mean", origin=origin, count=count)
    assert peaks.shape == means.shape == (number, 3)
    for piece, peak, mean in zip(pieces, peaks, means, strict=True):
        np.testing.assert_allclose(peak, piece.max(axis=0), atol=1e-6)
        np.testing.assert_allclose(mean, piece.mean(axis=0), atol=1e-6)


@few
@given(cases(), st.integers(1, 9))
def test_peaks_of_coarser_units(case: Case, unit: int) -> None:
    expected: dict[int, FloatArray] = {}
    for time, row in zip(MOMENTS, case.dense, strict=True):
        expected[time // unit] = np.maximum(expected.get(time // unit, np.zeros(3)), row)
    coarse = case.skyline.coarsened(unit)
    for time, row in expected.items():
        np.testing.assert_allclose([coarse.at(time).get(name, 0.0) for name in NAMES], row, atol=1e-6)


@few
@given(st.lists(vectors, max_size=6), st.integers(1, 5), st.integers(-5, 5))
def test_of_samples(rows: list[tuple[float, ...]], interval: int, start: int) -> None:
    dense = np.zeros((len(MOMENTS), 3))
    for k, row in enumerate(rows):
        dense[start + k * interval - LOW : start + (k + 1) * interval - LOW] = row
    skyline = Skyline.sampled(np.array(rows).reshape(-1, 3), interval, NAMES, start)
    close(skyline, dense)
    if rows:
        np.testing.assert_array_equal(skyline.sample(interval, origin=start, count=len(rows)), rows)


@few
@given(cases())
@example(Case(Skyline.empty(), np.zeros((len(MOMENTS), 3))))
def test_json_and_steps_round_trip(case: Case) -> None:
    document = case.skyline.to_json()
    read = Skyline.from_json(json.loads(json.dumps(document)))
    assert read == case.skyline
    assert json.dumps(read.to_json()) == json.dumps(document)
    assert [int(time) for time in document["resourceAllocation"]] == case.skyline.times.tolist()
    assert Skyline.of(dict(case.skyline.steps())) == case.skyline


def test_json_is_the_originals() -> None:
    skyline = Skyline.of({0: {"memory": 1024, "vcores": 1}, 10: {"memory": 1536, "vcores": 1.5}, 25: {}})
    assert json.dumps(skyline.to_json()) == (
        '{"resourceAllocation": {"0": {"memory": 1024, "vcores": 1}, '
        '"10": {"memory": 1536, "vcores": 1.5}, "25": {"memory": 0, "vcores": 0}}}'
    )
    assert Skyline.empty().to_json() == {"resourceAllocation": {}}
    assert Skyline.empty(("memory", "vcores", "gpus")).to_json() == {"resourceAllocation": {}}


def step(memory: Any) -> dict[str, Any]:
    return {"resourceAllocation": {"0": {"memory": memory, "vcores": 1}, "5": {"memory": 0, "vcores": 0}}}


@pytest.mark.parametrize(
    ("document", "says"),
    [
        (None, "a skyline is an object"),
        ([], "a skyline is an object"),
        ({}, "a skyline is an object"),
        ({"resourceAllocation": []}, "a skyline is an object"),
        ({"resourceAllocation": {"0": 5}}, "give amounts as an object"),
        ({"resourceAllocation": {"x": {}}}, "is not a time"),
        ({"resourceAllocation": {"": {}}}, "is not a time"),
        ({"resourceAllocation": {"1.5": {}}}, "is not a time"),
        ({"resourceAllocation": {"--1": {}}}, "is not a time"),
        ({"resourceAllocation": {"١": {}}}, "is not a time"),
        ({"resourceAllocation": {"9" * 30: {}}}, "is not a time"),
        ({"resourceAllocation": {"0": {"memory": 1}, "9007199254740993": {}}}, "a time beyond"),
        ({"resourceAllocation": {"0": {"memory": 1}}}, "last step .* must be zero"),
        ({"resourceAllocation": {"0": {"memory": 1}, "00": {}}}, "twice"),
        (step(-1), "memory is -1"),
        (step(float("nan")), "memory is nan"),
        (step(float("inf")), "memory is inf"),
        (step(2**53 + 1), "memory is 9007199254740993"),
        (step(2**70), "memory is"),
        (step("7"), "memory is 7"),
        (step(True), "memory is True"),
        (step(None), "memory is None"),
        (step([]), r"memory is \[\]"),
        ({"resourceAllocation": {"0": {f"r{i}": 1 for i in range(MAX_RESOURCES + 1)}, "5": {}}}, "resources; at most"),
    ],
)
def test_json_that_makes_no_sense_is_refused(document: object, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Skyline.from_json(document)


def test_many_resource_names_cost_no_memory() -> None:
    """A column for each of 20 000 names over 20 000 steps would be 3 GB."""
    steps = {str(time): {f"resource {time}": 1} for time in range(20_000)}
    with pytest.raises(ValueError, match="20000 resources"):
        Skyline.from_json({"resourceAllocation": steps})


def test_arrays_are_brought_to_canonical_form() -> None:
    skyline = Skyline([0, 1, 2, 3, 4, 5], [[0, 0], [7, 1], [7, 1], [0, 0], [0, 0], [0, 0]], ("vcores", "memory"))
    assert skyline.resources == ("memory", "vcores")
    assert skyline.steps() == [(1, {"memory": 1.0, "vcores": 7.0}), (3, {"memory": 0.0, "vcores": 0.0})]


def test_what_makes_no_skyline_is_refused() -> None:
    with pytest.raises(ValueError, match="ascend"):
        Skyline([3, 3], [[1, 1], [0, 0]])
    with pytest.raises(ValueError, match="last step"):
        Skyline([0, 3], [[1, 1], [0, 1]])
    with pytest.raises(ValueError, match="columns"):
        Skyline([0, 3], [[1], [0]])
    with pytest.raises(ValueError, match="columns"):
        Skyline([0, 3], [[1, 1], [0, 0]], ("memory", "memory"))
    with pytest.raises(ValueError, match="not a number"):
        Skyline.interval(0, 1, {"memory": float("nan")})
    with pytest.raises(ValueError, match="beyond"):
        Skyline.interval(0, 1, {"memory": MAX_AMOUNT * 2})
    for end in (MAX_TIME + 1, 2**63, 2**80):
        with pytest.raises(ValueError, match="a time beyond"):
            Skyline.interval(0, end, {"memory": 1})
    with pytest.raises(ValueError, match="ends at 4, before its start at 5"):
        Skyline.interval(5, 4, {"memory": 1})
    with pytest.raises(ValueError, match="2 starts but 1 ends"):
        Skyline.from_intervals([1, 2], [3], [1, 1])
    with pytest.raises(ValueError, match="must be zero"):
        Skyline.of({0: {"memory": 1}})


def test_sampling_refuses_what_would_fill_the_memory() -> None:
    long = Skyline.interval(0, MAX_TIME, {"memory": 1})
    with pytest.raises(ValueError, match="choose a longer interval"):
        long.sample(5)
    assert long.sample(5, count=3).tolist() == [[1.0, 0.0]] * 3
    with pytest.raises(ValueError, match="must be positive"):
        long.sample(0)


def test_fractions_leave_no_rests() -> None:
    skyline = Skyline.from_intervals([0, 1, 2], [3, 4, 5], [[0, 0.1], [0, 0.2], [0, 0.3]])
    assert [values["vcores"] for _, values in skyline.steps()] == [0.1, 0.3, 0.6, 0.5, 0.3, 0.0]
    huge = Skyline.from_intervals([0, 1], [3, 4], [[1e15, 0], [0.1, 0]])
    assert (huge.start, huge.end) == (0, 4)
    # the huge one goes first, and what it rounded away must not stay
    assert Skyline.from_intervals([1, 0], [2, 3], [[1e15, 0], [0.1, 0]]).end == 3


def test_zero_resources_make_no_difference() -> None:
    plain = Skyline.interval(0, 5, {"memory": 1, "vcores": 2})
    wide = plain.with_resources(("gpus", "disk"))
    assert wide.resources == ("memory", "vcores", "disk", "gpus")
    assert wide == plain
    assert plain != Skyline.interval(0, 5, {"memory": 1, "vcores": 2, "gpus": 1})
    assert plain != "a skyline"
    assert plain.with_resources(("memory",)) is plain
    assert plain.column("gpus").tolist() == [0.0, 0.0]


def test_a_skyline_is_never_changed() -> None:
    skyline = Skyline.interval(0, 5, {"memory": 1})
    for array in (skyline.times, skyline.values):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    times, values = np.array([0, 5]), np.array([[1.0, 1.0], [0.0, 0.0]])
    made = Skyline(times, values)
    times[0], values[0] = 3, 9.0
    assert made.steps() == [(0, {"memory": 1.0, "vcores": 1.0}), (5, {"memory": 0.0, "vcores": 0.0})]


def test_names_in_order() -> None:
    assert ordered(["gpus", "vcores", "disk", "gpus"]) == ("memory", "vcores", "disk", "gpus")
    assert repr(Skyline.interval(0, 1, {"memory": 1})).startswith("Skyline.of({0: {'memory': 1.0")


# -- the original's TestResourceSkyline --------------------------------------------------------------------------


def test_two_intervals_one_after_the_other() -> None:
    skyline = Skyline.empty().add(10, 20, {"memory": 102400, "vcores": 100})
    skyline = skyline.add(20, 30, {"memory": 204800, "vcores": 200})
    assert skyline.at(9) == skyline.at(30) == {"memory": 0.0, "vcores": 0.0}
    for time in range(10, 20):
        assert skyline.at(time) == {"memory": 102400.0, "vcores": 100.0}
    for time in range(20, 30):
        assert skyline.at(time) == {"memory": 204800.0, "vcores": 200.0}


def test_one_interval_survives() -> None:
    """The original's solver lost skylines that were made by one addition."""
    skyline = Skyline.empty().add(5, 10, {"memory": 1024, "vcores": 1})
    assert Skyline.from_json(skyline.to_json()) == skyline
    assert skyline.sample(5).tolist() == [[1024.0, 1.0]]
