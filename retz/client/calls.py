"""Requests of the native API as plain data: whatever a client sends is built here and nowhere else."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

API = "/api/v2"
FORECAST_PATIENCE_S = 60.0
"""A look ahead in a long queue takes some seconds, and another one may be under way."""
REPEATED = ("tag", "where")
"""Parameters of lists that stand once for each value."""


class Call(NamedTuple):
    """One request.

    Attributes:
        target: Percent-encoded path and query, as sent and as signed.
        repeat: Sending it twice has the effect of sending it once, so a lost answer is no reason to give up.
        patience_s: How long the server may rightly take to answer, on top of the usual time limit.
    """

    method: str
    target: str
    body: bytes = b""
    headers: Mapping[str, str] = {}
    repeat: bool = True
    patience_s: float = 0.0


def encode(value: object) -> bytes:
    """JSON as it is sent.

    Raises:
        ValueError: NaN, or text that is not valid Unicode.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"not valid UTF-8 text: {error.object[error.start : error.start + 20]!r}") from None


def _target(path: str, parameters: Mapping[str, object] | None = None) -> str:
    pairs = []
    for name, value in (parameters or {}).items():
        for item in value if isinstance(value, list | tuple) else (value,):
            if item is not None:
                pairs.append((name, str(item).lower() if isinstance(item, bool) else str(item)))
    return API + path + ("?" + urlencode(pairs, quote_via=quote) if pairs else "")


def submit(jobs: Sequence[Mapping[str, Any]], key: str) -> Call:
    """Submit jobs, all or none. The key makes a repetition harmless."""
    return Call("POST", _target("/jobs"), encode({"key": key, "jobs": jobs}))


def jobs(parameters: Mapping[str, object]) -> Call:
    """A window of the list; the names of docs/api.md. Lists are joined by commas, except ``tag`` and ``where``."""
    flat = {
        name: ",".join(map(str, value)) if isinstance(value, list | tuple) and name not in REPEATED else value
        for name, value in parameters.items()
    }
    return Call("GET", _target("/jobs", flat))


def job(job_id: int | str) -> Call:
    """One job; ``last`` is your newest."""
    return Call("GET", _target(f"/jobs/{job_id}"))


def why(job_id: int | str) -> Call:
    """Why a job stands where it stands."""
    return Call("GET", _target(f"/jobs/{job_id}/why"))


def eta(job_id: int | str) -> Call:
    """When a job starts and ends."""
    return Call("GET", _target(f"/jobs/{job_id}/eta"), patience_s=FORECAST_PATIENCE_S)


def etas(ids: str | None = None, limit: int | None = None) -> Call:
    """The same of many jobs: ``3-9,12``, or your own that run or wait."""
    return Call("GET", _target("/eta", {"ids": ids, "limit": limit}), patience_s=FORECAST_PATIENCE_S)


def plan(job: Mapping[str, Any]) -> Call:
    """What would become of a job if it were submitted."""
    return Call("POST", _target("/plan"), encode({"job": job}), patience_s=FORECAST_PATIENCE_S)


def usage(job_id: int | str, attempt: int | None = None) -> Call:
    """What a job used over time."""
    return Call("GET", _target(f"/jobs/{job_id}/usage", {"attempt": attempt}))


def wait(job_id: int | str, timeout_s: float) -> Call:
    """The job once it has ended, or as it is after ``timeout_s`` (at most 60)."""
    return Call("GET", _target(f"/jobs/{job_id}/wait", {"timeout_s": timeout_s}), patience_s=timeout_s)


def change(job_id: int, priority: int | None = None, held: bool | None = None) -> Call:
    """Change a queued job."""
    body = {name: value for name, value in (("priority", priority), ("held", held)) if value is not None}
    return Call("PATCH", _target(f"/jobs/{job_id}"), encode(body))


def kill(job_id: int) -> Call:
    """End a job."""
    return Call("DELETE", _target(f"/jobs/{job_id}"))


def many(
    action: str,
    *,
    ids: Iterable[int] | None = None,
    filter: Mapping[str, object] | None = None,
    priority: int | None = None,
    key: str | None = None,
) -> Call:
    """``kill``, ``hold``, ``release``, ``update`` or ``resubmit`` many jobs, by id or by filter."""
    body: dict[str, object] = {"filter": dict(filter)} if filter is not None else {"ids": list(ids or ())}
    if priority is not None:
        body["priority"] = priority
    if key is not None:
        body["key"] = key
    return Call("POST", _target(f"/jobs/{action}"), encode(body))


def files(job_id: int | str, path: str = "", attempt: int | None = None) -> Call:
    """A directory of the sandbox."""
    return Call("GET", _target(f"/jobs/{job_id}/files", {"path": path or None, "attempt": attempt}))


def file(
    job_id: int | str, path: str, *, attempt: int | None = None, offset: int = 0, length: int | None = None
) -> Call:
    """Bytes of a file of the sandbox; ``length`` None is up to the present end, a negative offset counts from there."""
    headers = {}
    if offset < 0:
        headers["Range"] = f"bytes={offset}"
    elif offset or length is not None:
        headers["Range"] = f"bytes={offset}-" + ("" if length is None else str(offset + length - 1))
    return Call("GET", _target(f"/jobs/{job_id}/file", {"path": path, "attempt": attempt}), b"", headers)


def follow(job_id: int | str, path: str, offset: int = 0, attempt: int | None = None) -> Call:
    """The bytes of a file as they are written, until the job has ended."""
    parameters = {"path": path, "follow": True, "offset": offset, "attempt": attempt}
    return Call("GET", _target(f"/jobs/{job_id}/file", parameters))


def applications() -> Call:
    """All your applications."""
    return Call("GET", _target("/applications"))


def application(name: str) -> Call:
    """One application."""
    return Call("GET", _target(f"/applications/{quote(name, safe='')}"))


def put_application(name: str, fields: Mapping[str, Any]) -> Call:
    """Make or replace an application."""
    return Call("PUT", _target(f"/applications/{quote(name, safe='')}"), encode(fields))


def delete_application(name: str) -> Call:
    """Remove an application."""
    return Call("DELETE", _target(f"/applications/{quote(name, safe='')}"))


def agents(parameters: Mapping[str, object] | None = None) -> Call:
    """The machines; the names of docs/api.md."""
    return Call("GET", _target("/agents", parameters))


def status() -> Call:
    """The queue at a glance."""
    return Call("GET", _target("/status"))


def queue(mode: str) -> Call:
    """``open``, ``paused`` or ``draining``."""
    return Call("PUT", _target("/queue"), encode({"mode": mode}))


def aggregates(since: str | None = None, until: str | None = None, step_s: int | None = None) -> Call:
    """Numbers over time; times are ISO-8601."""
    return Call("GET", _target("/aggregates", {"since": since, "until": until, "step_s": step_s}))


def users() -> Call:
    """All users; for administrators."""
    return Call("GET", _target("/users"))


def create_users(wanted: Sequence[Mapping[str, Any]]) -> Call:
    """Make users, all or none. Not repeated: a lost answer would leave users whose secrets nobody knows."""
    return Call("POST", _target("/users"), encode({"users": list(wanted)}), repeat=False)


def user(key: str) -> Call:
    """One user."""
    return Call("GET", _target(_user(key)))


def change_user(key: str, fields: Mapping[str, Any]) -> Call:
    """Change what a user may do, or what is known of them."""
    return Call("PATCH", _target(_user(key)), encode(fields))


def rotate_secret(key: str) -> Call:
    """Give a user a new secret. Not repeated, for the same reason."""
    return Call("POST", _target(_user(key) + "/secret"), repeat=False)


def _user(key: str) -> str:
    return f"/users/{quote(key, safe='')}"


USAGE_PATIENCE_S = 120.0
"""Millions of archived jobs take a while."""


def usage_report(since: str | None = None, until: str | None = None, user: str | None = None) -> Call:
    """Who used what in a time; times are ISO-8601."""
    parameters = {"since": since, "until": until, "user": user}
    return Call("GET", _target("/usage", parameters), patience_s=USAGE_PATIENCE_S)


def audit(since: str | None = None, until: str | None = None, limit: int | None = None) -> Call:
    """What administrators did; times are ISO-8601."""
    return Call("GET", _target("/audit", {"since": since, "until": until, "limit": limit}))


def gc(older_than_s: float | None = None, records: bool = False) -> Call:
    """Remove what ended jobs left."""
    return Call("POST", _target("/gc"), encode({"older_than_s": older_than_s, "records": records}))


SOLVE_PATIENCE_S = 300.0
"""A prediction from a large history may take a while."""


def pipelines(user: str | None = None) -> Call:
    """Your pipelines that have a history."""
    return Call("GET", _target("/pipelines", {"user": user}))


def pipeline(name: str, user: str | None = None, skylines: int | None = None) -> Call:
    """The runs of a pipeline, so many of the newest with their skylines."""
    return Call("GET", _target(_pipeline(name), {"user": user, "skylines": skylines}))


def delete_pipeline(name: str, run: str | None = None, user: str | None = None) -> Call:
    """Forget a pipeline's history, or one run of it."""
    path = _pipeline(name) + ("" if run is None else f"/runs/{quote(run, safe='')}")
    return Call("DELETE", _target(path, {"user": user}))


def sizes(name: str, user: str | None = None) -> Call:
    """What the jobs of a pipeline ask for, and what its past says they need."""
    return Call("GET", _target(f"{_pipeline(name)}/sizes", {"user": user}))


def sizes_plot(name: str, format: str, parameters: Mapping[str, object] | None = None) -> Call:
    """The same drawn: ``png``, ``svg``, ``pdf``, ``txt``."""
    return Call("GET", _target(f"{_pipeline(name)}/sizes.{format}", parameters), patience_s=SOLVE_PATIENCE_S)


def prediction(name: str, format: str | None = None, parameters: Mapping[str, object] | None = None) -> Call:
    """What the next run will need: as JSON, or drawn (``png``, ``svg``, ``pdf``, ``txt``)."""
    path = f"{_pipeline(name)}/prediction" + ("" if format is None else f".{format}")
    return Call("GET", _target(path, parameters), patience_s=SOLVE_PATIENCE_S)


def _pipeline(name: str) -> str:
    return f"/pipelines/{quote(name, safe='')}"


def events(since: int | None = None, user: str | None = None) -> Call:
    """The stream of changes after a sequence number; None begins now."""
    return Call("GET", _target("/events", {"since": since, "user": user}), b"", {"Accept": "text/event-stream"})
