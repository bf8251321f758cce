"""Which jobs a request means: query parameters and filters become a store query, within what the user may see."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, TypeVar

from msgspec import Meta, Struct
from msgspec.structs import replace

from retz.model.job import LIVE_STATES, State
from retz.model.submission import MAX_TAGS
from retz.store.job_query import MAX_LIMIT, SORTS, JobQuery, parse_ids, parse_states
from retz.store.job_where import MAX_CONDITIONS, Condition, parse_condition

from ..acting import Action
from ..problem import Problem
from .api import Call
from .params import MAX_IDS_TEXT, parse_time, refuse

DEFAULT_LIMIT = 100
SORT_NAMES = tuple(sign + name for name in SORTS for sign in ("", "-"))
STATE_WORDS = ("LIVE", "ENDED", "ALL", "CREATED", "QUEUED", "STARTING", "STARTED", "FINISHED", "FAILED", "KILLED")
PARAMETERS = (
    "state", "ids", "user", "application", "name", "pipeline", "held", "agent", "text", "since", "until", "at",
    "where", "sort", "limit", "offset", "cursor", "foresee",
)  # fmt: skip
MAX_OFFSET = 10**9

T = TypeVar("T")
Text = Annotated[str, Meta(max_length=1000)]


class Filter(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """As the parameters of the list; at least one must be there. All must hold."""

    state: Annotated[list[Text], Meta(min_length=1, max_length=10)] | None = None
    ids: Annotated[str, Meta(max_length=100_000)] | None = None
    user: Text | None = None
    tag: Annotated[list[Text], Meta(min_length=1, max_length=MAX_TAGS)] | None = None
    application: Text | None = None
    name: Text | None = None
    pipeline: Text | None = None
    held: bool | None = None
    agent: Text | None = None
    text: Text | None = None
    where: Annotated[list[Text], Meta(min_length=1, max_length=MAX_CONDITIONS)] | None = None
    since: Text | None = None
    until: Text | None = None


def from_params(call: Call) -> JobQuery:
    """The query that the list's parameters ask for."""
    params = call.params(*PARAMETERS, repeatable=("tag", "where"))
    state, ids, sort = params.text("state"), params.text("ids", MAX_IDS_TEXT), params.text("sort") or "-id"
    if sort not in SORT_NAMES:
        refuse("sort", f"must be one of {', '.join(SORTS)}, with - in front for descending")
    cursor = params.text("cursor")
    most = min(MAX_LIMIT, call.core.config.max_list_jobs)
    query = JobQuery(
        states=_said("state", parse_states, state) if state else LIVE_STATES,
        ids=_said("ids", parse_ids, ids) if ids else None,
        owner=owner_of(call, params.text("user")),
        tags=params.texts("tag"),
        application=params.text("application"),
        name=params.text("name"),
        pipeline=params.text("pipeline"),
        held=params.flag("held"),
        agent=_agent(call, params.text("agent")),
        text=params.text("text"),
        where=_conditions("where", params.texts("where")),
        now=float(int(call.core.clock())),
        since=params.time("since"),
        until=params.time("until"),
        at=params.time("at"),
        sort=sort,
        limit=min(most, params.integer("limit", DEFAULT_LIMIT, 1, MAX_LIMIT)),
        offset=params.integer("offset", 0, 0, MAX_OFFSET),
    )
    # Everything else was checked above: what can still be wrong is the cursor.
    return _said("cursor", lambda text: replace(query, cursor=text), cursor) if cursor else query


def from_filter(call: Call, wanted: Filter, action: Action) -> JobQuery:
    """The query that a bulk action's filter asks for. Without ``state`` it means the jobs the action is for."""
    if wanted == Filter():
        raise Problem("bad-request", 'an empty filter would mean every job; say {"state": ["LIVE"]} if you mean that')
    usual = {"kill": "LIVE", "resubmit": "ENDED"}.get(action, "QUEUED")
    return JobQuery(
        states=_said("filter.state", parse_states, ",".join(wanted.state or (usual,))),
        ids=_said("filter.ids", parse_ids, wanted.ids) if wanted.ids else None,
        owner=owner_of(call, wanted.user),
        tags=tuple(wanted.tag or ()),
        application=wanted.application,
        name=wanted.name,
        pipeline=wanted.pipeline,
        held=wanted.held,
        agent=_agent(call, wanted.agent),
        text=wanted.text,
        where=_conditions("filter.where", wanted.where or ()),
        now=float(int(call.core.clock())),
        since=parse_time("filter.since", wanted.since) if wanted.since else None,
        until=parse_time("filter.until", wanted.until) if wanted.until else None,
        sort="id",
    )


def _conditions(name: str, texts: Sequence[str]) -> tuple[Condition, ...]:
    if len(texts) > MAX_CONDITIONS:
        refuse(name, f"{len(texts)} conditions are too many; at most {MAX_CONDITIONS} are checked")
    return tuple(_said(name, parse_condition, text) for text in texts)


def _agent(call: Call, name: str | None) -> str | None:
    """The id of an agent named by its id, or by its host if it is the only one there."""
    if name is None:
        return None
    agents = call.core.agents()
    there = [agent.id for agent in agents if agent.host == name]
    return there[0] if len(there) == 1 and all(agent.id != name for agent in agents) else name


def _said(name: str, parse: Callable[[str], T], text: str) -> T:
    try:
        return parse(text)
    except ValueError as error:
        refuse(name, str(error))


def owner_of(call: Call, user: str | None) -> str | None:
    """Whose jobs: one's own unless an administrator says otherwise; None means everybody's."""
    if user is None or user == call.user.key:
        return call.user.key
    if not call.user.admin:
        raise Problem("forbidden", "only an administrator sees the jobs of other users: leave 'user' out")
    return None if user == "*" else user


def counts(call: Call, owner: str | None) -> dict[str, int]:
    """Live jobs per state, of one owner or of all."""
    jobs = call.core.db.jobs
    if owner is None or list(jobs.values("owner")) in ([], [owner]):
        return {state: jobs.count("state", state) for state in LIVE_STATES}
    # Hardly any job of the hot table is in another state than QUEUED: counting those is counting few.
    counted: dict[str, int] = {}
    others: Sequence[State] = ("CREATED", "STARTING", "STARTED", "FINISHED", "FAILED", "KILLED")
    for state in others:
        records = (jobs.record(job_id) for job_id in jobs.ids("state", state))
        counted[state] = sum(job is not None and job.owner == owner for job in records)
    counted["QUEUED"] = jobs.count("owner", owner) - sum(counted.values())
    return {state: counted[state] for state in LIVE_STATES}
