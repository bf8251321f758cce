"""What a task status of Mesos means for a job.

Mesos says a state, a reason and a sentence; exit code and signal are only in the sentence. :func:`read` turns one
status into a :class:`Verdict`, without looking at what was said before: that is :mod:`.tracker`'s business.
States and reasons of later versions of Mesos are no error: an unknown state is passed over, an unknown reason judged
by its state.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal

from msgspec import Struct

from retz.model.job import Reason

from .wire import Status

Kind = Literal[
    "starting",  # on its way: staged, or its executor runs
    "running",
    "killing",
    "ended",  # it is over, and this is its result
    "over",  # the master's summary says that it is over; the agent's own update, with the result, is still to come
    "lost",  # it is over through no fault of its own, or its result is lost
    "not_started",  # nothing of it ever ran
    "unreachable",  # the master cannot reach its agent
    "unknown_agent",  # the master does not know its agent (yet)
    "gone",  # its agent is there and does not know it
    "ignore",  # says nothing
]


class Verdict(Struct, frozen=True, gc=False):
    """What a status means.

    Attributes:
        exit_code, signal: Of ``ended`` and ``over``, if the status tells.
        reason: Of ``ended``: None to derive it from exit code and signal.
        message: For the user; None where exit code and signal say it all.
    """

    kind: Kind
    exit_code: int | None = None
    signal: int | None = None
    reason: Reason | None = None
    message: str | None = None


MEANINGS: dict[str, str] = {
    "TASK_FINISHED": "The command exited with code 0.",
    "TASK_FAILED": "The command ended by itself with another exit code, or by a signal: the job fails.",
    "TASK_KILLED": "The end of a job that was killed; if nobody asked, the attempt counts as lost.",
    "TASK_LOST": "The machine's fault: the attempt counts as lost and the job is tried again.",
    "TASK_DROPPED": "The launch went wrong on the way: as TASK_LOST, but for the cases below.",
    "TASK_ERROR": "The master refuses the task: the job fails with `start` and the master's words.",
    "TASK_UNREACHABLE": "The master cannot reach the agent: it is waited for (`retz.mesos.unreachable-wait`).",
    "TASK_UNKNOWN": "The master does not know the agent, perhaps not yet: waited for as TASK_UNREACHABLE.",
    "TASK_GONE": "The agent is there and does not know the task: lost, or back in the queue if it never ran.",
    "TASK_GONE_BY_OPERATOR": "An operator has marked the agent as gone: lost.",
    "REASON_MAX_COMPLETION_TIME_REACHED": "The job ran into its time limit: `timeout`.",
    "REASON_CONTAINER_LIMITATION_MEMORY": "It used more memory than it asked for: `oom`.",
    "REASON_CONTAINER_LIMITATION_DISK": "It wrote more to its sandbox than it asked for: `disk`.",
    "REASON_CONTAINER_LIMITATION": "It went over a limit of the agent's isolators: the job fails.",
    "REASON_CONTAINER_LAUNCH_FAILED": "Its files (`fetch`), its image (`image`) or its container (`start`) failed.",
    "REASON_COMMAND_EXECUTOR_FAILED": "Its command could not be started: `start`.",
    "REASON_EXECUTOR_TERMINATED": "The command's result is lost with the process that watched it: lost. With "
    "`No such user` the job fails with `start`, with `unknown container` with `image`.",
    "REASON_INVALID_OFFERS": "The offer was void when the launch came: back in the queue, no retry is used.",
    "REASON_TASK_INVALID": "As TASK_ERROR. `Task has duplicate ID` is passed over: the task of that id runs on; "
    "`more than available` counts as lost.",
    "REASON_TASK_KILLED_DURING_LAUNCH": "Killed before it ran.",
    "REASON_AGENT_REMOVED": "The agent is gone or does not answer: waited for, or lost if it signed off.",
    "REASON_AGENT_REMOVED_BY_OPERATOR": "An operator has marked the agent as gone: lost.",
    "REASON_AGENT_DISCONNECTED": "The agent went away and the framework has no checkpoints there: lost.",
    "REASON_AGENT_DRAINING": "An operator drains the agent: lost, tried again elsewhere.",
    "REASON_AGENT_RESTARTED": "The agent was restarted and did not find it again: lost.",
    "REASON_AGENT_REREGISTERED": "The agent is back: the state is what it says now.",
    "REASON_AGENT_UNKNOWN": "The master does not know the agent: lost.",
    "REASON_CONTAINER_PREEMPTED": "Its resources were taken back: lost.",
    "REASON_CONTAINER_UPDATE_FAILED": "The agent could not set up its container's limits: lost.",
    "REASON_EXECUTOR_PREEMPTED": "Its resources were taken back: lost.",
    "REASON_EXECUTOR_REGISTRATION_TIMEOUT": "The agent did not get it started in time: lost.",
    "REASON_EXECUTOR_REREGISTRATION_TIMEOUT": "Not found again after a restart of the agent: lost.",
    "REASON_EXECUTOR_UNREGISTERED": "The process that watched it is gone: lost.",
    "REASON_GC_ERROR": "The agent could not prepare its sandbox: lost.",
    "REASON_IO_SWITCHBOARD_EXITED": "The process that takes its output is gone: lost.",
    "REASON_RECONCILIATION": "The answer to a question of ours; the state counts.",
}
"""What becomes of a job, by Mesos's word for it: for docs/mesos.md."""

_ENDS: dict[str, Reason | None] = {
    "REASON_MAX_COMPLETION_TIME_REACHED": "timeout",
    "REASON_CONTAINER_LIMITATION_MEMORY": "oom",
    "REASON_CONTAINER_LIMITATION_DISK": "disk",
    "REASON_COMMAND_EXECUTOR_FAILED": "start",
}
_LOSSES = frozenset(
    (
        "REASON_AGENT_DISCONNECTED",
        "REASON_AGENT_DRAINING",
        "REASON_AGENT_REMOVED",
        "REASON_AGENT_REMOVED_BY_OPERATOR",
        "REASON_AGENT_RESTARTED",
        "REASON_AGENT_UNKNOWN",
        "REASON_CONTAINER_PREEMPTED",
        "REASON_CONTAINER_UPDATE_FAILED",
        "REASON_EXECUTOR_PREEMPTED",
        "REASON_EXECUTOR_REGISTRATION_TIMEOUT",
        "REASON_EXECUTOR_REREGISTRATION_TIMEOUT",
        "REASON_EXECUTOR_UNREGISTERED",
        "REASON_GC_ERROR",
        "REASON_IO_SWITCHBOARD_EXITED",
    )
)
"""With TASK_FAILED too they are the machine's fault."""

_SUMMARIES = ("REASON_RECONCILIATION", "REASON_AGENT_REREGISTERED")

_SIGNALS: dict[str, int] = {
    name: number
    for number, name in enumerate(
        (
            "Hangup",
            "Interrupt",
            "Quit",
            "Illegal instruction",
            "Trace/breakpoint trap",
            "Aborted",
            "Bus error",
            "Floating point exception",
            "Killed",
            "User defined signal 1",
            "Segmentation fault",
            "User defined signal 2",
            "Broken pipe",
            "Alarm clock",
            "Terminated",
            "Stack fault",
            "Child exited",
            "Continued",
            "Stopped (signal)",
            "Stopped",
            "Stopped (tty input)",
            "Stopped (tty output)",
            "Urgent I/O condition",
            "CPU time limit exceeded",
            "File size limit exceeded",
            "Virtual timer expired",
            "Profiling timer expired",
            "Window changed",
            "I/O possible",
            "Power failure",
            "Bad system call",
        ),
        start=1,
    )
}
"""Linux signals by their names in the agents' C library: the server may run on another system."""

_FIRST_REALTIME = 34
_EXITED = re.compile(r"exited with status (\d+)")
_SIGNALLED = re.compile(r"terminated with signal (.+?)(?: \(core dumped\))?$", re.MULTILINE)
_NUMBERED = re.compile(r"(Real-time|Unknown) signal (\d+)")
_USER = re.compile(r"No such user '([^']*)'")
_IMAGE = re.compile(r"\b(image|docker|manifest|registry|pull|provision\w*|appc|curl)\b", re.IGNORECASE)

_MESSAGE_LENGTH = 1000

_IGNORE = Verdict("ignore")


def read(status: Status, *, asked: bool = False, alive: bool = False) -> Verdict:
    """What this status means.

    Args:
        asked: We have asked Mesos to kill this task.
        alive: It was seen alive: a refused launch of it was a second one, which does not concern the first.
    """
    known = _STATES.get(status.state)
    if known is None:
        return _IGNORE
    if isinstance(known, Verdict):
        return known
    if alive and (status.state == "TASK_ERROR" or status.reason == "REASON_INVALID_OFFERS"):
        return _IGNORE
    return known(status, asked)


def result_of(message: str) -> tuple[int | None, int | None]:
    """Exit code and signal out of Mesos's sentence about a command; None for what it does not tell."""
    if match := _EXITED.search(message):
        return int(match[1]), None
    if match := _SIGNALLED.search(message):
        return None, _signal(match[1].strip())
    return None, None


def _signal(name: str) -> int | None:
    if match := _NUMBERED.fullmatch(name):
        return int(match[2]) + (_FIRST_REALTIME if match[1] == "Real-time" else 0)
    return _SIGNALS.get(name)


def _finished(status: Status, _asked: bool) -> Verdict:
    return Verdict("over" if _is_summary(status) else "ended", exit_code=0)


def _failed(status: Status, _asked: bool) -> Verdict:
    if _is_summary(status):
        return _over(status)
    if status.reason in _LOSSES:
        return _lost(status)
    if status.reason == "REASON_CONTAINER_LAUNCH_FAILED":
        return _launch_failed(status)
    if status.reason == "REASON_EXECUTOR_TERMINATED":
        return _executor_ended(status)
    reason = _ENDS.get(status.reason)
    code, signal = result_of(status.message)
    if reason is None and signal is None and not code:
        reason = "exit"  # it failed, though its code does not say so
    message = None if code is not None or signal is not None else _first_line(status.message)
    return Verdict("ended", code, signal, reason, message)


def _launch_failed(status: Status) -> Verdict:
    text = _first_line(status.message).removeprefix("Failed to launch container: ")
    if "fetch all URIs" in text:
        message = "not all files of its application could be fetched: stderr in its sandbox says which, and why"
        return Verdict("ended", reason="fetch", message=message)
    if "Unsupported container image" in text:
        message = f"agent {status.agent} takes no images: its operator must start it with --image_providers ({text})"
        return Verdict("ended", reason="image", message=message)
    return Verdict("ended", reason="image" if _IMAGE.search(text) else "start", message=text)


def _executor_ended(status: Status) -> Verdict:
    if "unknown container" in status.message:
        message = f"agent {status.agent} cannot run its container (no Docker there?): {_first_line(status.message)}"
        return Verdict("ended", reason="image", message=message)
    return Verdict("lost", message=f"its result was lost on agent {status.agent}: {_first_line(status.message)}")


def _killed(status: Status, asked: bool) -> Verdict:
    if _is_summary(status):
        return _over(status)
    if asked:
        code, signal = result_of(status.message)
        told = code is not None or signal is not None
        return Verdict("ended", code, signal, message=None if told else _first_line(status.message))
    if status.reason == "REASON_TASK_KILLED_DURING_LAUNCH":
        return Verdict("not_started", message=_first_line(status.message))
    return _lost(status)


def _dropped(status: Status, _asked: bool) -> Verdict:
    """TASK_DROPPED, and TASK_LOST that stands for it."""
    if status.state == "TASK_DROPPED" and _is_summary(status):
        return _over(status)
    if status.reason == "REASON_INVALID_OFFERS":
        return Verdict("not_started", message=_first_line(status.message))
    if match := _USER.search(status.message):
        return Verdict("ended", reason="start", message=f"there is no user {match[1]!r} on agent {status.agent}")
    if status.reason == "REASON_RECONCILIATION":
        return Verdict("gone", message=_first_line(status.message))
    return _lost(status)


def _gone(status: Status, _asked: bool) -> Verdict:
    return Verdict("gone", message=_first_line(status.message))


def _gone_by_operator(status: Status, _asked: bool) -> Verdict:
    return Verdict("lost", message=f"agent {status.agent} was marked as gone by an operator")


def _refused(status: Status, _asked: bool) -> Verdict:
    """TASK_ERROR: the master handed it to no agent."""
    message = _first_line(status.message)
    if "duplicate ID" in message:
        return _IGNORE
    if "more than available" in message:
        return Verdict("lost", message=message)
    return Verdict("ended", reason="start", message=message)


def _is_summary(status: Status) -> bool:
    return status.uuid is None and status.source == "SOURCE_MASTER" and status.reason in _SUMMARIES


def _over(status: Status) -> Verdict:
    state = status.state.removeprefix("TASK_").lower()
    message = f"Mesos says that it {state}, but its result was never delivered from agent {status.agent}"
    return Verdict("over", message=message)


def _lost(status: Status) -> Verdict:
    if status.reason == "REASON_AGENT_DRAINING":
        return Verdict("lost", message=f"agent {status.agent} is being drained")
    word = status.reason.removeprefix("REASON_").lower().replace("_", " ")
    return Verdict("lost", message=_first_line(status.message) or word or status.state)


def _first_line(text: str) -> str:
    """Some messages go on with tables of memory statistics."""
    return text.strip().partition("\n")[0][:_MESSAGE_LENGTH]


_STATES: dict[str, Verdict | Callable[[Status, bool], Verdict]] = {
    "TASK_STAGING": Verdict("starting"),
    "TASK_STARTING": Verdict("starting"),
    "TASK_RUNNING": Verdict("running"),
    "TASK_KILLING": Verdict("killing"),
    "TASK_FINISHED": _finished,
    "TASK_FAILED": _failed,
    "TASK_KILLED": _killed,
    "TASK_ERROR": _refused,
    "TASK_DROPPED": _dropped,
    "TASK_LOST": _dropped,
    "TASK_GONE": _gone,
    "TASK_GONE_BY_OPERATOR": _gone_by_operator,
    "TASK_UNREACHABLE": Verdict("unreachable"),
    "TASK_UNKNOWN": Verdict("unknown_agent"),
}
