"""All routes, in one place: what is registered, and what the OpenAPI document says."""

from __future__ import annotations

from typing import Any

from retz.scheduler.explain import Why

from . import (
    agents,
    applications,
    eta,
    events,
    files,
    health,
    history,
    jobs,
    openapi,
    page,
    pipeline_table,
    queue,
    selection,
    submission,
    usage,
    users,
)
from .body import MIB
from .params import MAX_ID, MAX_IDS_TEXT
from .protocol import status as old_status
from .protocol.messages import StatusAnswer
from .routes import API, FLAG, TEXT, TIME, WORDS, Answer, Parameter, Route, answer, whole
from .views import ApplicationView, JobView

_ID = Parameter(
    "id",
    {"anyOf": [whole(1, MAX_ID), {"type": "string", "const": "last"}]},
    "The job's id; 'last' is your newest.",
    "path",
)
_NAME = Parameter("name", {"type": "string", "minLength": 1, "maxLength": 200}, "The application's name.", "path")
_PATH = Parameter("path", TEXT, "Relative to the sandbox.")
_ATTEMPT = Parameter("attempt", whole(0, 1_000_000), "Attempt; absent or 0 is the latest.")

_LIST = (
    Parameter("state", WORDS, f"Comma list of {', '.join(selection.STATE_WORDS)}; default LIVE."),
    Parameter(
        "ids", {"type": "string", "minLength": 1, "maxLength": MAX_IDS_TEXT}, "Comma list of ids and ranges: 12,3-9."
    ),
    Parameter("user", WORDS, "For administrators: an access key, or * for all."),
    Parameter("tag", WORDS, "All that are given must hold.", repeatable=True),
    Parameter("application", WORDS),
    Parameter("name", WORDS),
    Parameter("pipeline", WORDS),
    Parameter("held", FLAG),
    Parameter("agent", WORDS, "The latest attempt's agent, by id, or by host if no other agent is there."),
    Parameter("text", TEXT, "Part of the name or the command, any case."),
    Parameter("where", WORDS, "A condition: gpus>0, wait>=10m, !user=ann. All must hold.", repeatable=True),
    Parameter("since", TIME, "Submitted at or after."),
    Parameter("until", TIME, "Submitted before."),
    Parameter("at", TIME, "The jobs that were queued or running then, each as it stood then."),
    Parameter("sort", {"type": "string", "enum": list(selection.SORT_NAMES)}, "Default -id."),
    Parameter("limit", whole(1, 1000), "Default 100."),
    Parameter("offset", whole(0, selection.MAX_OFFSET), "Default 0."),
    Parameter("cursor", WORDS, "From 'next' of the window before; instead of offset."),
    Parameter("foresee", FLAG, "true: somebody looks at 'eta'; it is brought up to date, for the next answer."),
)
_FILE = (
    _ID,
    _PATH,
    _ATTEMPT,
    Parameter("download", FLAG, "true adds Content-Disposition."),
    Parameter("follow", FLAG, "true sends the bytes as they are written, until the job has ended."),
    Parameter("offset", whole(0, files.MAX_OFFSET), "First byte; default 0."),
    Parameter("Range", {"type": "string"}, "One range: bytes=0-99, bytes=100-, bytes=-100.", "header"),
)
_BYTES = "application/octet-stream"


def _act(action: str, handler: Any, summary: str) -> Route:
    return Route(
        "POST",
        f"{API}/jobs/{action}",
        handler,
        summary,
        body=jobs.ActRequest,
        answers=answer("What became of each.", jobs.ActResult),
        refusals=(409, 422) if action == "resubmit" else (422,),
        max_body=4 * MIB,
    )


PUBLIC = (
    Route(
        "GET", "/", page.root, "The server for browsers.", "public", answers={200: Answer("A page.", str, "text/html")}
    ),
    Route("GET", "/ping", old_status.ping, "Answers OK.", "public", answers=answer("OK.", str)),
    Route(
        "GET",
        "/healthz",
        health.healthz,
        "Whether the server can do its work.",
        "public",
        answers={200: Answer("It can.", health.Health), 503: Answer("It cannot.", health.Health)},
    ),
    Route(
        "GET",
        "/status",
        old_status.status,
        "A few numbers.",
        "public",
        answers=answer("They.", StatusAnswer),
    ),
    Route(
        "GET",
        "/metrics",
        health.metrics,
        "Prometheus text.",
        "public",
        answers={200: Answer("Text.", str, "text/plain")},
    ),
)

JOBS = (
    Route(
        "POST",
        f"{API}/jobs",
        jobs.submit,
        "Submit one or many jobs.",
        body=submission.SubmitRequest,
        answers={
            200: Answer("The key was used for this before: the same jobs.", jobs.Submitted),
            201: Answer("Accepted and durable.", jobs.Submitted),
        },
        refusals=(409, 422),
        max_body=submission.MAX_BODY,
    ),
    Route(
        "GET",
        f"{API}/jobs",
        jobs.list_jobs,
        "A window of the list.",
        parameters=_LIST,
        answers=answer("The window.", jobs.JobList),
    ),
    _act("kill", jobs.kill_many, "Kill many jobs."),
    _act("hold", jobs.hold_many, "Hold many queued jobs."),
    _act("release", jobs.release_many, "Release many held jobs."),
    _act("update", jobs.update_many, "Change the priority of many queued jobs."),
    _act("resubmit", jobs.resubmit_many, "Make new jobs from old ones' requests."),
    Route(
        "GET",
        f"{API}/jobs/{{id}}",
        jobs.get_job,
        "One job.",
        parameters=(_ID,),
        answers=answer("The job.", JobView),
        refusals=(404,),
    ),
    Route(
        "PATCH",
        f"{API}/jobs/{{id}}",
        jobs.patch,
        "Change a queued job.",
        parameters=(_ID,),
        body=jobs.PatchRequest,
        answers=answer("The job.", JobView),
        refusals=(404, 409),
    ),
    Route(
        "DELETE",
        f"{API}/jobs/{{id}}",
        jobs.kill,
        "Kill a job.",
        parameters=(_ID,),
        answers={202: Answer("The kill is durable.", JobView)},
        refusals=(404, 409),
    ),
    Route(
        "GET",
        f"{API}/jobs/{{id}}/why",
        jobs.why,
        "Why it is not running.",
        parameters=(_ID,),
        answers=answer("The reasons.", Why),
        refusals=(404,),
    ),
    Route(
        "GET",
        f"{API}/jobs/{{id}}/eta",
        eta.eta,
        "When it starts and ends.",
        parameters=(_ID,),
        answers=answer("In half and in nine of ten cases.", eta.Eta),
        refusals=(404,),
    ),
    Route(
        "GET",
        f"{API}/eta",
        eta.list_etas,
        "When jobs start and end.",
        parameters=(
            Parameter(
                "ids",
                {"type": "string", "minLength": 1, "maxLength": MAX_IDS_TEXT},
                "Comma list of ids and ranges; default: your own that run or wait, those with the lowest ids.",
            ),
            Parameter("limit", whole(1, eta.MAX_ETAS), f"Default {eta.DEFAULT_ETAS}."),
        ),
        answers=answer("One answer for each.", eta.EtaList),
        refusals=(404,),
    ),
    Route(
        "POST",
        f"{API}/plan",
        eta.plan,
        "What would become of a job; nothing is submitted.",
        body=eta.PlanRequest,
        answers=answer("Whether, where and when.", eta.Plan),
        refusals=(422, 503),
        max_body=eta.MAX_BODY,
    ),
    Route(
        "GET",
        f"{API}/jobs/{{id}}/usage",
        jobs.usage,
        "What it used over time.",
        parameters=(_ID, _ATTEMPT),
        answers=answer("The series.", jobs.UsageSeries),
        refusals=(404,),
    ),
    Route(
        "GET",
        f"{API}/jobs/{{id}}/wait",
        jobs.wait,
        "Wait for its end.",
        parameters=(
            _ID,
            Parameter("timeout_s", {"type": "number", "minimum": 0, "maximum": jobs.MAX_WAIT_S}, "Default 30."),
        ),
        answers=answer("The job, ended or not.", JobView),
        refusals=(404,),
    ),
)

FILES = (
    Route(
        "GET",
        f"{API}/jobs/{{id}}/files",
        files.list_files,
        "A directory of the sandbox.",
        parameters=(_ID, _PATH, _ATTEMPT),
        answers=answer("Its entries.", files.FileListing),
        refusals=(404,),
    ),
    Route(
        "GET",
        f"{API}/jobs/{{id}}/file",
        files.get_file,
        "A file of the sandbox.",
        parameters=_FILE,
        answers={200: Answer("The bytes.", bytes, _BYTES), 206: Answer("The range.", bytes, _BYTES)},
        refusals=(404, 413, 416),
    ),
)

APPLICATIONS = (
    Route(
        "GET",
        f"{API}/applications",
        applications.list_applications,
        "Your applications.",
        answers=answer("All of them.", applications.ApplicationList),
    ),
    Route(
        "GET",
        f"{API}/applications/{{name}}",
        applications.get_application,
        "One application.",
        parameters=(_NAME,),
        answers=answer("The application.", ApplicationView),
        refusals=(404,),
    ),
    Route(
        "PUT",
        f"{API}/applications/{{name}}",
        applications.put_application,
        "Register or replace an application.",
        parameters=(_NAME,),
        body=applications.ApplicationRequest,
        answers=answer("The application.", ApplicationView),
        refusals=(422,),
    ),
    Route(
        "DELETE",
        f"{API}/applications/{{name}}",
        applications.delete_application,
        "Forget an application.",
        parameters=(_NAME,),
        answers={204: Answer("It is gone.")},
        refusals=(404, 409),
    ),
)

QUEUE = (
    Route(
        "GET",
        f"{API}/agents",
        agents.agents,
        "The machines.",
        parameters=(
            Parameter("id", WORDS, "Only these: ids, a comma between."),
            Parameter("text", TEXT, "Part of the host, the id or an attribute (name=value), any case."),
            Parameter("gpus", FLAG, "Only those with GPUs, or without."),
            Parameter("sort", {"type": "string", "enum": list(agents.SORT_NAMES)}, "Resources by what is free."),
            Parameter("limit", whole(1, agents.MAX_LIMIT), "Default: all."),
            Parameter("offset", whole(0, agents.MAX_OFFSET), "Default 0."),
            Parameter("usage", FLAG, "true: measured, too, which takes longer."),
        ),
        answers=answer("All of them, or a window.", agents.AgentList),
    ),
    Route(
        "GET", f"{API}/status", queue.status, "The server and its queue.", answers=answer("In numbers.", queue.Status)
    ),
    Route(
        "PUT",
        f"{API}/queue",
        queue.put_queue,
        "Open, pause or drain the queue.",
        "admin",
        body=queue.QueueRequest,
        answers=answer("Its mode.", queue.QueueState),
    ),
    Route(
        "GET",
        f"{API}/aggregates",
        history.aggregates,
        "The queue's history.",
        parameters=(
            Parameter("since", TIME, "Default: a day before until."),
            Parameter("until", TIME, "Default: now."),
            Parameter("step_s", whole(60, 86_400), "Seconds per point; default 60."),
        ),
        answers=answer("The points.", history.History),
    ),
    Route(
        "GET",
        f"{API}/events",
        events.events,
        "Changes as they become durable (server-sent events).",
        parameters=(
            Parameter("since", whole(0, MAX_ID), "Journal sequence number; absent: from now on."),
            Parameter("user", WORDS, "For administrators: * for all."),
            Parameter("Last-Event-ID", whole(0, MAX_ID), "As since.", "header"),
        ),
        answers={200: Answer("The stream.", str, "text/event-stream")},
        refusals=(429,),
    ),
    Route(
        "GET", f"{API}/openapi.json", openapi.document, "This document.", answers={200: Answer("OpenAPI 3.1.", dict)}
    ),
)

_KEY = Parameter("key", {"type": "string", "minLength": 1, "maxLength": 200}, "The user's access key.", "path")
_PERIOD = (Parameter("since", TIME, "At or after."), Parameter("until", TIME, "Before."))

ADMIN = (
    Route(
        "POST",
        f"{API}/gc",
        queue.gc,
        "Remove what ended jobs left.",
        "admin",
        body=queue.GcRequest,
        answers=answer("How much.", queue.GcResult),
    ),
    Route(
        "GET",
        f"{API}/usage",
        usage.report,
        "Who used what.",
        parameters=(
            Parameter("since", TIME, "Default: a week before until."),
            Parameter("until", TIME, "Default: now."),
            Parameter("user", WORDS, "For administrators: an access key, or * for all."),
        ),
        answers=answer("Per user and application.", usage.UsageReport),
    ),
    Route(
        "GET",
        f"{API}/users",
        users.list_users,
        "All users.",
        "admin",
        answers=answer("All of them.", users.UserAccounts),
    ),
    Route(
        "POST",
        f"{API}/users",
        users.create_users,
        "Make users.",
        "admin",
        body=users.CreateRequest,
        answers={201: Answer("Made, with their secrets.", users.UserSecrets)},
        refusals=(409, 422),
    ),
    Route(
        "GET",
        f"{API}/users/{{key}}",
        users.get_user,
        "One user.",
        "admin",
        parameters=(_KEY,),
        answers=answer("The user.", users.UserAccount),
        refusals=(404,),
    ),
    Route(
        "PATCH",
        f"{API}/users/{{key}}",
        users.patch_user,
        "Change a user.",
        "admin",
        parameters=(_KEY,),
        body=users.UserPatch,
        answers=answer("The user.", users.UserAccount),
        refusals=(404, 409, 422),
    ),
    Route(
        "POST",
        f"{API}/users/{{key}}/secret",
        users.rotate_secret,
        "Give a user a new secret.",
        "admin",
        parameters=(_KEY,),
        answers=answer("The user, with the new secret.", users.UserSecret),
        refusals=(404,),
    ),
    Route(
        "GET",
        f"{API}/audit",
        users.audit,
        "What administrators did.",
        "admin",
        parameters=(*_PERIOD, Parameter("limit", whole(1, users.MAX_AUDIT), "The newest; default 1000.")),
        answers=answer("The records.", users.AuditList),
    ),
)

ROUTES: tuple[Route, ...] = PUBLIC + JOBS + FILES + APPLICATIONS + pipeline_table.ROUTES + QUEUE + ADMIN
