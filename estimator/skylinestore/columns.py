"""The jobs of a run as a compact JSON document: a skyline is one text of comma-separated numbers per column.

A text is copied as a whole where numbers would be parsed one by one, so that the runs of a file that nobody asks for
cost next to nothing: adding one run of 1 000 steps to 1 000 such runs takes a tenth of the time.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..model import ResourceSkyline
from ..skyline import FloatArray, Skyline


def jobs_to_document(jobs: Iterable[ResourceSkyline]) -> list[dict[str, Any]]:
    """The jobs of one run; :func:`jobs_from_document` gives back equal ones."""
    return [
        {
            "job": job.job_id,
            "submitted": job.submitted,
            "finished": job.finished,
            "input": job.input_size,
            "container": dict(job.container),
            "skyline": _columns(job.skyline),
            "used": None if job.used is None else _columns(job.used),
        }
        for job in jobs
    ]


def jobs_from_document(document: Sequence[Mapping[str, Any]]) -> list[ResourceSkyline]:
    """The inverse.

    Raises:
        ValueError, TypeError, KeyError, AttributeError: the document was not written by :func:`jobs_to_document`.
    """
    return [
        ResourceSkyline(
            job_id=str(job["job"]),
            skyline=_skyline(job["skyline"]),
            submitted=int(job["submitted"]),
            finished=int(job["finished"]),
            container={str(name): float(amount) for name, amount in job["container"].items()},
            input_size=float(job["input"]),
            used=None if job["used"] is None else _skyline(job["used"]),
        )
        for job in document
    ]


def _columns(skyline: Skyline) -> dict[str, Any]:
    return {
        "times": ",".join(map(str, skyline.times.tolist())),
        "values": {name: _text(skyline.column(name)) for name in skyline.resources},
    }


def _skyline(document: Mapping[str, Any]) -> Skyline:
    times = json.loads(f"[{document['times']}]")
    columns = document["values"]
    rows = zip(*(json.loads(f"[{text}]") for text in columns.values()), strict=True)
    return Skyline(times, list(rows), tuple(columns))


def _text(column: FloatArray) -> str:
    return ",".join(repr(int(value) if value.is_integer() else value) for value in column.tolist())
