"""The synchronous client."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self, TypeVar

import msgspec

from retz.config import ClientConfig
from retz.model.submission import JobSpec

from . import calls, types
from .calls import Call
from .efficiency import Report
from .errors import ApiError, ConnectionLost, RetzError
from .follow import Follow, drive
from .lean import httpx
from .retry import Backoff, new_key
from .shared import (
    LONG_POLL_S,
    PAGE,
    RANGE_NOT_SATISFIABLE,
    Command,
    check,
    configured,
    decoded,
    event_of,
    http_options,
    range_of,
    request_options,
    specification,
    translated,
)
from .sse import Subscription
from .transport import EVENT_SILENCE_S

T = TypeVar("T")


class Client:
    """A connection to a Retz server. Use it in ``with``, or close it.

    Lost connections are borne for ``retz.server.retry``: submission keys make that safe.
    All methods raise :class:`retz.client.ApiError` when the server refuses, :class:`retz.client.NoServer` when
    none answers.

    Args:
        config: None takes what environment and files say, as the command line does.
        uri, key, secret: Win over that.
        transport: For tests: what httpx sends with.
    """

    def __init__(
        self,
        config: ClientConfig | None = None,
        *,
        uri: str | None = None,
        key: str | None = None,
        secret: str | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.config = configured(config, uri, key, secret)
        self._http = httpx.Client(**http_options(self.config), transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Drop the connections."""
        self._http.close()

    def submit(self, command: Command | JobSpec | Mapping[str, Any], *, key: str | None = None, **fields: Any) -> int:
        """Submit one job; return its id, once it is safe on the server's disk.

        Args:
            command: A shell line, a sequence of program and arguments, or a JobSpec or mapping with everything.
            key: Submission key; repeating it returns the same job. None makes a fresh one.
            fields: ``cpus``, ``mem``, ``disk``, ``gpus``, ``ports`` and the fields of docs/api.md.
        """
        return self.submit_many([specification(command, fields)], key=key).ids[0]

    def submit_many(
        self, jobs: Iterable[Command | JobSpec | Mapping[str, Any]], *, key: str | None = None, **fields: Any
    ) -> types.Submitted:
        """Submit many jobs in one request, all or none; ``fields`` are set on each."""
        bodies = [specification(job, fields) for job in jobs]
        return self._get(calls.submit(bodies, key or new_key()), types.Submitted)

    def run(self, command: Command | JobSpec | Mapping[str, Any], **fields: Any) -> types.Job:
        """Submit one job and wait for its end."""
        return self.wait(self.submit(command, **fields))

    def list(self, *, limit: int = 100, offset: int = 0, cursor: str | None = None, **filters: Any) -> types.Window:
        """Return one window of the list; filters as in docs/api.md (``state``, ``tag``, ``text``, ...)."""
        return self._get(
            calls.jobs({**filters, "limit": limit, "offset": offset or None, "cursor": cursor}), types.Window
        )

    def jobs(self, **filters: Any) -> Iterator[types.Job]:
        """Iterate over all jobs that match, page by page."""
        cursor: str | None = None
        while True:
            window = self.list(limit=PAGE, cursor=cursor, **filters)
            yield from window.jobs
            cursor = window.next
            if cursor is None:
                return

    def efficiency(self, most: int = 1000, **filters: Any) -> Report:
        """Return what ended jobs used of what they asked for: the worst ``most`` of those that match, and the total."""
        report = Report(most)
        for job in self.jobs(**{"state": "ENDED", **filters}):
            report.add(msgspec.to_builtins(job))
        return report

    def job(self, job_id: int | str) -> types.Job:
        """Return one job; ``last`` is your newest."""
        return self._get(calls.job(job_id), types.Job)

    def why(self, job_id: int | str) -> types.Why:
        """Return why a job stands where it stands."""
        return self._get(calls.why(job_id), types.Why)

    def eta(self, job_id: int | str) -> types.Eta:
        """Return when a job starts and ends."""
        return self._get(calls.eta(job_id), types.Eta)

    def etas(self, ids: str | None = None, *, limit: int | None = None) -> types.Etas:
        """Return the same of many jobs: ``"3-9,12"``, or None for your own that run or wait."""
        return self._get(calls.etas(ids, limit), types.Etas)

    def plan(self, command: Command | JobSpec | Mapping[str, Any], **fields: Any) -> types.Plan:
        """Return what would become of a job or array if submitted; nothing is. Arguments as for :meth:`submit`."""
        return self._get(calls.plan(specification(command, fields)), types.Plan)

    def usage(self, job_id: int | str, *, attempt: int | None = None) -> types.Series:
        """Return what a job's latest attempt, or another one, used over time."""
        return self._get(calls.usage(job_id, attempt), types.Series)

    def wait(self, job_id: int | str, timeout_s: float | None = None) -> types.Job:
        """Return the job once it has ended, or as it is after ``timeout_s``."""
        end = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            left = LONG_POLL_S if end is None else max(0.0, min(LONG_POLL_S, end - time.monotonic()))
            job = self._get(calls.wait(job_id, left), types.Job, patient=True)
            if job.over or (end is not None and time.monotonic() >= end):
                return job
            job_id = job.id

    def update(self, job_id: int, *, priority: int | None = None, held: bool | None = None) -> types.Job:
        """Change a queued job."""
        return self._get(calls.change(job_id, priority, held), types.Job)

    def hold(self, job_id: int) -> types.Job:
        """Keep a queued job from being started."""
        return self.update(job_id, held=True)

    def release(self, job_id: int) -> types.Job:
        """Let a held job be started again."""
        return self.update(job_id, held=False)

    def kill(self, job_id: int) -> types.Job:
        """End a job; returns once that is durable. A running one may live on for its grace period."""
        return self._get(calls.kill(job_id), types.Job)

    def kill_many(self, ids: Iterable[int] | None = None, **filters: Any) -> types.Results:
        """End many jobs, by id or by filter."""
        return self.many("kill", ids, **filters)

    def many(
        self, action: str, ids: Iterable[int] | None = None, *, priority: int | None = None, **filters: Any
    ) -> types.Results:
        """``kill``, ``hold``, ``release`` or ``update`` many jobs, by id or by filter."""
        call = calls.many(action, ids=ids, filter=None if ids is not None else filters, priority=priority)
        return self._get(call, types.Results)

    def resubmit(self, job_id: int, *, key: str | None = None) -> int:
        """Submit a job again, as it was; return the new id."""
        call = calls.many("resubmit", ids=[job_id], key=key or new_key())
        return new_id(self._get(call, types.Results))

    def files(self, job_id: int | str, path: str = "", *, attempt: int | None = None) -> tuple[types.FileEntry, ...]:
        """Return a directory of the job's sandbox."""
        return self._get(calls.files(job_id, path, attempt), types.Listing).entries

    def read_file(
        self,
        job_id: int | str,
        path: str = "stdout",
        *,
        attempt: int | None = None,
        offset: int = 0,
        length: int | None = None,
    ) -> bytes:
        """Return a file of the sandbox, or a range of it."""
        return self._send(calls.file(job_id, path, attempt=attempt, offset=offset, length=length))

    def read_range(
        self,
        job_id: int | str,
        path: str = "stdout",
        *,
        attempt: int | None = None,
        offset: int = 0,
        length: int | None = None,
    ) -> types.FileRange:
        """Return a range of a file, and how large the file is.

        Args:
            offset: A negative one counts from the end, and reads on to it. A range that begins past the end is empty.
        """
        call = calls.file(job_id, path, attempt=attempt, offset=offset, length=length)
        return range_of(self._answer(call))

    def follow_file(self, job_id: int | str, path: str = "stdout", *, offset: int = 0) -> Iterator[bytes]:
        """Yield a file's bytes as they are written, across restarts of the server, until the job has ended."""
        state = Follow(job_id, path, offset)

        def connect() -> Call:
            return drive(state.connect(), self._json)

        for data in self._stream(connect, None, lambda: state.is_over(self._json(state.over()))):
            state.received(len(data))
            yield data

    def download(self, job_id: int | str, path: str, target: Path, *, attempt: int | None = None) -> int:
        """Write a file of the sandbox to ``target``; return its size. A broken connection goes on where it was."""
        done = 0

        def connect() -> Call:
            return calls.file(job_id, path, attempt=attempt, offset=done)

        with target.open("wb") as out:
            for data in self._stream(connect, self.config.server_timeout, lambda: True):
                done += out.write(data)
        return done

    def applications(self) -> tuple[types.Application, ...]:
        """Return all your applications."""
        return self._get(calls.applications(), types.Applications).applications

    def application(self, name: str) -> types.Application:
        """Return one application."""
        return self._get(calls.application(name), types.Application)

    def put_application(self, name: str, **fields: Any) -> types.Application:
        """Make or replace an application; fields as in docs/api.md."""
        return self._get(calls.put_application(name, fields), types.Application)

    def delete_application(self, name: str) -> None:
        """Remove an application that no live job uses."""
        self._send(calls.delete_application(name))

    def pipelines(self, *, user: str | None = None) -> tuple[types.Pipeline, ...]:
        """Return your pipelines that have a history; an administrator may name another user."""
        return self._get(calls.pipelines(user), types.Pipelines).pipelines

    def pipeline(self, name: str, *, user: str | None = None, skylines: int | None = None) -> types.History:
        """Return the runs of a pipeline, so many of the newest with their skylines."""
        return self._get(calls.pipeline(name, user, skylines), types.History)

    def delete_pipeline(self, name: str, run: str | None = None) -> None:
        """Forget a pipeline's history, or one run of it."""
        self._send(calls.delete_pipeline(name, run))

    def sizes(self, name: str, *, user: str | None = None) -> types.Sizes:
        """Return what the jobs of a pipeline ask for, and what its past says they need.

        Raises:
            ApiError: 404, nothing is known of it.
        """
        return self._get(calls.sizes(name, user), types.Sizes)

    def sizes_plot(self, name: str, format: str = "png", **parameters: object) -> bytes:
        """Return the same as a picture: ``png``, ``svg``, ``pdf``, or ``txt`` for a terminal.

        Raises:
            ApiError: 404 as :meth:`sizes`; 422, too few runs were measured.
        """
        return self._send(calls.sizes_plot(name, format, parameters))

    def prediction(self, name: str, **parameters: object) -> types.Prediction:
        """Return what the next run will need.

        Args:
            parameters: ``solver``, ``alpha``, ``beta``, ``interval``, ``kind``, ``user`` as in docs/api.md.

        Raises:
            ApiError: 422, there are too few runs so far; 404, there is none.
        """
        return self._get(calls.prediction(name, None, parameters), types.Prediction)

    def prediction_plot(self, name: str, format: str = "png", **parameters: object) -> bytes:
        """Return the same as a picture: ``png``, ``svg``, ``pdf``, or ``txt`` for a terminal; ``resource`` too."""
        return self._send(calls.prediction(name, format, parameters))

    def agents(self, **parameters: object) -> tuple[types.Agent, ...]:
        """Return the machines; parameters as in docs/api.md (``text``, ``sort``, ``usage``, ...)."""
        return self._get(calls.agents(parameters), types.Agents).agents

    def agents_window(self, *, limit: int = 100, offset: int = 0, **filters: object) -> types.Agents:
        """Return one window of the machines, how many there are, and their sums."""
        return self._get(calls.agents({**filters, "limit": limit, "offset": offset or None}), types.Agents)

    def status(self) -> types.Status:
        """Return the queue at a glance."""
        return self._get(calls.status(), types.Status)

    def queue(self, mode: str) -> types.QueueMode:
        """Set the queue ``open``, ``paused`` or ``draining``; for administrators."""
        return self._get(calls.queue(mode), types.QueueMode)

    def aggregates(
        self, since: str | None = None, until: str | None = None, step_s: int | None = None
    ) -> types.Aggregates:
        """Return numbers over time; times are ISO-8601."""
        return self._get(calls.aggregates(since, until, step_s), types.Aggregates)

    def users(self) -> tuple[types.User, ...]:
        """Return all users; this and the methods down to :meth:`gc` are for administrators."""
        return self._get(calls.users(), types.Users).users

    def create_user(self, info: str = "", *, admin: bool = False, unix_user: str | None = None) -> types.User:
        """Make a user; the answer has their secret, which nobody is told again."""
        return self.create_users([{"info": info, "admin": admin, "unix_user": unix_user}])[0]

    def create_users(self, wanted: Iterable[Mapping[str, Any]]) -> tuple[types.User, ...]:
        """Make users, all or none, of ``info``, ``admin`` and ``unix_user``."""
        return self._get(calls.create_users([dict(each) for each in wanted]), types.Users).users

    def user(self, key: str) -> types.User:
        """Return one user."""
        return self._get(calls.user(key), types.User)

    def change_user(self, key: str, **fields: Any) -> types.User:
        """Change ``enabled``, ``admin``, ``info`` or ``unix_user`` of a user."""
        return self._get(calls.change_user(key, fields), types.User)

    def rotate_secret(self, key: str) -> types.User:
        """Give a user a new secret and return it; what was signed with the old one is refused from then on."""
        return self._get(calls.rotate_secret(key), types.User)

    def usage_report(
        self, since: str | None = None, until: str | None = None, *, user: str | None = None
    ) -> types.UsageReport:
        """Return who used what, by default in the last week; you, or for administrators ``user``, ``*`` for all."""
        return self._get(calls.usage_report(since, until, user), types.UsageReport)

    def audit(
        self, since: str | None = None, until: str | None = None, limit: int | None = None
    ) -> tuple[types.AuditRecord, ...]:
        """Return what administrators did, the newest ``limit`` of it, oldest first."""
        return self._get(calls.audit(since, until, limit), types.AuditRecords).records

    def gc(self, older_than_s: float | None = None, *, records: bool = False) -> types.Cleared:
        """Remove sandboxes, with ``records`` archived records too, of jobs that ended longer ago."""
        return self._get(calls.gc(older_than_s, records), types.Cleared)

    def events(self, since: int | None = None, *, user: str | None = None) -> Iterator[types.Event]:
        """Yield changes for ever, across restarts of the server, none missed: after ``reset`` load again."""
        subscription = Subscription(since, user)
        for data in self._stream(subscription.connect, EVENT_SILENCE_S, lambda: False):
            for raw in subscription.feed(data):
                yield event_of(raw)

    def _get(self, call: Call, into: type[T], patient: bool = False) -> T:
        return decoded(self._send(call, patient), into)

    def _json(self, call: Call) -> Any:
        return msgspec.json.decode(self._send(call, True))

    def _send(self, call: Call, patient: bool = False) -> bytes:
        response = self._answer(call, patient)
        check(response.status_code, response.content)
        return response.content

    def _answer(self, call: Call, patient: bool = False) -> httpx.Response:
        backoff = Backoff(self.config.server_retry, None if patient else self.config.server_retry)
        while True:
            try:
                return self._answer_once(call)
            except RetzError as error:
                self._pause(backoff, error, call)

    def _answer_once(self, call: Call) -> httpx.Response:
        try:
            response = self._http.request(**request_options(call, self.config))
        except httpx.TransportError as error:
            raise translated(error, self.config.server_uri) from error
        if response.status_code != RANGE_NOT_SATISFIABLE:  # tells the file's size
            check(response.status_code, response.content)
        return response

    def _pause(self, backoff: Backoff, error: RetzError, call: Call) -> None:
        """Wait before the next try.

        Raises:
            RetzError: the error, if there is none.
        """
        delay = backoff.delay_after(error, call)
        if delay is None:
            raise error
        time.sleep(delay)

    def _stream(
        self, connect: Callable[[], Call], silence_s: float | None, is_over: Callable[[], bool]
    ) -> Iterator[bytes]:
        """Yield bytes over as many connections as it takes, until one ends cleanly and ``is_over`` agrees."""
        backoff = Backoff(self.config.server_retry, None)
        while True:
            call = connect()
            try:
                for data in self._stream_once(call, silence_s):
                    backoff.progressed()
                    yield data
                if is_over():
                    return
                raise ConnectionLost(self.config.server_uri, "the server stopped")
            except RetzError as error:
                self._pause(backoff, error, call)

    def _stream_once(self, call: Call, silence_s: float | None) -> Iterator[bytes]:
        options = request_options(call, self.config)
        options["timeout"] = httpx.Timeout(self.config.server_timeout, read=silence_s)
        try:
            with self._http.stream(**options) as response:
                if response.status_code >= 400:
                    check(response.status_code, response.read())
                yield from response.iter_raw()
        except httpx.TransportError as error:
            raise translated(error, self.config.server_uri) from error


def new_id(results: types.Results) -> int:
    """Return the new job of a resubmission.

    Raises:
        ApiError: it was refused.
    """
    result = results.results[0]
    if result.new_id is None:
        raise ApiError(409, "conflict", result.error or f"job {result.id} cannot be submitted again")
    return result.new_id
