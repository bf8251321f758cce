"""A prediction as a reservation that YARN's ResourceManager accepts.

The document is the body of ``POST /ws/v1/cluster/reservation/submit`` (a ``ReservationSubmissionRequest``). What the
ResourceManager checks is checked here first, so that a refusal comes with advice instead of as HTTP 400:

- All times are milliseconds: arrival and deadline since the epoch, durations and the period by themselves.
- The requests are read as ``R_ORDER_NO_GAP`` (3): one after the other without a pause, as the plan has them. YARN
  plans in steps of a second, so the arrival is rounded up and the deadline down to whole seconds.
- A request of no containers is not legal. A step of zero at the start makes the reservation arrive later. A step of
  zero in the middle reserves one gang of containers: a pause would break the order without gaps, and leaving the
  step out would move everything after it.
- The number of containers is a multiple of the gang size (``min-concurrency``), rounded up.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from .errors import InvalidInput
from .model import History, Prediction
from .skyline import FIRST, Amounts, Skyline

R_ORDER_NO_GAP = 3
"""Ordinal of YARN's ``ReservationRequestInterpreter``: REST wants the number."""

_SECOND = 1000
_SLACK = 1e-9  # relative: 2.9999999996 containers are three, not four


def container_of(history: History) -> dict[str, float]:
    """Size of a container of the newest run, in which to reserve: by resource the largest of its jobs'.

    Raises:
        InvalidInput: the history is empty.
    """
    if not history:
        raise InvalidInput("Job ResourceSkyline history", "empty")
    jobs = history[next(reversed(list(history)))]
    names = {name for job in jobs for name in job.container}
    return {name: max(job.container.get(name, 0.0) for job in jobs) for name in sorted(names)}


def reservation_request(
    prediction: Prediction,
    *,
    container: Amounts,
    arrival_ms: int,
    deadline_ms: int | None = None,
    recurrence_ms: int = 0,
    queue: str = "default",
    gang: int = 1,
    priority: int | None = None,
    name: str | None = None,
    reservation_id: str | None = None,
) -> dict[str, Any]:
    """The prediction as a ``ReservationSubmissionRequest``, JSON-able.

    Args:
        container: Size of one container (see :func:`container_of`): memory in MB, vcores.
        arrival_ms: When the run may start, epoch milliseconds.
        deadline_ms: By when it must have ended; if None, just late enough for the whole plan.
        recurrence_ms: The period of a recurring reservation; 0 reserves once.
        queue: A queue that YARN's reservation system manages.
        gang: Containers that must be given together (``min-concurrency``).
        priority: Of the reservation; left out if None.
        name: Name of the reservation; the pipeline's if None.
        reservation_id: What ``POST /ws/v1/cluster/reservation/new-reservation`` answered. YARN demands one; if None
            the field is left out and is to be added before the document is sent.

    Raises:
        InvalidInput: the plan is empty or needs more than memory and vcores, the container has no size, or a number
            makes no sense: the deadline is too early, the period too short.
    """
    size = _capability(prediction.skyline, container)
    _check(gang, recurrence_ms, queue)
    arrival = _rounded_up(arrival_ms + prediction.skyline.start * _SECOND)
    requests = [
        _request(seconds, containers, gang, size) for seconds, containers in _steps(prediction.skyline, size, gang)
    ]
    duration = sum(request["duration"] for request in requests)
    deadline = arrival + duration if deadline_ms is None else deadline_ms // _SECOND * _SECOND
    _check_times(arrival, deadline, duration, recurrence_ms)
    definition: dict[str, Any] = {
        "arrival": arrival,
        "deadline": deadline,
        "reservation-name": prediction.pipeline if name is None else name,
        "recurrence-expression": str(recurrence_ms),
        "reservation-requests": {
            "reservation-request-interpreter": R_ORDER_NO_GAP,
            "reservation-request": requests,
        },
    }
    if priority is not None:
        definition["priority"] = priority
    identity = {} if reservation_id is None else {"reservation-id": reservation_id}
    return {"queue": queue, **identity, "reservation-definition": definition}


def _capability(skyline: Skyline, container: Amounts) -> dict[str, int]:
    if skyline.is_empty:
        raise InvalidInput("Prediction", "empty", "it reserves nothing")
    further = [name for name in skyline.resources if name not in FIRST and skyline.column(name).any()]
    if further:
        raise InvalidInput(
            "Prediction",
            f"more than YARN's reservations know ({', '.join(further)})",
            "they hold memory and vcores only, so reserve the rest by other means",
        )
    size = {name: math.ceil(container.get(name, 0.0)) for name in FIRST}
    missing = [name for name in FIRST if skyline.column(name).any() and size[name] <= 0]
    if missing:
        raise InvalidInput("Container size", f"without {' and '.join(missing)}", "the plan needs some")
    return size


def _check(gang: int, recurrence_ms: int, queue: str) -> None:
    if gang < 1:
        raise InvalidInput("Gang size", f"{gang}", "at least one container")
    if recurrence_ms < 0:
        raise InvalidInput("Recurrence", f"{recurrence_ms} ms", "the period in milliseconds, or 0 to reserve once")
    if not queue:
        raise InvalidInput("Queue", "empty", "name a queue that YARN's reservation system manages")


def _check_times(arrival: int, deadline: int, duration: int, recurrence_ms: int) -> None:
    if deadline < arrival + duration:
        raise InvalidInput(
            "Deadline",
            f"{(arrival + duration - deadline) / _SECOND:g} s too early",
            f"the plan takes {duration / _SECOND:g} s from {arrival}, so not before {arrival + duration}",
        )
    if 0 < recurrence_ms < deadline - arrival:
        raise InvalidInput(
            "Recurrence",
            f"{recurrence_ms} ms, shorter than from arrival to deadline",
            f"at least {deadline - arrival} ms, or an earlier deadline",
        )


def _steps(skyline: Skyline, size: dict[str, int], gang: int) -> Iterator[tuple[int, int]]:
    """(seconds, containers), equal neighbours as one."""
    seconds, containers = 0, 0
    steps = skyline.steps()
    for (start, amounts), (end, _) in pairwise(steps):
        wanted = _containers(amounts, size, gang)
        if seconds and wanted != containers:
            yield seconds, containers
            seconds = 0
        seconds, containers = seconds + end - start, wanted
    yield seconds, containers


def _containers(amounts: Amounts, size: dict[str, int], gang: int) -> int:
    wanted = max(math.ceil(amounts[name] / size[name] * (1 - _SLACK)) for name in FIRST if size[name])
    return gang * max(1, -(-wanted // gang))


def _request(seconds: int, containers: int, gang: int, size: dict[str, int]) -> dict[str, Any]:
    return {
        "duration": seconds * _SECOND,
        "num-containers": containers,
        "min-concurrency": gang,
        "capability": {"memory": size["memory"], "vCores": size["vcores"]},
    }


def _rounded_up(milliseconds: int) -> int:
    return -(-milliseconds // _SECOND) * _SECOND
