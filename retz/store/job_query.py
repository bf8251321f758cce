"""What may be asked about jobs: the filters, sorts and cursors of ``GET /api/v2/jobs``. Pure."""

from __future__ import annotations

import base64
import binascii
from bisect import bisect_right
from collections.abc import Callable
from operator import attrgetter

import msgspec
from msgspec import Struct
from msgspec.structs import force_setattr

from retz.model.job import ENDED_STATES, LIVE_STATES, STATES, Job, State

from .job_where import AGES, MAX_CONDITIONS, Check, Condition, check_of
from .past import as_of

SORTS = ("id", "state", "user", "application", "priority", "pipeline")
MAX_LIMIT = 1000
MAX_ID = (1 << 63) - 1
MAX_RANGES = 1000

Ranges = tuple[tuple[int, int], ...]
SortKey = int | str
Position = tuple[SortKey, int]
"""Where a job stands in a list: (sort key, id). Sorted by id, the key is 0."""

_STATE_SETS: dict[str, tuple[State, ...]] = {"LIVE": LIVE_STATES, "ENDED": ENDED_STATES, "ALL": STATES}


class JobQuery(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which jobs, in which order, which part of the list.

    Attributes:
        states: Any of these. With ``at``: the state as it was then.
        ids: Inclusive ranges ``(low, high)``; None means all.
        owner: Access key; None means everybody (for admins only; the caller sees to that).
        tags: All must be there.
        agent: The agent of the latest attempt; with ``at``: of the latest by then.
        text: Part of the name or of the command (an argument vector is joined by spaces), any case.
        since, until: Submitted at or after ``since`` and before ``until``, seconds since the epoch.
        where: All must hold, see :mod:`retz.store.job_where`.
        now: The time that ages in ``where`` are reckoned from, if there is no ``at``; whole seconds, so that
            a result can be remembered for as long.
        at: Jobs that were queued or running at this time, each as it stood then.
        sort: One of :data:`SORTS`; ``-`` in front turns the whole order around, ids included. States sort by
            their place in life, jobs without pipeline before those with one.
        cursor: From an earlier window with the same sort; ``offset`` is ignored then.

    Raises:
        ValueError: unknown state or sort, limit or offset out of range, foreign cursor; the text is for the user.
    """

    states: tuple[State, ...] = LIVE_STATES
    ids: Ranges | None = None
    owner: str | None = None
    tags: tuple[str, ...] = ()
    application: str | None = None
    name: str | None = None
    pipeline: str | None = None
    held: bool | None = None
    agent: str | None = None
    text: str | None = None
    since: float | None = None
    until: float | None = None
    where: tuple[Condition, ...] = ()
    now: float | None = None
    at: float | None = None
    sort: str = "-id"
    limit: int = 100
    offset: int = 0
    cursor: str | None = None

    def __post_init__(self) -> None:
        for state in self.states:
            if state not in STATES:
                raise ValueError(f"there is no state {state!r}; say one of {', '.join(STATES)}")
        if self.sort_field not in SORTS:
            raise ValueError(f"cannot sort by {self.sort!r}; say one of {', '.join(SORTS)}, - in front for descending")
        if not 1 <= self.limit <= MAX_LIMIT:
            raise ValueError(f"limit must be 1 to {MAX_LIMIT}, not {self.limit}")
        if len(self.where) > MAX_CONDITIONS:
            raise ValueError(f"{len(self.where)} conditions are too many; at most {MAX_CONDITIONS} are checked")
        if not any(condition.field in AGES for condition in self.where):
            force_setattr(self, "now", None)
        if self.offset < 0:
            raise ValueError(f"offset must be 0 or more, not {self.offset}")
        if self.ids is not None:
            # Sorted and disjoint, so that a look-up is a bisection.
            force_setattr(self, "ids", join_ranges(self.ids))
        if self.cursor is not None:
            self.position()

    @property
    def sort_field(self) -> str:
        """The sort without its direction."""
        return self.sort.removeprefix("-")

    @property
    def descending(self) -> bool:
        """Whether the order is turned around."""
        return self.sort.startswith("-")

    def selection(self) -> JobQuery:
        """The same jobs in the same field's ascending order, whole: what windows of one list have in common."""
        return msgspec.structs.replace(self, sort=self.sort_field, limit=1, offset=0, cursor=None)

    def position(self) -> Position | None:
        """Where the cursor stands; None without one."""
        if self.cursor is None:
            return None
        try:
            raw = base64.b64decode(self.cursor + "=" * (-len(self.cursor) % 4), altchars=b"-_", validate=True)
            sort, key, job_id = msgspec.json.decode(raw, type=tuple[str, SortKey, int])
        except (binascii.Error, ValueError, msgspec.MsgspecError) as error:
            raise ValueError("not a cursor of ours; take `next` of an earlier answer, or leave it out") from error
        if sort != self.sort or isinstance(key, str) != (sort.removeprefix("-") in _TEXT_SORTS):
            raise ValueError(f"this cursor belongs to a list sorted by {sort!r}, not {self.sort!r}; leave it out")
        return key, job_id

    def cursor_after(self, position: Position) -> str:
        """The cursor of the window that follows ``position``."""
        raw = msgspec.json.encode((self.sort, *position))
        return base64.urlsafe_b64encode(raw).decode("ascii").rstrip("=")


_TEXT_SORTS = ("user", "application", "pipeline")

_KEYS: dict[str, Callable[[Job], SortKey]] = {
    "id": lambda job: 0,
    "state": lambda job: STATES.index(job.shown_state),
    "user": lambda job: job.owner,
    "application": lambda job: job.application,
    "priority": lambda job: job.priority,
    "pipeline": lambda job: pipeline_key(job.pipeline),
}


def pipeline_key(pipeline: str | None) -> str:
    """Sort key of a pipeline: none first, and different from the empty name."""
    return "" if pipeline is None else ":" + pipeline


def sort_key(field: str) -> Callable[[Job], SortKey]:
    """The function that gives a job its place in a list sorted by ``field``."""
    return _KEYS[field]


def parse_ids(text: str) -> Ranges:
    """``"3-9,12"`` -> ``((3, 9), (12, 12))``: sorted, overlapping and adjacent ranges joined.

    Raises:
        ValueError: naming the part that is wrong.
    """
    ranges = []
    for part in text.split(","):
        low, dash, high = part.strip().partition("-")
        try:
            # int() would also take "+3", " 3" and "1_000".
            if not (low.isascii() and low.isdigit() and (not dash or (high.isascii() and high.isdigit()))):
                raise ValueError
            first, last = int(low), int(high if dash else low)
        except ValueError:
            raise ValueError(f"{part.strip()[:40]!r} is neither an id (12) nor a range of ids (3-9)") from None
        if first > last:
            raise ValueError(f"the range {part.strip()[:40]} is upside down; say {last}-{first}"[:120])
        if last > MAX_ID:
            raise ValueError(f"{part.strip()[:40]} is beyond any id")
        ranges.append((first, last))
    joined = join_ranges(ranges)
    if len(joined) > MAX_RANGES:
        raise ValueError(f"{len(joined)} separate ranges of ids are too many; ask for at most {MAX_RANGES} at a time")
    return joined


def join_ranges(ranges: list[tuple[int, int]] | Ranges) -> Ranges:
    """Sorted and disjoint ranges of the same ids."""
    joined: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if joined and low <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(high, joined[-1][1]))
        elif low <= high:
            joined.append((low, high))
    return tuple(joined)


def parse_states(text: str) -> tuple[State, ...]:
    """``"LIVE"``, ``"ENDED"``, ``"ALL"`` or a comma list of states (any case) -> the states, in order of life.

    Raises:
        ValueError: naming what is no state.
    """
    wanted: set[State] = set()
    for part in text.upper().split(","):
        word = part.strip()
        known = next((state for state in STATES if state == word), None)
        states = _STATE_SETS.get(word, () if known is None else (known,))
        if not states:
            raise ValueError(f"there is no state {word[:40]!r}; say {', '.join((*_STATE_SETS, *STATES))}")
        wanted.update(states)
    return tuple(state for state in STATES if state in wanted)


def view_of(query: JobQuery, job: Job) -> Job | None:
    """The job as the query shows it (as it stood at ``at``), or None if the query does not want it."""
    return viewer(query)(job)


def viewer(query: JobQuery) -> Callable[[Job], Job | None]:
    """:func:`view_of` for many jobs: it looks only at what the query asks for."""
    lasting, passing, at = _lasting_checks(query), _passing_checks(query), query.at

    def view(job: Job) -> Job | None:
        for check in lasting:
            if not check(job):
                return None
        shown = job if at is None else as_of(job, at)
        if shown is None:
            return None
        for check in passing:
            if not check(shown):
                return None
        return shown

    return view


def _lasting_checks(query: JobQuery) -> list[Check]:
    """On what never changes in a job's life."""
    checks: list[Check] = []
    ids, tags, since, until = query.ids, query.tags, query.since, query.until
    if ids is not None:
        checks.append(lambda job: _in_ranges(job.id, ids))
    for field in ("owner", "application", "pipeline", "name"):
        if getattr(query, field) is not None:
            checks.append(_equals(field, getattr(query, field)))
    if tags:
        checks.append(lambda job: all(tag in job.tags for tag in tags))
    if since is not None:
        checks.append(lambda job: job.submitted >= since)
    if until is not None:
        checks.append(lambda job: job.submitted < until)
    return checks


def _passing_checks(query: JobQuery) -> list[Check]:
    """On what depends on the time that is looked at."""
    states, held, agent = query.states, query.held, query.agent
    checks: list[Check] = [lambda job: job.shown_state in states]
    if held is not None:
        checks.append(lambda job: job.held == held)
    checks += [check_of(condition, query.at or query.now or 0.0) for condition in query.where]
    if agent is not None:
        checks.append(lambda job: bool(job.attempts) and job.attempts[-1].agent == agent)
    if query.text is not None:
        text = query.text.lower()
        checks.append(lambda job: _has_text(job, text))
    return checks


def _equals(field: str, value: str) -> Check:
    get = attrgetter(field)
    return lambda job: bool(get(job) == value)


def _in_ranges(job_id: int, ranges: Ranges) -> bool:
    place = bisect_right(ranges, (job_id, MAX_ID))
    return place > 0 and job_id <= ranges[place - 1][1]


def _has_text(job: Job, wanted: str) -> bool:
    command = job.command if isinstance(job.command, str) else " ".join(job.command)
    return wanted in command.lower() or wanted in job.name.lower()
