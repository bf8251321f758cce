"""Server, driver, masters and agents of a cluster fail at random moments, together, under a mixed load of jobs.

Fifty cycles in the suite; ``RETZ_CHAOS_CYCLES=1000`` for a long run, ``RETZ_CHAOS_SEED=N`` to repeat one (the seed is
printed). What must hold is in :class:`Audit`.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.doubles.mesos.cluster import AgentSpec, Cluster, ClusterThread
from tests.doubles.mesos.model import Timing
from tests.mesos_chaos import (
    ENDED,
    LONG_S,
    Chaos,
    Fate,
    Load,
    Promises,
    Witness,
    acknowledged,
    launches,
    pretend,
    submit,
)
from tests.server_process import ServerProcess
from tests.wire import Wire

CYCLES = int(os.environ.get("RETZ_CHAOS_CYCLES", "50"))
CYCLES_BETWEEN_AUDITS = 10
PATIENCE_S = 60.0
"""A minute for all to settle; what it takes Mesos minutes, it takes this cluster seconds."""

QUICK = Timing(
    allocation_interval=0.1,
    heartbeat=1.0,
    agent_ping_timeout=0.3,
    max_agent_ping_timeouts=2,
    agent_reregister_timeout=2.0,
    recovery=0.05,
    update_retry=0.3,
    update_retry_max=1.0,
    executor_start=0.01,
    executor_linger=0.2,
    agent_recovery=0.1,
    kill_grace=0.2,
)
SETTINGS = {
    "RETZ_RETRIES": "1000",
    "RETZ_MESOS_REFUSE": "2s",
    "RETZ_MESOS_UNREACHABLE_WAIT": "0.5s",
    "RETZ_MESOS_POLL": "1s",
    "RETZ_MESOS_SAMPLE_INTERVAL": "1s",
}


class Stage:
    """A server, its cluster, and everything that is remembered of them."""

    def __init__(self, home: Path, make: Callable[[int], Cluster], seed: int, stack: ExitStack) -> None:
        self.seed = seed
        self.cluster = stack.enter_context(ClusterThread(lambda: make(seed)))
        settings = {**SETTINGS, "RETZ_MESOS_MASTER": self.cluster.address}
        self.server = ServerProcess(home, engine="mesos", settings=settings, module="tests.doubles.hurried_server")
        stack.callback(self.server.destroy)
        self.server.start()
        self.chaos = Chaos(self.server, self.cluster, random.Random(seed))
        stack.callback(self.chaos.close)
        self.promises = Promises()
        self.witness = self.cluster.do(Witness)

    def wire(self) -> Wire:
        """A connection to the server."""
        return Wire(self.server.uri, *self.server.credentials())


@pytest.fixture
def make_stage(tmp_path: Path) -> Iterator[Callable[..., Stage]]:
    """Makes a stage; prints its seed, which is shown when the test fails."""
    with ExitStack() as stack:

        def make(cluster: Callable[[int], Cluster]) -> Stage:
            seed = int(os.environ.get("RETZ_CHAOS_SEED", time.time_ns() % 1_000_000))
            print(f"RETZ_CHAOS_SEED={seed}")
            return Stage(tmp_path / "home", cluster, seed, stack)

        yield make


def cluster_of(specs: list[AgentSpec], seed: int, **more: Any) -> Cluster:
    """Two masters; whether their registry outlives them depends on the seed."""
    return Cluster(specs, masters=2, timing=QUICK, persistent=seed % 3 > 0, keep_calls=2_000_000, **more)


def twenty_agents(seed: int) -> Cluster:
    """Twenty agents that pretend, some with GPUs."""
    specs = [AgentSpec(gpus=2.0 if number % 4 == 0 else 0.0, ports=(31000, 31015)) for number in range(20)]
    return cluster_of(specs, seed, pretend=pretend)


def test_nothing_is_lost_and_nothing_is_left(make_stage: Callable[..., Stage]) -> None:
    stage = make_stage(twenty_agents)
    _storm(stage, CYCLES)
    Audit(stage).all()


def test_commands_run_once(make_stage: Callable[..., Stage], tmp_path: Path) -> None:
    """The same with agents that really run commands: an attempt is started once at most."""
    starts = tmp_path / "starts"
    starts.touch()
    specs = [AgentSpec(cpus=4.0, gpus=1.0, ports=(31000 + 100 * number, 31015 + 100 * number)) for number in range(3)]
    work = tmp_path / "work"
    stage = make_stage(lambda seed: cluster_of(specs, seed, work_dir=work))
    _storm(stage, max(1, CYCLES // 5), f"echo $RETZ_JOB_ID.$RETZ_ATTEMPT >> {starts}; ")
    Audit(stage).all()
    twice = [task for task, count in Counter(starts.read_text().split()).items() if count > 1]
    assert twice == [], "an attempt was started twice"


def _storm(stage: Stage, cycles: int, prefix: str = "") -> None:
    dice = random.Random(stage.seed + 1)
    done = 0
    while done < cycles:
        load = Load(stage.server, stage.promises, dice.getrandbits(32), prefix)
        load.start()
        try:
            for _ in range(min(CYCLES_BETWEEN_AUDITS, cycles - done)):
                stage.chaos.cycle(dice.choice([1, 1, 2, 3]))
                stage.chaos.pass_time(dice.uniform(0.05, 0.5))
                assert load.is_alive(), load.failure
                done += 1
            stage.chaos.heal()
        finally:
            load.stop()
        Audit(stage).settle()
    print(f"{len(stage.promises.jobs)} jobs, {len(stage.promises.killed)} killed; {dict(stage.chaos.done)}")


def _present(cluster: Cluster) -> str:
    """What is worth knowing of a cluster that does not come to rest."""
    lines = [f"calls to {master.address}: {Counter(call.type for call in master.calls)}" for master in cluster.masters]
    lines += [f"{call.at} {call.body}"[:300] for call in cluster.calls[-60:]]
    lines += [f"{agent.id} {agent.__dict__}"[:600] for agent in cluster.agents if agent.id not in cluster.master.agents]
    return "\n".join(lines)


class Audit:
    """What must hold when everything is mended and has settled."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.promises = stage.promises
        self.wire = stage.wire()

    def all(self) -> None:
        """Everything, to the end of the server."""
        self._end_the_long_ones()
        self.settle()
        self._every_job_has_its_true_end()
        self._nothing_is_launched_twice()
        self._the_whole_cluster_can_be_used()
        self.settle()
        assert self.stage.cluster.do(lambda cluster: cluster.teardowns) == 0
        self.stage.chaos.family()
        self.wire.close()
        assert self.stage.server.stop() == 0
        _, fault, what = self.stage.server.log().partition("Traceback")
        assert not fault, what[:5000]
        self._no_process_is_left()
        self._the_store_is_sound()

    # -- settled: exactly what should run runs, and all else is free ---------------------------------------------------

    def settle(self) -> None:
        """Wait until jobs, tasks and resources are as they should be, and check what must hold then."""
        deadline = time.monotonic() + PATIENCE_S
        while (why := self._unsettled()) and time.monotonic() < deadline:
            time.sleep(0.1)
        if why:
            self.stage.chaos.ask_where()
            print(self.stage.cluster.do(_present))
        assert not why, f"it does not settle: {why}\n{self.stage.server.log()[-6000:]}"
        self._nothing_is_held_by_two()

    def _unsettled(self) -> str:
        status = self._get("/api/v2/status")
        long = self.promises.long()
        if status["engine_failure"]:
            return str(status["engine_failure"])
        if status["queued"] or status["starting"] or status["started"] != len(long):
            others = [job for job in self._jobs("state=LIVE&limit=1000") if job["id"] not in long]
            return f"{len(long)} jobs should run: {long}; do not: {[self._story(job) for job in others]}; {status}"
        return self.stage.cluster.do(lambda cluster: self._unsettled_cluster(cluster, long))

    def _story(self, job: dict[str, Any]) -> Any:
        """A job, and what Mesos said of its attempts."""
        tasks = [attempt["task"] for attempt in job["attempts"]]
        return job, {task: self.stage.witness.told.get(task) for task in tasks}

    def _unsettled_cluster(self, cluster: Cluster, long: list[int]) -> str:
        live = cluster.live_attempts("retz.job")
        if sorted(live) != sorted(map(str, long)) or any(len(tasks) != 1 for tasks in live.values()):
            return f"live on the agents: {live}; should be: {long}"
        if cluster.unacknowledged():
            return f"not acknowledged: {cluster.unacknowledged()}"
        if cluster.master.offers:
            return f"offers held though nothing waits: {list(cluster.master.offers.values())}"
        if len(cluster.master.agents) != len(cluster.agents):
            return f"{len(cluster.master.agents)} of {len(cluster.agents)} agents registered"
        cluster.check_accounts()
        return ""

    def _nothing_is_held_by_two(self) -> None:
        running = self._jobs("state=STARTED&limit=1000")
        assert sorted(job["id"] for job in running) == sorted(self.promises.long())
        live = self.stage.cluster.do(lambda cluster: cluster.live_attempts("retz.job"))
        assert {str(job["id"]): [job["attempts"][-1]["task"]] for job in running} == live
        held = Counter(gpu for job in running for gpu in job["gpus"])
        held.update(f"{job['agent']}:{port}" for job in running for port in job["ports"])
        assert [what for what, count in held.items() if count > 1] == []

    # -- the end -------------------------------------------------------------------------------------------------------

    def _end_the_long_ones(self) -> None:
        for job in self.promises.long():
            self.promises.asked.add(job)
            status, answer = self.wire.call("DELETE", f"/api/v2/jobs/{job}")
            assert status == 202, answer
            self.promises.killed.add(job)

    def _every_job_has_its_true_end(self) -> None:
        confirmed = self.stage.cluster.do(acknowledged)
        known = self._jobs("state=ALL&limit=1000")
        assert sorted(job["id"] for job in known) == sorted(self.promises.jobs), "jobs that nobody submitted, or lost"
        wrong = {job["id"]: text for job in known if (text := self._wrong(job, confirmed))}
        assert not wrong, "\n".join(map(str, wrong.items()))

    def _wrong(self, job: dict[str, Any], confirmed: dict[str, float]) -> str:
        """What is wrong with a job that has ended; empty if nothing is."""
        number, fate = job["id"], Fate.of(self.promises.jobs[job["id"]]["command"])
        if job["state"] not in ENDED:
            return f"it is {job['state']}"
        if number in self.promises.killed and job["state"] != "KILLED":
            return f"the kill was promised, but it is {job}"
        if job["state"] == "KILLED":
            if number not in self.promises.asked:
                return f"nobody wanted it killed: {job}"
        elif (job["state"], job["exit_code"], job["signal"]) != (fate.state, fate.code, fate.signal):
            return f"it should have ended with {fate}: {job}"
        texts = (self._wrong_attempt(attempt, confirmed) for attempt in job["attempts"])
        for attempt, text in zip(job["attempts"], texts, strict=True):
            if text:
                return f"attempt {attempt['number']}: {text}: {job}"
            if attempt["reason"] != "lost" and attempt is not job["attempts"][-1]:
                return f"attempt {attempt['number']} had a result, and still it was tried again: {job}"
        return ""

    def _wrong_attempt(self, attempt: dict[str, Any], confirmed: dict[str, float]) -> str:
        told = self.stage.witness.told.get(attempt["task"], [])
        results = [each for each in told if each.result]
        code, number = attempt["exit_code"], attempt["signal"]
        if code is not None or number is not None:
            words = f"exited with status {code}" if number is None else f"with signal {signal.strsignal(number)}"
            said = any(words in each.message or (code == 0 and each.state == "TASK_FINISHED") for each in told)
            return "" if said else f"Mesos never told such a result: {told}"
        lost = attempt["reason"] == "lost"
        if lost and attempt["started"] is not None and not any(each.loss for each in told):
            return f"Mesos never said that it was lost: {told}"
        # It may have been given up before its result came; what was told before a server died does not count.
        taken = [each.at for each in results if each.at <= confirmed.get(each.uuid, 0.0)]
        if lost and taken and not any(each.loss for each in told if each.at <= taken[-1]):
            return f"its result was delivered: {told}"
        return ""

    def _nothing_is_launched_twice(self) -> None:
        assert [task for task, count in self.stage.cluster.do(launches).items() if count > 1] == []

    def _the_whole_cluster_can_be_used(self) -> None:
        """Every resource is offered again: jobs that take a whole agent each run on all of them."""
        agents = self.stage.cluster.cluster.agents
        cpus = self.stage.cluster.cluster.specs[0].cpus
        job = {"command": f"sleep {LONG_S}; exit 0", "resources": {"cpus": cpus, "mem": 2048, "ports": 16}}
        ids = submit(self.wire, {"key": "whole", "jobs": [{**job, "kill_grace_s": 0.1}] * len(agents)})
        self.promises.jobs.update(dict.fromkeys(ids, job))
        self.settle()
        self._end_the_long_ones()

    def _no_process_is_left(self) -> None:
        processes = list(self.stage.chaos.processes.values())
        _, alive = psutil.wait_procs(processes, timeout=PATIENCE_S)
        assert alive == []

    def _the_store_is_sound(self) -> None:
        command = [sys.executable, "-m", "retz.server.main", "fsck", "--data-dir", str(self.stage.server.data)]
        done = subprocess.run(command, env=self.stage.server.environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def _get(self, target: str) -> Any:
        status, answer = self.wire.call("GET", target)
        assert status == 200, answer
        return answer

    def _jobs(self, query: str) -> list[dict[str, Any]]:
        """All jobs that the query means."""
        found: list[dict[str, Any]] = []
        cursor = ""
        while True:
            answer = self._get(f"/api/v2/jobs?{query}{cursor}")
            found += answer["jobs"]
            if answer["next"] is None:
                return [self._get(f"/api/v2/jobs/{job['id']}") for job in found]
            cursor = f"&cursor={answer['next']}"
