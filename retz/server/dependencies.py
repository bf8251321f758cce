"""``after`` of a submission: texts into jobs that exist and may be waited for.

====================  ================================================================
``"12"`` or ``12``    job 12 must end well
``"12:any"``          job 12 must end, no matter how
``"#0"``, ``"#0:any"``  the same for the first job of this very request
====================  ================================================================

A job may only name jobs that come before it, also within a request: so there are no cycles.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from msgspec.structs import replace

from retz.model.job import Job
from retz.model.submission import JobSpec

from .problem import FieldError, Problem

_TEXT = re.compile(r"(#?)([0-9]{1,16})(?::(ok|any))?")


def with_dependencies(
    jobs: list[Job], specs: Sequence[JobSpec], ids: Sequence[int], base: int, find: Callable[[int], Job | None]
) -> list[Job]:
    """The same jobs, waiting for what their specs say.

    Args:
        ids: Of all jobs of the request.
        base: Place of the first of ``jobs`` in the request.
        find: A job that the submitter may see, or None.

    Raises:
        Problem: ``unprocessable``; somebody else's job is refused exactly as one that does not exist.
    """
    if not any(spec.after for spec in specs):
        return jobs
    return [
        _waiting(job, spec.after, ids, base + number, find) if spec.after else job
        for number, (job, spec) in enumerate(zip(jobs, specs, strict=True))
    ]


def _waiting(
    job: Job, after: Sequence[int | str], ids: Sequence[int], place: int, find: Callable[[int], Job | None]
) -> Job:
    strict: dict[int, None] = {}
    loose: dict[int, None] = {}
    for number, text in enumerate(after):
        try:
            awaited, any_end = _awaited(str(text), ids, place, find)
        except ValueError as error:
            field = f"jobs[{place}].after[{number}]"
            raise Problem("unprocessable", f"{field}: {error}", [FieldError(field, str(error))]) from None
        (loose if any_end else strict)[awaited] = None
    return replace(job, after=tuple(strict), after_any=tuple(job_id for job_id in loose if job_id not in strict))


def _awaited(text: str, ids: Sequence[int], place: int, find: Callable[[int], Job | None]) -> tuple[int, bool]:
    match = _TEXT.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no job to wait for; write 12, 12:any, or #0 for the first job of this request")
    number, any_end = int(match[2]), match[3] == "any"
    if match[1]:
        if number >= place:
            raise ValueError(
                f"#{number} does not come before this job, #{place}: put the jobs into an order in which each waits for"
                " earlier ones only (if there is none, they wait for each other in a circle)"
            )
        return ids[number], any_end
    awaited = find(number)
    if awaited is None:
        raise ValueError(f"no such job: {number}")
    if awaited.array_id is not None:
        raise ValueError(f"job {number} is a task of array {awaited.array_id}: wait for the whole array")
    return number, any_end
