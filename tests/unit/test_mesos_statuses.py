"""What a task status of Mesos means, in the words that a real one used."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retz.engine.mesos.statuses import MEANINGS, Verdict, read, result_of
from retz.engine.mesos.wire import Status
from tests.mesos_recordings import recorded_statuses


def status(state: str, source: str = "", reason: str = "", message: str = "", uuid: str | None = None) -> Status:
    """A status without the prefixes that all states, sources and reasons have."""
    return Status(
        task="7.1",
        agent="S1",
        state=f"TASK_{state}",
        source=f"SOURCE_{source}" if source else "",
        reason=f"REASON_{reason}" if reason else "",
        message=message,
        at=5.0,
        uuid=uuid,
    )


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("Command exited with status 0", (0, None)),
        ("Command exited with status 127", (127, None)),
        ("Command terminated with signal Killed", (None, 9)),
        ("Command terminated with signal Terminated", (None, 15)),
        ("Command terminated with signal Segmentation fault", (None, 11)),
        ("Command terminated with signal Segmentation fault (core dumped)", (None, 11)),
        ("Command terminated with signal Aborted (core dumped)", (None, 6)),
        ("Command terminated with signal Stopped (signal)", (None, 19)),
        ("Command terminated with signal Bad system call", (None, 31)),
        ("Command terminated with signal User defined signal 2", (None, 12)),
        ("Command terminated with signal Real-time signal 0", (None, 34)),
        ("Command terminated with signal Real-time signal 30 (core dumped)", (None, 64)),
        ("Command terminated with signal Unknown signal 33", (None, 33)),
        ("Command terminated with signal Something new", (None, None)),
        ("", (None, None)),
    ],
)
def test_results_in_messages(message: str, expected: tuple[int | None, int | None]) -> None:
    assert result_of(message) == expected


@pytest.mark.parametrize(
    ("given_status", "expected"),
    [
        (status("STAGING"), Verdict("starting")),
        (status("STARTING", "EXECUTOR", uuid="u"), Verdict("starting")),
        (status("RUNNING", "EXECUTOR", uuid="u"), Verdict("running")),
        (status("RUNNING", "MASTER", "AGENT_REREGISTERED", "Unreachable agent re-reregistered"), Verdict("running")),
        (status("KILLING", "EXECUTOR", uuid="u"), Verdict("killing")),
        (status("FINISHED", "EXECUTOR", message="Command exited with status 0", uuid="u"), Verdict("ended", 0)),
        (status("FAILED", "EXECUTOR", message="Command exited with status 3", uuid="u"), Verdict("ended", 3)),
        (
            status("FAILED", "EXECUTOR", message="Command terminated with signal Killed", uuid="u"),
            Verdict("ended", None, 9),
        ),
        (
            status("FAILED", "EXECUTOR", message="Command exited with status 0", uuid="u"),
            Verdict("ended", 0, reason="exit"),
        ),
        (status("FAILED", "EXECUTOR", message="oh no", uuid="u"), Verdict("ended", reason="exit", message="oh no")),
        (
            status(
                "FAILED", "EXECUTOR", "MAX_COMPLETION_TIME_REACHED", "Command terminated with signal Terminated", "u"
            ),
            Verdict("ended", None, 15, "timeout"),
        ),
        (
            status(
                "FAILED",
                "AGENT",
                "CONTAINER_LIMITATION_MEMORY",
                "Memory limit exceeded: Requested: 32MB Maximum Used: 32MB\n\nMEMORY STATISTICS: \ncache 0",
                "u",
            ),
            Verdict("ended", reason="oom", message="Memory limit exceeded: Requested: 32MB Maximum Used: 32MB"),
        ),
        (
            status("FAILED", "AGENT", "CONTAINER_LIMITATION_DISK", "Disk usage (3MB) exceeds quota (2MB)", "u"),
            Verdict("ended", reason="disk", message="Disk usage (3MB) exceeds quota (2MB)"),
        ),
        (
            status(
                "FAILED",
                "AGENT",
                "CONTAINER_LAUNCH_FAILED",
                "Failed to launch container: Failed to fetch all URIs for container 'c': exited with status 1",
                "u",
            ),
            Verdict(
                "ended",
                reason="fetch",
                message="not all files of its application could be fetched: stderr in its sandbox says which, and why",
            ),
        ),
        (
            status(
                "FAILED",
                "AGENT",
                "CONTAINER_LAUNCH_FAILED",
                "Failed to launch container: Unsupported container image type: DOCKER",
                "u",
            ),
            Verdict(
                "ended",
                reason="image",
                message="agent S1 takes no images: its operator must start it with --image_providers "
                "(Unsupported container image type: DOCKER)",
            ),
        ),
        (
            status("FAILED", "AGENT", "CONTAINER_LAUNCH_FAILED", "Failed to launch container: no namespaces", "u"),
            Verdict("ended", reason="start", message="no namespaces"),
        ),
        (
            status("FAILED", "AGENT", "EXECUTOR_TERMINATED", "Abnormal executor termination: unknown container", "u"),
            Verdict(
                "ended",
                reason="image",
                message="agent S1 cannot run its container (no Docker there?): "
                "Abnormal executor termination: unknown container",
            ),
        ),
        (
            status("FAILED", "AGENT", "EXECUTOR_TERMINATED", "Executor terminated", "u"),
            Verdict("lost", message="its result was lost on agent S1: Executor terminated"),
        ),
        (
            status("FAILED", "AGENT", "EXECUTOR_REREGISTRATION_TIMEOUT", "Executor did not reregister", "u"),
            Verdict("lost", message="Executor did not reregister"),
        ),
        (
            status("DROPPED", "AGENT", "EXECUTOR_TERMINATED", "Failed to chown: No such user 'nosuchuser'", "u"),
            Verdict("ended", reason="start", message="there is no user 'nosuchuser' on agent S1"),
        ),
        (
            status("DROPPED", "AGENT", "TASK_INVALID", "Cannot reuse an already existing executor", "u"),
            Verdict("lost", message="Cannot reuse an already existing executor"),
        ),
        (
            status("DROPPED", "MASTER", "INVALID_OFFERS", "Task launched with invalid offers: Offer O1 is gone"),
            Verdict("not_started", message="Task launched with invalid offers: Offer O1 is gone"),
        ),
        (status("DROPPED", "AGENT", "RECONCILIATION", "Unknown here", "u"), Verdict("gone", message="Unknown here")),
        (
            status("LOST", "MASTER", "INVALID_OFFERS", "Task launched with invalid offers: No offers specified"),
            Verdict("not_started", message="Task launched with invalid offers: No offers specified"),
        ),
        (
            status("LOST", "MASTER", "AGENT_DISCONNECTED", "Agent 127.0.0.1 disconnected"),
            Verdict("lost", message="Agent 127.0.0.1 disconnected"),
        ),
        (status("LOST", "MASTER", "SOMETHING_NEW"), Verdict("lost", message="something new")),
        (status("LOST"), Verdict("lost", message="TASK_LOST")),
        (
            status("KILLED", "EXECUTOR", "AGENT_DRAINING", "Command terminated with signal Terminated", "u"),
            Verdict("lost", message="agent S1 is being drained"),
        ),
        (
            status("KILLED", "EXECUTOR", message="Command terminated with signal Terminated", uuid="u"),
            Verdict("lost", message="Command terminated with signal Terminated"),
        ),
        (
            status("KILLED", "AGENT", "TASK_KILLED_DURING_LAUNCH", "Killed before delivery to the executor", "u"),
            Verdict("not_started", message="Killed before delivery to the executor"),
        ),
        (
            status("GONE_BY_OPERATOR", "MASTER", "AGENT_REMOVED_BY_OPERATOR", "Agent has been marked gone"),
            Verdict("lost", message="agent S1 was marked as gone by an operator"),
        ),
        (status("UNREACHABLE", "MASTER", "AGENT_REMOVED", "health check timed out"), Verdict("unreachable")),
        (status("UNKNOWN", "MASTER", "RECONCILIATION", "Reconciliation: Task is unknown"), Verdict("unknown_agent")),
        (status("GONE", "MASTER", "RECONCILIATION", "Task is unknown"), Verdict("gone", message="Task is unknown")),
        (status("ERROR", "MASTER", "TASK_INVALID", "Task has duplicate ID: 7.1"), Verdict("ignore")),
        (
            status("ERROR", "MASTER", "TASK_INVALID", "Total resources cpus:2 required is more than available cpus:1"),
            Verdict("lost", message="Total resources cpus:2 required is more than available cpus:1"),
        ),
        (
            status("ERROR", "MASTER", "TASK_INVALID", "Task uses no resources"),
            Verdict("ended", reason="start", message="Task uses no resources"),
        ),
        (status("DREAMING", "AGENT", "SOMETHING_NEW", "zzz", "u"), Verdict("ignore")),
    ],
)
def test_meaning(given_status: Status, expected: Verdict) -> None:
    assert read(given_status) == expected


@pytest.mark.parametrize(
    ("given_status", "expected"),
    [
        (
            status("KILLED", "EXECUTOR", message="Command terminated with signal Killed", uuid="u"),
            Verdict("ended", signal=9),
        ),
        (status("KILLED", "EXECUTOR", message="Command exited with status 0", uuid="u"), Verdict("ended", 0)),
        (
            status("KILLED", "EXECUTOR", "AGENT_DRAINING", "Command terminated with signal Terminated", "u"),
            Verdict("ended", signal=15),
        ),
        (
            status("KILLED", "AGENT", "TASK_KILLED_DURING_LAUNCH", "Killed before delivery to the executor", "u"),
            Verdict("ended", message="Killed before delivery to the executor"),
        ),
    ],
)
def test_a_kill_that_was_asked_for_is_an_end(given_status: Status, expected: Verdict) -> None:
    assert read(given_status, asked=True) == expected


@pytest.mark.parametrize("state", ["FINISHED", "FAILED", "KILLED", "DROPPED"])
@pytest.mark.parametrize("reason", ["RECONCILIATION", "AGENT_REREGISTERED"])
def test_the_masters_summary_of_an_end_is_not_its_result(state: str, reason: str) -> None:
    summary = read(status(state, "MASTER", reason, "Reconciliation: Latest task state"))
    assert summary.kind == "over"
    assert summary.exit_code == (0 if state == "FINISHED" else None)


@pytest.mark.parametrize("state", ["ERROR", "DROPPED", "LOST"])
def test_a_second_launch_that_is_refused_does_not_concern_the_first(state: str) -> None:
    refused = status(state, "MASTER", "TASK_INVALID" if state == "ERROR" else "INVALID_OFFERS", "no")
    assert read(refused).kind != "ignore"
    assert read(refused, alive=True).kind == "ignore"


def test_every_recorded_status_means_something() -> None:
    seen = list(recorded_statuses())
    assert len(seen) > 300
    ignored = {s.message.partition(":")[0] for s in seen if read(s).kind == "ignore"}
    assert ignored == {"Task has duplicate ID"}
    for s in seen:
        if s.source == "SOURCE_EXECUTOR" and s.state in ("TASK_FINISHED", "TASK_FAILED", "TASK_KILLED"):
            assert result_of(s.message) != (None, None), s


def test_every_recorded_state_and_reason_is_explained() -> None:
    states = {s.state for s in recorded_statuses()}
    alive = {"TASK_STAGING", "TASK_STARTING", "TASK_RUNNING", "TASK_KILLING"}
    assert states - alive <= MEANINGS.keys()
    assert {s.reason for s in recorded_statuses() if s.reason} <= MEANINGS.keys()


@given(
    state=st.sampled_from([*(name.removeprefix("TASK_") for name in MEANINGS if name.startswith("TASK_")), "NEW", ""]),
    reason=st.sampled_from([*(name for name in MEANINGS if name.startswith("REASON_")), "REASON_NEW", ""]),
    source=st.sampled_from(["MASTER", "AGENT", "EXECUTOR", "NEW"]),
    message=st.text() | st.sampled_from(["Command exited with status 1", "Executor terminated"]),
    uuid=st.none() | st.just("u"),
    asked=st.booleans(),
    alive=st.booleans(),
)
def test_nothing_breaks_it(
    state: str, reason: str, source: str, message: str, uuid: str | None, asked: bool, alive: bool
) -> None:
    verdict = read(
        Status("7.1", "S1", f"TASK_{state}", f"SOURCE_{source}", reason, message, 5.0, uuid), asked=asked, alive=alive
    )
    assert verdict.message is None or "\n" not in verdict.message
    if verdict.kind == "ended" and state != "FINISHED" and not asked:
        assert verdict.exit_code or verdict.signal or verdict.reason, "the job must not seem to have ended well"
