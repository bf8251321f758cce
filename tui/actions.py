"""What changes jobs: asked about first, and answered honestly. Each is a coroutine for a worker (:func:`begin`)."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Coroutine, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from retz.client import RetzError
from retz.client.types import Job, Results
from retz.model.job import MAX_PRIORITY, MIN_PRIORITY

from .columns import id_of, title_of
from .dialogs import Confirm, Prompt
from .states import look_of
from .text import amount, count, fit, printable

if TYPE_CHECKING:
    from .app import RetzApp
    from .filters import Filter

SHOWN = 8
"""Jobs that a question names one by one."""

NONE_RUNS = "none of them runs: they just leave the queue"

DONE = {"kill": "killed", "hold": "held", "release": "released", "update": "changed", "resubmit": "submitted again"}


def begin(app: RetzApp, action: Coroutine[Any, Any, None]) -> None:
    """Do it without holding up a key; what the server refuses is a notice."""
    app.run_worker(_guarded(app, action), group="actions")


async def _guarded(app: RetzApp, action: Coroutine[Any, Any, None]) -> None:
    try:
        await action
    except RetzError as error:
        app.tell_error(error)


async def kill(app: RetzApp, jobs: Sequence[Job]) -> None:
    """End jobs."""
    await _change(app, "kill", [job for job in jobs if not job.over] or jobs, grace_text(jobs))


async def hold(app: RetzApp, jobs: Sequence[Job]) -> None:
    """Keep queued jobs from starting."""
    await _change(app, "hold", jobs, "held jobs do not start until they are released")


async def release(app: RetzApp, jobs: Sequence[Job]) -> None:
    """Let held jobs start."""
    await _change(app, "release", jobs, "they take their places in the queue again")


async def resubmit(app: RetzApp, jobs: Sequence[Job]) -> None:
    """Make new jobs from the requests of these."""
    await _change(app, "resubmit", jobs, "new jobs with the same requests; these stay as they are")


async def priority(app: RetzApp, jobs: Sequence[Job]) -> None:
    """Ask for a priority, and give it to queued jobs."""
    if not jobs:
        return
    now = str(jobs[0].priority) if len({job.priority for job in jobs}) == 1 else ""
    what = f"job {id_of(jobs[0])}" if len(jobs) == 1 else f"{count(len(jobs))} jobs"
    answer = await app.push_screen_wait(
        Prompt(f"priority of {what} ({MIN_PRIORITY} first … {MAX_PRIORITY} last)", now, wrong_priority)
    )
    if answer:
        results = await app.session.client.many("update", [job.id for job in jobs], priority=int(answer))
        tell(app, "update", results)


def wrong_priority(text: str) -> str:
    """What is wrong with a priority that somebody types; empty if nothing is."""
    try:
        right = MIN_PRIORITY <= int(text) <= MAX_PRIORITY
    except ValueError:
        right = False
    return "" if right else f"a whole number from {MIN_PRIORITY} (runs first) to {MAX_PRIORITY} (runs last)"


async def kill_matching(app: RetzApp, wanted: Filter) -> None:
    """End every job that a filter means, also those that are not on the screen."""
    filters = {**app.session.everybody, **wanted.bulk}
    window = await app.session.client.list(
        limit=SHOWN, sort="-id", **{**app.session.everybody, "state": "LIVE", **wanted.parameters}
    )
    if not window.total:
        app.notify(f"no job matches {wanted.text!r}", markup=False)
        return
    lines = [*named(window.jobs, window.total), "", grace_text(window.jobs)]
    question = Confirm(f"kill ALL {count(window.total)} that match {wanted.text}?", lines, "kill them all")
    if await app.push_screen_wait(question):
        tell(app, "kill", await app.session.client.many("kill", None, **filters))


async def _change(app: RetzApp, action: str, jobs: Sequence[Job], note: str) -> None:
    if not jobs:
        return
    what = f"job {id_of(jobs[0])}" if len(jobs) == 1 else f"{count(len(jobs))} jobs"
    if await app.push_screen_wait(
        Confirm(f"{action} {what}?", [*named(jobs, len(jobs)), "", note], f"{action} {what}")
    ):
        tell(app, action, await app.session.client.many(action, [job.id for job in jobs]))


def named(jobs: Sequence[Job], total: int) -> list[str]:
    """The jobs by name, a line each, as far as a question has room."""
    lines = []
    for job in jobs[:SHOWN]:
        look = look_of(job)
        state, owner = fit(look.word, 8), fit(printable(job.owner), 8)
        lines.append(f"{id_of(job):>7}  {look.glyph} {state}  {owner}  {fit(title_of(job), 28)}".rstrip())
    if total > len(lines):
        lines.append(f"{'…':>7}  and {count(total - len(lines))} more")
    return lines


def grace_text(jobs: Iterable[Job]) -> str:
    """What killing means to these jobs."""
    jobs = list(jobs)
    graces = sorted({job.kill_grace_s for job in jobs if job.state in ("STARTING", "STARTED")})
    if not graces:
        return "it does not run: it just leaves the queue" if len(jobs) == 1 else NONE_RUNS
    low, high = amount(graces[0]), amount(graces[-1])
    return f"running ones get SIGTERM, and SIGKILL {low if low == high else f'{low} to {high}'} s later"


def summary(action: str, results: Results) -> str:
    """``3 killed, 1 had ended already``."""
    parts = [f"{count(results.ok)} {DONE[action]}"] if results.ok or not results.failed else []
    if len(results.results) == 1 and results.ok and results.results[0].new_id is not None:
        return f"submitted again: job {results.results[0].new_id}"
    reasons = Counter(_reason(result.id, result.error or "could not be") for result in results.results if not result.ok)
    return ", ".join(parts + [f"{count(number)} {reason}" for reason, number in reasons.most_common(3)])


def shell_line(job: Job) -> str:
    """The command as one would type it."""
    return job.command if isinstance(job.command, str) else shlex.join(job.command)


def _reason(job_id: int, error: str) -> str:
    if "has ended already" in error:
        return "had ended already"
    return f"not: {error.removeprefix(f'job {job_id} ')}"


def tell(app: RetzApp, action: str, results: Results) -> None:
    """A notice of what became of them."""
    text = printable(summary(action, results))
    app.notify(text, severity="warning" if results.failed else "information", timeout=6, markup=False)
    if app.pages:
        app.pages[-1].reload(now=True)
