"""Prometheus text. Names no user, job or application: the page is unsigned."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import psutil

from retz.model.job import ENDED_STATES, LIVE_STATES
from retz.model.resources import RESOURCE_NAMES, Resources

from .api import Api

LINES = 500
"""Made in one turn of the loop: two milliseconds."""

Sample = tuple[str, dict[str, str], float]
_PROCESS = psutil.Process()


class Metric(NamedTuple):
    """One family: its samples are (suffix of the name, labels, value)."""

    name: str
    kind: str
    help: str
    samples: Iterable[Sample]


async def render(api: Api, journal_bytes: int) -> str:
    """The whole page. Made piece by piece: that of 5 000 agents has 80 000 lines and takes a third of a second.

    Args:
        journal_bytes: See :func:`size_of_journals`.
    """
    journals = _one("retz_journal_bytes", "gauge", "Size of the journals kept on disk.", journal_bytes)
    families = chain(
        _queue(api),
        _totals(api),
        _agents(api),
        _store(api),
        (journals,),
        _skylines(api),
        _notifications(api),
        _http(api),
        _process(api),
    )
    lines = chain.from_iterable(map(_lines, families))
    pieces: list[str] = []
    while piece := "".join(islice(lines, LINES)):
        pieces.append(piece)
        if len(pieces) > 1:  # a small page is made at once
            await asyncio.sleep(0)
    return "".join(pieces)


def size_of_journals(data_dir: Path) -> int:
    """Bytes of all journals in a data directory. Blocks."""
    total = 0
    with os.scandir(data_dir / "store") as entries:
        for entry in entries:
            if entry.name.startswith("journal-"):
                # One that was just merged may be gone by now.
                with contextlib.suppress(FileNotFoundError):
                    total += entry.stat().st_size
    return total


def _lines(metric: Metric) -> Iterator[str]:
    yield f"# HELP {metric.name} {metric.help}\n# TYPE {metric.name} {metric.kind}\n"
    for suffix, labels, value in metric.samples:
        inside = ",".join(f'{name}="{_escaped(text)}"' for name, text in labels.items())
        marked = f"{{{inside}}}" if inside else ""
        yield f"{metric.name}{suffix}{marked} {value:.17g}\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _one(name: str, kind: str, text: str, value: float) -> Metric:
    return Metric(name, kind, text, [("", {}, value)])


def _queue(api: Api) -> Iterable[Metric]:
    core = api.core
    jobs = core.db.jobs
    numbers = {state: jobs.count("state", state) for state in LIVE_STATES}
    numbers["STARTED"] -= jobs.started_arrays  # their tasks are counted
    states: list[Sample] = [("", {"state": state}, float(number)) for state, number in numbers.items()]
    yield Metric("retz_jobs", "gauge", "Live jobs by state.", states)
    yield _one("retz_queue_length", "gauge", "Queued jobs, held ones left out.", len(core.scheduler))
    yield _one("retz_running", "gauge", "Jobs that hold resources.", core.running())
    modes = [("", {"mode": mode}, float(core.mode == mode)) for mode in ("open", "paused", "draining")]
    yield Metric("retz_queue_mode", "gauge", "1 for the queue's mode.", modes)
    yield _one("retz_up", "gauge", "1 if jobs can be accepted and started, 0 after a failure.",
               float(core.read_only is None and core.engine_failure is None))  # fmt: skip


def _totals(api: Api) -> Iterable[Metric]:
    counters = api.core.counters
    yield _one("retz_jobs_submitted_total", "counter", "Jobs accepted.", counters.submitted)
    ended: list[Sample] = [("", {"result": state}, float(getattr(counters, state.lower()))) for state in ENDED_STATES]
    yield Metric("retz_jobs_ended_total", "counter", "Jobs ended, by result.", ended)
    yield _one("retz_attempts_launched_total", "counter", "Attempts handed to the engine.", counters.launched)
    yield _one("retz_attempts_lost_total", "counter", "Attempts whose machine or result was lost.", counters.lost)
    yield _one("retz_jobs_retried_total", "counter", "Jobs queued again after a loss.", counters.retried)
    yield _one("retz_jobs_archived_total", "counter", "Ended jobs moved to the archive.", counters.archived)


def _agents(api: Api) -> Iterable[Metric]:
    core = api.core
    agents = tuple(core.engine.agents())
    active = (("", {"agent": agent.id}, float(agent.state == "active")) for agent in agents)
    yield Metric(
        "retz_agent_active",
        "gauge",
        "1 if the agent takes jobs; 0 while it is unreachable, draining or deactivated.",
        active,
    )
    total = (sample for agent in agents for sample in _amounts(agent.id, agent.total))
    yield Metric("retz_agent_resources_total", "gauge", "What an agent has; mem and disk in MiB.", total)
    held = (sample for agent in agents for sample in _amounts(agent.id, core.used(agent)))
    yield Metric("retz_agent_resources_used", "gauge", "What running jobs hold of it; mem and disk in MiB.", held)
    others = (sample for agent in agents for sample in _amounts(agent.id, agent.others))
    yield Metric("retz_agent_resources_others", "gauge", "What others of the same cluster hold of it.", others)


def _amounts(agent: str, amount: Resources) -> Iterable[Sample]:
    for name in RESOURCE_NAMES:
        yield "", {"agent": agent, "resource": name}, float(getattr(amount, name))


def _store(api: Api) -> Iterable[Metric]:
    db = api.core.db
    commits, seconds = db.commits
    yield _one("retz_journal_commits_total", "counter", "Group commits: one fsync each.", commits)
    yield _one("retz_journal_fsync_seconds_total", "counter", "Time those fsyncs took.", seconds)
    yield _one("retz_journal_sequence", "counter", "Number of the last durable change.", db.durable_seq)
    yield _one("retz_read_only", "gauge", "1 after a failed write: nothing is accepted.", float(db.failed is not None))


def _skylines(api: Api) -> Iterable[Metric]:
    skylines = api.core.skylines
    yield _one("retz_skylines_waiting", "gauge", "Runs of pipelines to be written.", skylines.runs.waiting)
    yield _one("retz_skylines_recorded_total", "counter", "Runs written to a history.", skylines.recorded)
    yield _one("retz_skylines_failures_total", "counter", "Tries to write one that failed.", skylines.failures)


def _notifications(api: Api) -> Iterable[Metric]:
    outbox = api.core.outbox
    tally = outbox.tally
    yield _one("retz_notifications_waiting", "gauge", "Webhooks to be called.", len(outbox.waiting))
    over = {"delivered": tally.delivered, "given-up": tally.given_up, "dropped": tally.dropped}
    samples: list[Sample] = [("", {"result": result}, float(count)) for result, count in over.items()]
    yield Metric("retz_notifications_total", "counter", "Notifications, by what became of them.", samples)
    yield _one("retz_notification_failures_total", "counter", "Calls of webhooks that failed.", tally.failed_calls)
    runs: list[Sample] = [("", {"result": r}, float(tally.commands[r])) for r in ("ok", "failed", "timeout", "dropped")]
    yield Metric("retz_notify_command_total", "counter", "Runs of retz.notify.command, by result.", runs)


def _http(api: Api) -> Iterable[Metric]:
    requests: list[Sample] = [
        ("", {"method": method, "route": route, "status": str(status)}, float(count))
        for (method, route, status), count in sorted(api.requests.items())
    ]
    yield Metric("retz_http_requests_total", "counter", "Requests answered, by route and status.", requests)
    yield _one("retz_event_clients", "gauge", "Open event streams.", len(api.hub.streams()))
    yield _one("retz_event_resets_total", "counter", "Event streams that were too slow.", api.hub.dropped)


def _process(api: Api) -> Iterable[Metric]:
    times = os.times()
    yield _one("retz_process_resident_bytes", "gauge", "Resident memory of the server.", _PROCESS.memory_info().rss)
    yield _one("retz_process_cpu_seconds_total", "counter", "Processor time of the server.", times.user + times.system)
    yield _one("retz_process_threads", "gauge", "Threads of the server.", _PROCESS.num_threads())
    yield _one("retz_uptime_seconds", "gauge", "Since the server started.", max(0.0, time.time() - api.core.started_at))
