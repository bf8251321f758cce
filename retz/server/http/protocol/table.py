"""The signed routes of the Retz protocol. ``/ping`` and ``/status`` stand with the other unsigned ones."""

from __future__ import annotations

from typing import Any

from ..routes import Answer, Parameter, Route
from . import applications, files, jobs, messages
from .answers import refusal

_ID = Parameter("id", {"type": "integer"}, "The job's id.", "path")
_PATH = Parameter("path", {"type": "string"}, "Relative to the sandbox.")
_PART = (
    _ID,
    _PATH,
    Parameter("offset", {"type": "integer", "minimum": 0}, "First byte."),
    Parameter("length", {"type": "integer", "minimum": -1}, "Bytes; -1 is all that fits an answer."),
)
_NAME = Parameter("name", {"type": "string", "minLength": 1}, "The application's name.", "path")
_APP = "/app/{name:.+}"
"""Old clients leave a slash within a name as it is."""
_FIRST = ("job", "jobs", "app", "apps")


def is_old(path: str) -> bool:
    """Whether an address, of a route or none, is one that only old clients ask for."""
    return path.lstrip("/").partition("/")[0] in _FIRST


def _route(
    method: str,
    path: str,
    handler: Any,
    summary: str,
    kind: Any,
    *parameters: Parameter,
    body: Any = None,
    status: int = 200,
) -> Route:
    return Route(
        method,
        path,
        handler,
        summary,
        parameters=parameters,
        body=body,
        answers={status: Answer(summary, kind)},
        refuse=refusal,
    )


ROUTES: tuple[Route, ...] = (
    _route("POST", "/jobs", jobs.list_jobs, "Jobs in a state.", messages.ListAnswer, body=messages.ListRequest),
    _route(
        "POST",
        "/job",
        jobs.schedule,
        "Submit a job.",
        messages.ScheduleAnswer,
        body=messages.ScheduleRequest,
        status=201,
    ),
    _route("GET", "/job/{id}", jobs.get_job, "One job.", messages.GetJobAnswer, _ID),
    _route("DELETE", "/job/{id}", jobs.kill, "Kill a job.", messages.KillAnswer, _ID),
    _route("GET", "/job/{id}/file", files.get_file, "Part of a file.", messages.GetFileAnswer, *_PART),
    _route("GET", "/job/{id}/download", files.download, "A file.", bytes, _ID, _PATH),
    _route("GET", "/job/{id}/dir", files.list_files, "A directory.", messages.ListFilesAnswer, _ID, _PATH),
    _route("GET", "/apps", applications.list_applications, "All applications.", messages.ListAppAnswer),
    _route(
        "PUT",
        _APP,
        applications.put_application,
        "Register an application.",
        messages.LoadAppAnswer,
        _NAME,
        body=messages.LoadAppRequest,
    ),
    _route("GET", _APP, applications.get_application, "One application.", messages.GetAppAnswer, _NAME),
    _route("DELETE", _APP, applications.delete_application, "Forget it.", messages.UnloadAppAnswer, _NAME),
)
