"""The table of tasks: what the server is told, what Mesos is answered, and that nothing waits for ever."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retz.engine.base import Assignment, KnownTask, Task, Update
from retz.engine.mesos.reconciling import Reconciler
from retz.engine.mesos.tracker import (
    AGAIN_MOST_S,
    ASK_AGAIN_S,
    KILL_AGAIN_S,
    PER_TICK,
    RESULT_WAIT_S,
    SETTLE_S,
    TELL_AGAIN_S,
    Outcome,
    Tracker,
)
from retz.engine.mesos.wire import Ack, Status, TaskRef
from retz.model.resources import Resources
from tests.mesos_recordings import recorded_statuses

WAIT_S = 600.0
WALL = 1_800_000_000.0
ROOM = Resources(1, 64)


def task(name: str = "7.1", agent: str = "S1", gpus: tuple[str, ...] = ()) -> Task:
    """A task as the server launches it."""
    return Task(id=name, agent=agent, command="true", environment={}, resources=ROOM, assignment=Assignment(gpus=gpus))


def known(name: str = "7.1", agent: str = "S1", **more: Any) -> KnownTask:
    """A task that an earlier server has launched."""
    return KnownTask(id=name, agent=agent, resources=ROOM, **more)


def news(state: str, uuid: str | None = None, name: str = "7.1", **more: Any) -> Status:
    """A status; of the executor if it has a uuid, else of the master."""
    source = "SOURCE_MASTER" if uuid is None else "SOURCE_EXECUTOR"
    return Status(**{"task": name, "agent": "S1", "state": f"TASK_{state}", "source": source, "uuid": uuid, **more})


def answer(state: str, name: str = "7.1", **more: Any) -> Status:
    """The master's answer to a question."""
    return news(state, name=name, reason="REASON_RECONCILIATION", message="Reconciliation: so it is", **more)


DONE = "Command exited with status 0"


class Bench:
    """A tracker with a clock, and short words for what the tests do with it."""

    def __init__(self, *tasks: Task, known: Sequence[KnownTask] = (), wait_s: float = WAIT_S) -> None:
        self.now = 1000.0
        self.tracker = Tracker(unreachable_wait_s=wait_s)
        self.tracker.adopt(known, self.now)
        self.first = self.tracker.subscribed(self.now)
        self.tracker.launched(tasks, self.now)

    @property
    def wall(self) -> float:
        return WALL + self.now

    def apply(self, *statuses: Status) -> Outcome:
        return self.tracker.apply(statuses, self.now, self.wall)

    def after(self, seconds: float) -> Outcome:
        self.now += seconds
        return self.tracker.tick(self.now, self.wall)

    def acknowledge(self, outcome: Outcome) -> list[Ack]:
        return self.tracker.acknowledged([update.seq for update in outcome.updates])


def kinds(outcome: Outcome) -> list[str]:
    """What the server is told."""
    return [update.kind for update in outcome.updates]


def told(outcome: Outcome) -> Update:
    """The one thing that the server is told."""
    (update,) = outcome.updates
    return update


# -- the ordinary life ------------------------------------------------------------------------------------------


def test_a_life_is_told_and_acknowledged_only_when_durable() -> None:
    bench = Bench(task())
    starting = bench.apply(news("STARTING", "a"))
    assert (starting.updates, starting.acks) == ([], [Ack("7.1", "S1", "a")])
    running = bench.apply(news("RUNNING", "b", at=WALL + 900))
    assert (told(running).kind, told(running).at, running.acks) == ("started", WALL + 900, [])
    assert bench.acknowledge(running) == [Ack("7.1", "S1", "b")]
    ended = bench.apply(news("FINISHED", "c", message=DONE, at=WALL + 950))
    assert (told(ended).kind, told(ended).exit_code, told(ended).started) == ("ended", 0, WALL + 900)
    assert ended.acks == [] and len(bench.tracker) == 0
    assert bench.acknowledge(ended) == [Ack("7.1", "S1", "c")]
    assert bench.tracker.agent_of("7.1") is None


def test_times_of_a_clock_that_is_ahead_are_not_believed() -> None:
    bench = Bench(task())
    assert told(bench.apply(news("RUNNING", "b", at=WALL + 5e6))).at == bench.wall
    assert told(bench.apply(news("FAILED", "c", at=WALL + 5e6))).at == bench.wall


def test_a_repeated_status_is_told_once_and_acknowledged_as_its_update_is() -> None:
    bench = Bench(task())
    running = bench.apply(news("RUNNING", "b"))
    assert bench.apply(news("RUNNING", "b")) == Outcome()
    assert bench.acknowledge(running) == [Ack("7.1", "S1", "b")]
    assert bench.apply(news("RUNNING", "b")) == Outcome(acks=[Ack("7.1", "S1", "b")])
    ended = bench.apply(news("FINISHED", "c"), news("FINISHED", "c"))
    assert kinds(ended) == ["ended"] and ended.acks == []
    assert bench.acknowledge(ended) == [Ack("7.1", "S1", "c")]
    assert bench.apply(news("FINISHED", "c")) == Outcome(acks=[Ack("7.1", "S1", "c")])


def test_an_executors_word_waits_for_what_the_masters_word_made() -> None:
    bench = Bench(known=[known()])
    running = bench.apply(answer("RUNNING"))
    assert bench.apply(news("RUNNING", "b")) == Outcome()
    assert bench.acknowledge(running) == [Ack("7.1", "S1", "b")]


def test_acknowledged_twice_or_never_told_is_harmless() -> None:
    bench = Bench(task())
    ended = bench.apply(news("FINISHED", "c"))
    assert bench.acknowledge(ended) and bench.acknowledge(ended) == []
    assert bench.tracker.acknowledged([0, 99]) == []


def test_an_end_acknowledged_before_the_start() -> None:
    bench = Bench(task())
    running, ended = bench.apply(news("RUNNING", "b")), bench.apply(news("LOST"))
    assert bench.acknowledge(ended) == []
    assert bench.acknowledge(running) == [Ack("7.1", "S1", "b")]


def test_who_runs_where() -> None:
    bench = Bench(task("7.1", "S1", ("S1/gpu0",)), task("8.1", "S1", ("S1/gpu1",)), task("9.1", "S2"))
    tracker = bench.tracker
    assert (len(tracker), tracker.agents(), set(tracker.tasks("S1"))) == (3, {"S1", "S2"}, {"7.1", "8.1"})
    assert set(tracker.gpus("S1")) == {"S1/gpu0", "S1/gpu1"} and list(tracker.gpus("S3")) == []
    bench.apply(news("RUNNING", "a", "8.1", at=WALL), news("FINISHED", "b", "7.1"), news("LOST", None, "9.1"))
    assert (len(tracker), tracker.agents(), list(tracker.running())) == (1, {"S1"}, ["8.1"])
    assert list(tracker.gpus("S1")) == ["S1/gpu1"]
    assert (tracker.agent_of("8.1"), tracker.started("8.1")) == ("S1", WALL)
    assert (tracker.started("9.1"), tracker.started("1.1")) == (None, None)


# -- disorder -------------------------------------------------------------------------------------------------------


def test_states_before_the_end_that_come_after_it_are_passed_over() -> None:
    bench = Bench(task())
    ended = bench.apply(news("FINISHED", "c"))
    late = bench.apply(news("STARTING", "a"), news("RUNNING", "b"))
    assert late == Outcome()
    assert bench.acknowledge(ended) == [Ack("7.1", "S1", uuid) for uuid in "cab"]


def test_an_agent_back_from_overload_begins_its_story_anew() -> None:
    """UNREACHABLE > FINISHED > STARTING > STARTING > RUNNING > FINISHED, as recorded under load."""
    bench = Bench(task())
    summary = news("FINISHED", reason="REASON_AGENT_REREGISTERED", message="Unreachable agent re-reregistered")
    assert bench.apply(news("UNREACHABLE"), summary).updates == []
    assert bench.apply(news("STARTING", "a"), news("STARTING", "a")).updates == []
    running = bench.apply(news("RUNNING", "b"))
    assert kinds(running) == ["started"] and bench.acknowledge(running)
    assert told(bench.apply(news("FINISHED", "c", message=DONE))).exit_code == 0


def test_the_recorded_return_of_an_agent() -> None:
    """t-l1 and t-l2 become unreachable; one still runs, the other's result is lost."""
    statuses = list(recorded_statuses("17-*"))
    tracker = Tracker(unreachable_wait_s=WAIT_S)
    agent = statuses[0].agent
    tracker.launched([task("t-l1", agent), task("t-l2", agent)], 0.0)
    tracker.subscribed(0.0)
    updates: list[Update] = []
    acks: list[Ack] = []
    for status in statuses:
        outcome = tracker.apply([status], 0.0, 2e9)
        assert outcome.kills == []
        updates += outcome.updates
        acks += outcome.acks + tracker.acknowledged([update.seq for update in outcome.updates])
    assert [(update.task, update.kind) for update in updates if update.kind != "started"] == [
        ("t-l2", "lost"),
        ("t-l1", "ended"),
    ]
    assert {ack.uuid for ack in acks} == {status.uuid for status in statuses if status.uuid is not None}
    assert len(tracker) == 0


def test_orphans_are_killed_and_acknowledged() -> None:
    bench = Bench()
    outcome = bench.apply(news("RUNNING", "x", "99.1"), news("STARTING", None, "98.1"))
    assert outcome.kills == [TaskRef("99.1", "S1"), TaskRef("98.1", "S1")]
    assert (outcome.acks, outcome.updates) == ([Ack("99.1", "S1", "x")], [])


@pytest.mark.parametrize("state", ["FINISHED", "FAILED", "KILLED", "KILLING", "LOST", "GONE", "UNKNOWN", "UNREACHABLE"])
def test_unknown_tasks_that_are_over_are_let_go(state: str) -> None:
    assert Bench().apply(news(state, None, "99.1")) == Outcome()
    assert Bench().apply(news(state, "x", "99.1")) == Outcome(acks=[Ack("99.1", "S1", "x")])


@pytest.mark.parametrize("acknowledged", [False, True])
def test_a_task_given_up_that_turns_up_alive_is_killed_and_never_told(acknowledged: bool) -> None:
    bench = Bench(task())
    lost = bench.apply(news("RUNNING", "b"), news("LOST", reason="REASON_AGENT_DISCONNECTED"))
    if acknowledged:
        bench.acknowledge(lost)
    again = bench.apply(news("RUNNING", "z"))
    assert (again.updates, again.kills) == ([], [TaskRef("7.1", "S1")])
    assert [ack.uuid for ack in again.acks or bench.acknowledge(lost)][-1] == "z"


def test_a_result_that_comes_after_the_loss_changes_nothing() -> None:
    bench = Bench(task())
    lost = bench.apply(news("LOST"))
    assert bench.apply(news("FINISHED", "c")) == Outcome()
    assert bench.acknowledge(lost) == [Ack("7.1", "S1", "c")]


def test_a_duplicate_id_never_ends_the_running_task() -> None:
    bench = Bench(task())
    bench.apply(news("RUNNING", "b"))
    error = news("ERROR", reason="REASON_TASK_INVALID", message="Task has duplicate ID: 7.1")
    void = news("DROPPED", reason="REASON_INVALID_OFFERS", message="Offer O1 is no longer valid")
    assert bench.apply(error, void) == Outcome()
    assert len(bench.tracker) == 1


def test_unknown_states_are_acknowledged_and_passed_over() -> None:
    bench = Bench(task())
    assert bench.apply(news("DREAMING", "d"), news("DREAMING")) == Outcome(acks=[Ack("7.1", "S1", "d")])


# -- launches ---------------------------------------------------------------------------------------------------------


def test_void_offers_are_not_a_loss() -> None:
    bench = Bench(task())
    assert kinds(bench.apply(news("DROPPED", reason="REASON_INVALID_OFFERS"))) == ["not_started"]


def test_a_launch_that_surely_failed_was_not_started() -> None:
    bench = Bench(task(), task("8.1"), task("9.1"))
    bench.apply(news("STARTING", "a", "8.1"), news("ERROR", None, "9.1"))
    outcome = bench.tracker.not_accepted(["7.1", "8.1", "9.1", "99.1"], "refused", True, bench.now, bench.wall)
    assert (told(outcome).task, told(outcome).kind, told(outcome).message) == ("7.1", "not_started", "refused")


def test_a_launch_that_may_have_failed_is_asked_about() -> None:
    bench = Bench(task())
    outcome = bench.tracker.not_accepted(["7.1"], "timed out", False, bench.now, bench.wall)
    assert (outcome.updates, list(outcome.asks)) == ([], [TaskRef("7.1", "S1")])
    assert kinds(bench.apply(answer("GONE"))) == ["not_started"]


def test_a_launch_of_which_nothing_is_heard_is_asked_about_with_growing_pauses() -> None:
    bench = Bench(task())
    assert not bench.after(ASK_AGAIN_S - 1).asks
    assert list(bench.after(1).asks) == [TaskRef("7.1", "S1")]
    assert not bench.after(2 * ASK_AGAIN_S - 1).asks
    bench.apply(answer("STAGING"))
    assert bench.after(1).asks
    bench.apply(news("RUNNING", "b"))
    assert not bench.after(AGAIN_MOST_S * 10).asks


@pytest.mark.parametrize(
    ("state", "expected"), [(None, "not_started"), ("STAGING", "not_started"), ("STARTING", "lost")]
)
def test_gone_is_a_loss_only_of_what_ran(state: str | None, expected: str) -> None:
    bench = Bench(task())
    if state is not None:
        bench.apply(news(state))
    assert kinds(bench.apply(answer("GONE"))) == [expected]


# -- agents that are away ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("away", [news("UNREACHABLE"), answer("UNKNOWN")])
def test_an_agent_that_stays_away_loses_its_tasks_after_the_wait(away: Status) -> None:
    bench = Bench(task())
    bench.apply(news("RUNNING", "b"), away)
    assert bench.after(WAIT_S - 1).updates == []
    lost = bench.after(1)
    assert told(lost).kind == "lost" and "S1" in str(told(lost).message)
    bench.acknowledge(lost)
    assert bench.apply(answer("RUNNING")).kills == [TaskRef("7.1", "S1")]


def test_an_agent_that_returns_ends_the_wait() -> None:
    bench = Bench(task())
    bench.apply(news("RUNNING", "b"), news("UNREACHABLE"))
    bench.after(WAIT_S - 1)
    assert bench.apply(news("RUNNING", reason="REASON_AGENT_REREGISTERED")) == Outcome()
    assert bench.after(WAIT_S).updates == []
    bench.apply(news("UNREACHABLE"))
    assert bench.after(WAIT_S - 1).updates == []
    assert kinds(bench.after(1)) == ["lost"]


def test_every_wait_is_a_whole_one() -> None:
    bench = Bench(task())
    bench.apply(news("RUNNING", "b"), news("UNREACHABLE"))
    bench.after(WAIT_S / 2)
    bench.apply(news("RUNNING"), news("UNREACHABLE"))
    assert bench.after(WAIT_S - 1).updates == []
    assert kinds(bench.after(1)) == ["lost"]


def test_an_unknown_agent_is_asked_about_again() -> None:
    bench = Bench(task())
    bench.apply(news("RUNNING", "b"))
    bench.after(ASK_AGAIN_S)
    bench.apply(answer("UNKNOWN"))
    assert list(bench.after(ASK_AGAIN_S).asks) == [TaskRef("7.1", "S1")]


def test_the_wait_counts_from_when_the_master_lost_the_agent() -> None:
    bench = Bench(known=[known()])
    bench.apply(answer("UNREACHABLE", at=5000.0, unreachable_since=5000.0 - WAIT_S + 60))
    bench.apply(answer("UNREACHABLE", at=5010.0, unreachable_since=5000.0 - WAIT_S + 60))
    assert bench.after(59).updates == []
    assert kinds(bench.after(1)) == ["lost"]


def test_a_master_whose_clock_jumps_does_not_prolong_the_wait() -> None:
    bench = Bench(known=[known()])
    bench.apply(answer("UNREACHABLE", at=5000.0, unreachable_since=9000.0))
    assert kinds(bench.after(WAIT_S)) == ["lost"]


def test_no_wait_ends_while_the_master_is_away() -> None:
    bench = Bench(task())
    bench.apply(news("RUNNING", "b"), news("UNREACHABLE"))
    bench.tracker.disconnected()
    assert bench.after(86_400) == Outcome()
    bench.tracker.subscribed(bench.now)
    assert bench.after(SETTLE_S - 1).updates == []
    assert bench.apply(answer("RUNNING")) == Outcome()
    assert bench.after(86_400).updates == []


def test_a_wait_that_the_master_confirms_ends_soon_after_its_return() -> None:
    bench = Bench(task())
    bench.apply(news("RUNNING", "b"), news("UNREACHABLE"))
    bench.tracker.disconnected()
    bench.now += 3600
    bench.tracker.subscribed(bench.now)
    assert bench.after(0).updates == []
    bench.apply(answer("UNREACHABLE"))
    assert kinds(bench.after(SETTLE_S)) == ["lost"]


def test_an_operator_who_marks_the_agent_as_gone_ends_the_wait() -> None:
    bench = Bench(task())
    bench.apply(news("RUNNING", "b"), news("UNREACHABLE"))
    assert kinds(bench.apply(answer("GONE_BY_OPERATOR"))) == ["lost"]


# -- ends without a result --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("state", "expected"), [("FINISHED", ("ended", 0)), ("FAILED", ("lost", None))])
def test_a_result_that_never_comes_is_not_waited_for_long(state: str, expected: tuple[str, int | None]) -> None:
    bench = Bench(known=[known()])
    assert bench.apply(answer(state)).updates == []
    assert bench.after(RESULT_WAIT_S - 1).updates == []
    update = told(bench.after(1))
    assert (update.kind, update.exit_code) == expected


@pytest.mark.parametrize("last", [answer("GONE"), news("LOST", reason="REASON_AGENT_REMOVED")])
def test_a_good_end_without_a_result_stays_good(last: Status) -> None:
    bench = Bench(known=[known()])
    bench.apply(answer("FINISHED"))
    assert (
        told(bench.apply(last)).kind,
        told(bench.apply(last) if False else bench.after(TELL_AGAIN_S)).exit_code,
    ) == (
        "ended",
        0,
    )


def test_a_summary_that_the_master_takes_back_is_forgotten() -> None:
    bench = Bench(known=[known()])
    bench.apply(answer("FINISHED"))
    assert kinds(bench.apply(answer("RUNNING"))) == ["started"]
    assert bench.after(RESULT_WAIT_S).updates == []
    assert kinds(bench.apply(answer("GONE"))) == ["lost"]


def test_a_summary_of_a_kill_that_was_asked_for_is_an_end() -> None:
    bench = Bench(known=[known(kill=True)])
    bench.apply(answer("KILLED"))
    assert kinds(bench.after(RESULT_WAIT_S)) == ["ended"]


# -- kills ------------------------------------------------------------------------------------------------------------


def test_a_kill_is_repeated_with_growing_pauses_until_mesos_confirms() -> None:
    bench = Bench(task())
    bench.apply(news("RUNNING", "b"))
    once = [TaskRef("7.1", "S1")]
    assert bench.tracker.kill("7.1", bench.now).kills == once
    assert bench.tracker.kill("7.1", bench.now).kills == once, "asking again is asking at once"
    for pause in (KILL_AGAIN_S, 20.0, 40.0, 80.0, 160.0, AGAIN_MOST_S, AGAIN_MOST_S):
        assert bench.after(pause - 1).kills == []
        assert bench.after(1).kills == once
    bench.apply(news("KILLING", "k"))
    ended = bench.apply(news("KILLED", "c", message="Command terminated with signal Terminated"))
    assert (told(ended).kind, told(ended).signal) == ("ended", 15)
    assert bench.after(AGAIN_MOST_S * 2).kills == []
    assert bench.tracker.kill("7.1", bench.now) == Outcome()


def test_kills_are_repeated_at_every_subscription() -> None:
    bench = Bench(known=[known(kill=True), known("8.1")])
    assert bench.first.kills == [TaskRef("7.1", "S1")]
    bench.tracker.disconnected()
    assert bench.tracker.subscribed(bench.now).kills == [TaskRef("7.1", "S1")]


def test_many_kills_are_repeated_in_pieces() -> None:
    bench = Bench(known=[known(f"{n}.1", kill=True) for n in range(PER_TICK + 10)])
    assert len(bench.first.kills) == PER_TICK
    assert len(bench.after(1).kills) == 10


def test_a_task_to_be_killed_is_killed_when_its_agent_returns() -> None:
    bench = Bench(task())
    bench.apply(news("RUNNING", "b"), news("UNREACHABLE"))
    bench.tracker.kill("7.1", bench.now)
    assert bench.apply(news("RUNNING", reason="REASON_AGENT_REREGISTERED")).kills == [TaskRef("7.1", "S1")]


def test_a_killed_task_that_is_gone_is_over_at_once_and_one_unknown_is_waited_for() -> None:
    bench = Bench(task())
    bench.apply(news("RUNNING", "b"))
    bench.tracker.kill("7.1", bench.now)
    assert bench.apply(answer("UNKNOWN")).updates == []
    assert kinds(bench.apply(answer("GONE"))) == ["lost"]


def test_killed_behind_its_launch() -> None:
    bench = Bench(task())
    bench.tracker.kill("7.1", bench.now)
    killed = news(
        "KILLED",
        "k",
        source="SOURCE_AGENT",
        reason="REASON_TASK_KILLED_DURING_LAUNCH",
        message="Killed before delivery to the executor",
    )
    assert kinds(bench.apply(killed)) == ["ended"]


def test_a_kill_that_nobody_asked_for_is_a_loss() -> None:
    bench = Bench(task())
    drained = news("KILLED", "k", reason="REASON_AGENT_DRAINING")
    assert kinds(bench.apply(drained)) == ["lost"]


# -- masters that come and go -----------------------------------------------------------------------------------------


def test_every_subscription_asks_about_every_task_that_is_not_over() -> None:
    bench = Bench(known=[known(), known("8.1", "S2")])
    assert list(bench.first.asks) == [TaskRef("7.1", "S1"), TaskRef("8.1", "S2")]
    bench.apply(answer("FINISHED"), news("FINISHED", "c"))
    asks = bench.tracker.subscribed(bench.now).asks
    bench.tracker.launched([task("9.1")], bench.now)
    assert list(asks) == [TaskRef("8.1", "S2")], "what was launched after it needs no question"


def test_a_subscription_without_tasks_still_wants_the_master_to_tell_all() -> None:
    assert Bench().first.asks


def test_a_removed_framework_loses_everything_loudly() -> None:
    bench = Bench(task(), task("8.1", "S2"))
    bench.apply(news("RUNNING", "b"))
    outcome = bench.tracker.removed("Mesos has removed framework F", bench.wall)
    assert [(u.kind, u.message) for u in outcome.updates] == [("lost", "Mesos has removed framework F")] * 2
    assert bench.acknowledge(outcome) == [] and len(bench.tracker) == 0


def test_a_final_update_of_our_own_is_told_until_it_is_acknowledged() -> None:
    bench = Bench(task())
    lost = bench.apply(news("LOST"))
    for _ in range(3):
        assert bench.after(TELL_AGAIN_S).updates == lost.updates
    bench.acknowledge(lost)
    assert bench.after(TELL_AGAIN_S).updates == []


# -- whatever comes ---------------------------------------------------------------------------------------------------

STATES = (
    *("STAGING", "STARTING", "RUNNING", "KILLING", "FINISHED", "FAILED", "KILLED", "ERROR", "DROPPED", "LOST", "GONE"),
    *("GONE_BY_OPERATOR", "UNREACHABLE", "UNKNOWN", "DREAMING"),
)
REASONS = (
    *("", "RECONCILIATION", "AGENT_REREGISTERED", "INVALID_OFFERS", "TASK_INVALID", "EXECUTOR_TERMINATED"),
    *("TASK_KILLED_DURING_LAUNCH", "AGENT_DRAINING", "CONTAINER_LAUNCH_FAILED"),
)
TRUTHS = ("RUNNING", "STAGING", "GONE", "UNREACHABLE", "UNKNOWN", "FINISHED", "FAILED", "result", "silence")


class World:
    """A server and a Mesos around a tracker: applies what they may do, and checks what may never happen."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.now = 0.0
        self.tracker = Tracker(unreachable_wait_s=WAIT_S)
        self.numbers = count(1)
        self.uuids = count(1)
        self.live: set[str] = set()
        self.started: set[str] = set()
        self.finals: dict[str, int] = {}
        self.unacknowledged: dict[int, Update] = {}
        self.acknowledged: set[int] = set()
        self.made_by: dict[str, int] = {}
        self.sent: dict[str, Status] = {}
        self.kills: list[TaskRef] = []
        names = [self.name() for _ in range(3)]
        self.tracker.adopt([known(name, kill=rng.random() < 0.3) for name in names], self.now)
        self.subscribe()

    def name(self) -> str:
        name = f"{next(self.numbers)}.1"
        self.live.add(name)
        return name

    # what may happen

    def launch(self) -> None:
        self.tracker.launched([task(self.name()) for _ in range(2)], self.now)

    def refuse(self) -> None:
        names = self.rng.sample(sorted(self.live), min(2, len(self.live)))
        self.take(self.tracker.not_accepted(names, "no", self.rng.random() < 0.5, self.now, WALL))

    def kill(self) -> None:
        if self.live:
            self.take(self.tracker.kill(self.rng.choice(sorted(self.live)), self.now))

    def subscribe(self) -> None:
        self.take(self.tracker.subscribed(self.now))

    def disconnect(self) -> None:
        self.tracker.disconnected()

    def tick(self) -> None:
        self.now += self.rng.choice((0.1, 1.0, 30.0, 300.0))
        self.take(self.tracker.tick(self.now, WALL))

    def acknowledge(self) -> None:
        """Some or all of what the server was told is durable now, in any order."""
        seqs = self.rng.sample(sorted(self.unacknowledged), self.rng.randint(0, len(self.unacknowledged)))
        for seq in seqs:
            del self.unacknowledged[seq]
        self.acknowledged.update(seqs)
        self.check_acks(self.tracker.acknowledged(seqs))

    def status(self) -> None:
        """Anything, about anyone, perhaps something that was sent before."""
        if self.sent and self.rng.random() < 0.3:
            self.apply(self.sent[self.rng.choice(sorted(self.sent))])
            return
        name = f"{self.rng.randint(1, next(self.numbers))}.1"
        uuid = f"u{next(self.uuids)}" if self.rng.random() < 0.5 else None
        reason = self.rng.choice(REASONS)
        self.apply(
            news(
                self.rng.choice(STATES),
                uuid,
                name,
                reason=f"REASON_{reason}" if reason else "",
                message=self.rng.choice(("", DONE, "Task has duplicate ID", "is more than available")),
                at=WALL,
                unreachable_since=self.rng.choice((None, WALL - 100.0)),
            )
        )

    # what must hold

    def apply(self, status: Status) -> None:
        if status.uuid is not None:
            self.sent[status.uuid] = status
        outcome = self.tracker.apply([status], self.now, WALL)
        for update in outcome.updates:
            if status.uuid is not None:
                assert status.uuid not in self.made_by, "a repeated status was told twice"
                self.made_by[status.uuid] = update.seq
        self.take(outcome)

    def take(self, outcome: Outcome) -> None:
        for update in outcome.updates:
            assert update.seq > 0
            assert self.finals.get(update.task, update.seq) == update.seq, "an update after the final one"
            assert update.task in self.live or update.seq in self.unacknowledged, "an update about a stranger"
            assert update.seq not in self.acknowledged, "told again though it was acknowledged"
            if update.kind == "started":
                assert update.task not in self.started, "started twice"
                self.started.add(update.task)
            else:
                self.finals[update.task] = update.seq
                self.live.discard(update.task)
            self.unacknowledged[update.seq] = update
        self.kills += outcome.kills
        self.check_acks(outcome.acks)

    def check_acks(self, acks: Sequence[Ack]) -> None:
        for ack in acks:
            assert ack.uuid in self.sent, "an acknowledgement of nothing"
            assert self.made_by.get(ack.uuid, 0) in (0, *self.acknowledged), "acknowledged before it was durable"

    def settle(self) -> None:
        """From now on Mesos answers truly (or not at all about some, for a while), and the server acknowledges."""
        truth = {name: self.rng.choice(TRUTHS) for name in sorted(self.live)}
        silent_until = self.now + 700
        reconciler = Reconciler()
        outcome = self.tracker.subscribed(self.now)
        reconciler.start(outcome.asks, self.now)
        self.take(outcome)
        for _ in range(800):
            self.now += 5.0
            outcome = self.tracker.tick(self.now, WALL)
            if outcome.asks:
                reconciler.start(outcome.asks, self.now)
            self.take(outcome)
            asked = reconciler.due(self.now)
            kills, self.kills = self.kills, []
            for ref in [*(asked or ()), *kills]:
                said = truth.get(ref.task, "GONE")
                if said == "silence":
                    if self.now < silent_until:
                        continue
                    said = truth[ref.task] = "RUNNING"
                if ref in kills and said in ("RUNNING", "STAGING"):
                    truth[ref.task] = "GONE"
                    self.apply(news("KILLED", f"u{next(self.uuids)}", ref.task, message=DONE, at=WALL))
                elif said == "result":
                    truth[ref.task] = "GONE"
                    self.apply(news("FINISHED", f"u{next(self.uuids)}", ref.task, message=DONE, at=WALL))
                else:
                    self.apply(answer(said, ref.task, at=WALL))
                reconciler.answered(ref.task)
            seqs = list(self.unacknowledged)
            self.unacknowledged.clear()
            self.acknowledged.update(seqs)
            self.check_acks(self.tracker.acknowledged(seqs))
        waiting = {name for name in self.live if truth[name] not in ("RUNNING", "STAGING")}
        assert waiting == set(), "tasks that wait for ever"
        running = {name for name in self.live if truth[name] == "RUNNING"}
        assert running <= self.started
        assert set(self.tracker.running()) == self.live
        assert {update.task for update in self.unacknowledged.values()} == set()


EVENTS = ("launch", "refuse", "kill", "subscribe", "disconnect", "tick", "acknowledge", "status", "status", "status")


@settings(max_examples=120, deadline=None)
@given(events=st.lists(st.sampled_from(EVENTS), min_size=20, max_size=150), seed=st.integers(0, 2**32))
def test_whatever_comes_each_task_has_one_end_and_none_waits_for_ever(events: list[str], seed: int) -> None:
    world = World(random.Random(seed))
    for event in events:
        getattr(world, event)()
    world.settle()


# -- agents that are removed ----------------------------------------------------------------------------------------


def test_the_master_is_asked_about_what_was_on_a_removed_agent() -> None:
    bench = Bench(task("1.1"), task("2.1"), task("3.1", agent="S2"), task("4.1"))
    bench.apply(news("UNREACHABLE", name="2.1"), news("FAILED", "x", name="4.1", message=DONE))
    assert list(bench.tracker.agent_lost("S1").asks) == [TaskRef("1.1", "S1")], "of 2.1 it has told"
    assert not bench.tracker.agent_lost("S9").asks
    assert [ask.task for ask in bench.tracker.everything()] == ["1.1", "2.1", "3.1"]
