"""A prediction as YARN's reservation request: what the ResourceManager would check."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from estimator.errors import InvalidInput
from estimator.model import Prediction, RecurrenceId, ResourceSkyline
from estimator.reservation import R_ORDER_NO_GAP, container_of, reservation_request
from estimator.skyline import Skyline

CONTAINER = {"memory": 1024.0, "vcores": 1.0}
ARRIVAL = 1_700_000_000_000


def prediction(counts: list[int], interval: int = 5, pipeline: str = "tpch_q12") -> Prediction:
    rows = [[1024.0 * count, count] for count in counts]
    return Prediction(pipeline, Skyline.sampled(rows, interval), "fast", "allocated", {}, ("1", "2"))


def requests(document: dict[str, Any]) -> list[tuple[int, int]]:
    found = document["reservation-definition"]["reservation-requests"]["reservation-request"]
    return [(each["duration"], each["num-containers"]) for each in found]


def test_the_whole_document() -> None:
    document = reservation_request(
        prediction([1, 1, 1058, 2538, 2484]),
        container=CONTAINER,
        arrival_ms=ARRIVAL,
        deadline_ms=ARRIVAL + 60_000,
        recurrence_ms=86_400_000,
        queue="nightly",
        priority=3,
        reservation_id="reservation_1700000000000_0001",
    )
    assert json.loads(json.dumps(document)) == {
        "queue": "nightly",
        "reservation-id": "reservation_1700000000000_0001",
        "reservation-definition": {
            "arrival": ARRIVAL,
            "deadline": ARRIVAL + 60_000,
            "reservation-name": "tpch_q12",
            "recurrence-expression": "86400000",
            "priority": 3,
            "reservation-requests": {
                "reservation-request-interpreter": 3,
                "reservation-request": [
                    {"duration": duration, "num-containers": containers, "min-concurrency": 1,
                     "capability": {"memory": 1024, "vCores": 1}}
                    for duration, containers in [(10_000, 1), (5_000, 1058), (5_000, 2538), (5_000, 2484)]
                ],
            },
        },
    }  # fmt: skip


def test_without_a_deadline_it_fits_exactly_and_optional_fields_are_left_out() -> None:
    document = reservation_request(prediction([3, 4]), container=CONTAINER, arrival_ms=ARRIVAL + 1)
    definition = document["reservation-definition"]
    assert (definition["arrival"], definition["deadline"]) == (ARRIVAL + 1000, ARRIVAL + 11_000)  # YARN's step
    assert "priority" not in definition and "reservation-id" not in document
    assert definition["recurrence-expression"] == "0"


def test_a_pause_in_the_middle_holds_one_gang_and_one_at_the_start_arrives_later() -> None:
    plan = prediction([0, 0, 6, 0, 6, 0])
    document = reservation_request(plan, container=CONTAINER, arrival_ms=ARRIVAL, gang=2)
    assert document["reservation-definition"]["arrival"] == ARRIVAL + 10_000
    assert requests(document) == [(5000, 6), (5000, 2), (5000, 6)]


def test_containers_are_rounded_up_to_gangs_and_then_equal_neighbours_are_one() -> None:
    document = reservation_request(prediction([5, 6, 7]), container=CONTAINER, arrival_ms=ARRIVAL, gang=4)
    assert requests(document) == [(15_000, 8)]


def test_what_is_not_a_whole_number_of_containers_is_rounded_up() -> None:
    plan = Prediction("p", Skyline.of({0: {"memory": 2049, "vcores": 1}, 7: {}}), "fast", "used", {}, ("1",))
    assert requests(reservation_request(plan, container=CONTAINER, arrival_ms=0)) == [(7000, 3)]
    odd = {"memory": 1024.0, "vcores": 0.5}  # YARN's vcores are whole
    document = reservation_request(plan, container=odd, arrival_ms=0)
    first = document["reservation-definition"]["reservation-requests"]["reservation-request"][0]
    assert first["capability"] == {"memory": 1024, "vCores": 1}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"deadline_ms": ARRIVAL + 9_999}, "1 s too early"),
        ({"deadline_ms": ARRIVAL - 1}, "too early"),
        ({"recurrence_ms": 9_000}, "shorter than from arrival to deadline"),
        ({"recurrence_ms": -1}, "the period in milliseconds"),
        ({"gang": 0}, "at least one container"),
        ({"queue": ""}, "name a queue"),
        ({"container": {"memory": 1024.0}}, "without vcores"),
        ({"container": {}}, "without memory and vcores"),
    ],
)
def test_what_yarn_would_refuse_is_refused_here(options: dict[str, Any], says: str) -> None:
    arguments: dict[str, Any] = {"container": CONTAINER, "arrival_ms": ARRIVAL, **options}
    with pytest.raises(InvalidInput, match=says):
        reservation_request(prediction([1, 2]), **arguments)


def test_an_empty_plan_and_other_resources_are_refused() -> None:
    with pytest.raises(InvalidInput, match="reserves nothing"):
        reservation_request(prediction([]), container=CONTAINER, arrival_ms=0)
    gpus = Prediction("p", Skyline.of({0: {"gpus": 1}, 5: {}}), "fast", "allocated", {}, ("1",))
    with pytest.raises(InvalidInput, match="gpus"):
        reservation_request(gpus, container=CONTAINER, arrival_ms=0)


def test_the_container_is_the_largest_of_the_newest_run() -> None:
    def job(name: str, memory: float) -> ResourceSkyline:
        return ResourceSkyline(name, Skyline.empty(), container={"memory": memory, "vcores": 2.0})

    history = {RecurrenceId("p", "1"): [job("a", 9000)], RecurrenceId("p", "2"): [job("b", 1000), job("c", 2000)]}
    assert container_of(history) == {"memory": 2000.0, "vcores": 2.0}
    with pytest.raises(InvalidInput, match="empty"):
        container_of({})


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.integers(0, 50), min_size=1, max_size=20).filter(any),
    st.integers(1, 7),
    st.integers(0, 10**12),
)
def test_every_request_is_legal_and_covers_the_plan(counts: list[int], gang: int, arrival: int) -> None:
    plan = prediction(counts)
    document = reservation_request(plan, container=CONTAINER, arrival_ms=arrival, gang=gang)
    definition = document["reservation-definition"]
    assert definition["reservation-requests"]["reservation-request-interpreter"] == R_ORDER_NO_GAP
    steps = requests(document)
    assert all(containers > 0 and containers % gang == 0 for _, containers in steps)
    assert sum(duration for duration, _ in steps) == definition["deadline"] - definition["arrival"]
    time = plan.skyline.start
    for duration, containers in steps:
        for second in range(time, time + duration // 1000):
            assert containers * 1024 >= plan.skyline.at(second)["memory"]
        time += duration // 1000
    assert time == plan.skyline.end
