"""When jobs start and end, and what would become of a job that is not submitted yet."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec
from aiohttp import web
from msgspec import Struct

from retz.model.job import ENDED_STATES, LIVE_STATES, RUNNING_STATES, Job, State
from retz.model.resources import from_vector
from retz.model.submission import JobSpec
from retz.scheduler.explain import AgentCounts, never
from retz.scheduler.forecast import Foreseen, Moment, Word
from retz.scheduler.outlook import Outlook
from retz.store.job_query import parse_ids

from ..dependencies import with_dependencies
from ..forecasting.forecasts import Latest
from ..forecasting.process import Fault
from ..problem import Problem
from . import body as bodies
from .api import Call
from .explaining import explainer_of
from .params import MAX_ID, MAX_IDS_TEXT, refuse
from .responses import json_of
from .views import ForeseenView, MomentView, ResourcesView, Time, resources_of, time_of

MAX_ETAS = 1000
DEFAULT_ETAS = 100
MAX_BODY = 1 << 20
LIST_WAITS_S = 0.5
LATE_S = 2.0
"""What should have happened so long ago did not come true."""

Known = Literal["pipeline", "similar", "limit", "guess"]

NOTES: dict[Word, str] = {
    "": "",
    "never": "no agent here could ever take it; 'retz why' says what they lack",
    "paused": "nothing is started until an administrator opens the queue",
    "unknown": "it waits for what cannot be foreseen: a held job, or room that others hold",
    "later": "too far behind others to be looked at one by one",
}


class Eta(Struct, kw_only=True):
    """When a job starts and ends.

    Attributes:
        start: Null for one that runs, has ended, or has no answer.
        end: Null for one that has ended or has no answer.
        not_before: A bound for one that is too far behind.
        source: What its run time is known from: runs of its pipeline's step, its user's last similar jobs, its time
            limit, or nothing (``guess``).
        note: Why there is no answer, as a sentence.
        as_of: The moment the forecast starts from; null if there is none.
        age_s: How long ago that was.
    """

    id: int
    name: str
    state: State
    start: MomentView | None = None
    end: MomentView | None = None
    not_before: Time | None = None
    source: Known | None = None
    note: str | None = None
    as_of: Time | None = None
    age_s: float | None = None


class EtaList(Struct):
    """The answers, in the order of ids. ``trouble``: why there is no newer forecast, if that failed."""

    etas: list[Eta]
    trouble: str | None


class PlanRequest(Struct, forbid_unknown_fields=True):
    """A job or an array as for a submit; nothing is submitted."""

    job: JobSpec


class AheadView(Struct):
    """Jobs that start before it, everybody's, and what they ask for together."""

    jobs: int
    resources: ResourcesView


class Plan(Struct, kw_only=True):
    """What would become of a job, or of an array, if it were submitted now.

    Attributes:
        resources: What it would ask for, defaults filled in; of an array each task.
        tasks: Of an array; null for a job.
        agents: Agents known; those that have the room now, of an array for one task; what the others fail on.
        could: Agents that could take it, or a task of it, if nothing else ran there.
        where: Host of the agent where it, or its first task, would start, most likely; null if nowhere.
        start: Of an array when its first task starts.
        end: Of an array when its last task ends.
        not_before: A bound for the start of what is too far behind others.
        end_not_before: A bound for the end of what has too many tasks, or has them too far behind others.
        at_once: So many tasks run at the same time at most; null for a job.
        hosts: On so many agents they run; null for a job.
        ahead: Jobs that start before it, or before its first task.
    """

    resources: ResourcesView
    tasks: int | None = None
    agents: AgentCounts
    could: int
    where: str | None
    start: MomentView | None
    end: MomentView | None
    not_before: Time | None = None
    end_not_before: Time | None = None
    at_once: int | None = None
    hosts: int | None = None
    ahead: AheadView
    source: Known
    note: str | None


_decode_plan = msgspec.json.Decoder(PlanRequest).decode


async def eta(call: Call) -> web.StreamResponse:
    """``GET /jobs/{id}/eta``."""
    call.params()
    (found,) = await _etas(call, [call.job()])
    await call.core.settled()
    return json_of(found)


async def list_etas(call: Call) -> web.StreamResponse:
    """``GET /eta``."""
    params = call.params("ids", "limit")
    limit = params.integer("limit", DEFAULT_ETAS, 1, MAX_ETAS)
    text = params.text("ids", MAX_IDS_TEXT)
    jobs = _named(call, text, limit) if text else _live(call, limit)
    etas = await _etas(call, jobs)
    await call.core.settled()
    return json_of(EtaList(etas, call.core.forecasts.trouble))


def _named(call: Call, text: str, limit: int) -> list[Job]:
    try:
        ranges = parse_ids(text)
    except ValueError as error:
        refuse("ids", str(error))
    ids = [job_id for first, last in ranges for job_id in range(first, min(last, first + limit) + 1)]
    if len(ids) > limit:
        refuse("ids", f"names more than {limit} jobs; ask in several requests (limit is at most {MAX_ETAS})")
    return [call.core.visible(call.user, job_id) for job_id in ids]


def _live(call: Call, limit: int) -> list[Job]:
    """The user's own that run or wait, those with the lowest ids."""
    found: list[Job] = []
    for job_id in call.core.db.jobs.ids("owner", call.user.key):
        job = call.core.db.jobs.record(job_id)
        if job is not None and job.state in LIVE_STATES:
            found.append(job)
            if len(found) == limit:
                break
    return found


async def _etas(call: Call, jobs: Sequence[Job]) -> list[Eta]:
    forecasts = call.core.forecasts
    live = _foreseeable(jobs)
    if live:
        refresh(call, live)
    newest = _newest(call, live)
    latest = await forecasts.want(newest) if live else forecasts.latest
    return [_eta(call, call.core.find(job.id) or job, latest) for job in jobs]


def _foreseeable(jobs: Iterable[Job]) -> list[Job]:
    return [job for job in jobs if job.state in LIVE_STATES and not job.held]


def _newest(call: Call, live: Iterable[Job]) -> float:
    """How new a forecast must be to say something of all of these."""
    forecasts, now = call.core.forecasts, call.core.clock()
    return max((_needed(job, forecasts.of(job.id), now) for job in live), default=0.0)


def _needed(job: Job, known: Foreseen | None, now: float) -> float:
    """How new a forecast must be to say something of a job."""
    if known is None:
        return _changed(job)
    due = _due(job, known)
    return due.most if due is not None and due.most < now - LATE_S else 0.0


def _due(job: Job, known: Foreseen) -> Moment | None:
    """What is to happen to it next."""
    return known.end if job.state in RUNNING_STATES else known.start


def refresh(call: Call, jobs: Iterable[Job]) -> None:
    """Somebody looks at what is foreseen of these: have it made anew if it is old, or did not come true."""
    forecasts, now = call.core.forecasts, call.core.clock()
    dues = [
        _due(job, known) for job in jobs if job.state in LIVE_STATES and (known := forecasts.of(job.id)) is not None
    ]
    late = [due.half for due in dues if due is not None and due.half < now - LATE_S]
    forecasts.refresh_if_stale(max(late, default=0.0))


async def refreshed(call: Call, jobs: Sequence[Job]) -> None:
    """The same for a list, which waits a moment where nothing is known yet: most people look once."""
    refresh(call, jobs)
    await call.core.forecasts.soon(_newest(call, _foreseeable(jobs)), LIST_WAITS_S)


def _changed(job: Job) -> float:
    """Since when it is as it is, at the latest."""
    attempt = job.attempt
    return max(job.submitted, attempt.launched if attempt is not None else 0.0)


def _eta(call: Call, job: Job, latest: Latest | None) -> Eta:
    answer = Eta(id=job.id, name=job.name, state=job.shown_state)
    if latest is not None:
        answer.as_of, answer.age_s = time_of(latest.at), round(max(0.0, call.core.forecasts.age_s), 1)
    if job.state in ENDED_STATES:
        answer.note = "it has ended"
    elif job.held:
        answer.note = f"it is held; 'retz release {job.id}' lets it start"
    elif latest is None:
        answer.note = "nothing is foreseen yet; ask again in a moment"
    else:
        _fill(call, answer, job, latest)
    return answer


def _fill(call: Call, answer: Eta, job: Job, latest: Latest) -> None:
    known = latest.jobs.get(job.id)
    now = call.core.clock()
    if known is None:
        if _changed(job) > latest.at:
            answer.note = "it came after the last look ahead; ask again in a moment"
            return
        known = Foreseen(word="later" if latest.until is not None else "unknown")
    else:
        answer.source = known.source
    answer.start, answer.end = _moments(job, known, now)
    answer.note = NOTES[known.word] or None
    if known.word == "later":
        bound = latest.not_before(call.core.scheduler.ahead(job.id))
        answer.not_before = None if bound is None else time_of(max(now, bound))


def foreseen(call: Call, job: Job) -> ForeseenView | None:
    """What is known of a job that waits or runs, without asking for more."""
    known = call.core.forecasts.of(job.id) if job.state in LIVE_STATES and not job.held else None
    if known is None or known.end is None:
        return None
    now = call.core.clock()
    due = _due(job, known)
    if due is not None and due.most < now - LATE_S:
        return None  # it did not come true
    return ForeseenView(*_moments(job, known, now))


def _moments(job: Job, known: Foreseen, now: float) -> tuple[MomentView | None, MomentView | None]:
    """Start (of one that waits) and end, which is not before the start."""
    start = None if job.state in RUNNING_STATES else _from_now(known.start, now)
    end = _from_now(known.end, now)
    if start is not None and end is not None:
        end = Moment(max(start.half, end.half), max(start.most, end.most))
    return _moment_view(start), _moment_view(end)


def _from_now(moment: Moment | None, now: float) -> Moment | None:
    """What did not happen in the first half of its time will in the second, for all that is known."""
    if moment is None:
        return None
    half = moment.half if moment.half >= now - LATE_S else (now + moment.most) / 2
    return Moment(max(now, half), max(now, moment.most))


def _moment_view(moment: Moment | None) -> MomentView | None:
    return None if moment is None else MomentView(time_of(moment.half), time_of(moment.most))


async def plan(call: Call) -> web.StreamResponse:
    """``POST /plan``."""
    call.params()
    core = call.core
    spec = bodies.decode(_decode_plan, call.body.data).job
    spec = msgspec.structs.replace(spec, held=False)  # what would be, were it released at once
    jobs = core.admission.build([spec], call.user.key, [MAX_ID], core.clock())
    (job,) = with_dependencies(jobs, [spec], [MAX_ID], 0, lambda job_id: core.submissions.found(call.user, job_id))
    counts = explainer_of(call).why(job).agents
    try:
        outlook = await core.forecasts.plan(job)
    except Fault as fault:
        raise Problem("unavailable", f"nobody can tell at present: {fault}; try again in a minute") from None
    hosts = {agent.id: agent.host for agent in core.agents()}
    stillborn = core.dispatcher.following.stillborn(job)
    if stillborn is not None:
        outlook = _unstarted(outlook)
    known = outlook.foreseen
    array = job.array
    start, end = _moments(job, known, core.clock())
    return json_of(
        Plan(
            resources=resources_of(job.resources),
            tasks=None if array is None else array.size,
            agents=counts,
            could=outlook.agents,
            where=hosts.get(outlook.agent) or outlook.agent or None,
            start=start,
            end=end,
            not_before=_bound(call, outlook.not_before),
            end_not_before=_bound(call, outlook.end_not_before),
            at_once=None if array is None else outlook.at_once,
            hosts=None if array is None else outlook.spread,
            ahead=AheadView(outlook.ahead, resources_of(from_vector(outlook.ahead_needs))),
            source=known.source,
            note=_plan_note(call, job, outlook) if stillborn is None else f"it would never start: {stillborn}",
        )
    )


def _unstarted(outlook: Outlook) -> Outlook:
    known = Foreseen(source=outlook.foreseen.source)
    return msgspec.structs.replace(outlook, foreseen=known, agent="", not_before=None, end_not_before=None)


def _bound(call: Call, moment: float | None) -> str | None:
    return None if moment is None else time_of(max(moment, call.core.clock()))


def _plan_note(call: Call, job: Job, outlook: Outlook) -> str | None:
    """Why there is no answer; what agents lack at once, for there is no job yet that 'retz why' could tell of."""
    word = outlook.foreseen.word
    if not word and outlook.end_not_before is not None:
        return "its last tasks are too many, or too far behind others, to be looked at one by one"
    why = never(job.resources, job.attributes, call.core.agents()) if word == "never" else None
    return f"no agent here could ever take it: {why}" if why else NOTES[word] or None
