"""An agent of the double: registers, runs tasks, delivers their updates, fails in every way a test may want."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import time
import uuid as uuids
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from .executor import Executor, Pretend, PretendingExecutor, by_command, grace_of
from .launching import AgentFacts, real_executor, refusal
from .model import TERMINAL, Framework, HeldTask, Json, MasterLink, Timing
from .run import AGENT, EXECUTOR, Hosted, Run, Told

REGISTER_AGAIN_S = 0.1
"""Between two attempts to register."""

REDELIVERY_S = 0.003
"""After re-registration what is not acknowledged comes twice, a few milliseconds apart."""

REMEMBERED = 150
"""Ended tasks of a framework that an agent shows; one that pretends shows fewer."""

SHUTDOWN_GRACE_S = 5.0
"""From the removal of a framework to the SIGKILL of its tasks."""

RUNNER_UP = "Cannot reuse an already existing executor for a command task"

_pids = itertools.count(100_000)


class Agent:
    """An agent. With ``pretend`` nothing runs; otherwise commands do, in sandboxes below ``work_dir``.

    It implements :class:`.model.AgentLink`; what tests do to it comes first. All methods belong to the cluster's loop.
    """

    def __init__(
        self,
        resources: list[Json],
        attributes: list[Json] | None = None,
        *,
        work_dir: Path | None = None,
        pretend: Pretend | None = None,
        timing: Timing | None = None,
        hostname: str = "127.0.0.1",
        ip: str = "127.0.0.1",
        port: int = 0,
        path: str = "/slave(1)",
        images: bool = False,
        credentials: tuple[str, str] | None = None,
    ) -> None:
        """
        Args:
            resources: As in an offer.
            work_dir: Where sandboxes are. Without it the agent pretends.
            pretend: What the command of a task would do, for an agent that runs none.
            port: Of its endpoints.
            images: Take containers with an image, and run the command without it. A real agent without
                ``--image_providers`` refuses them, and so does this one.
            credentials: Principal and secret that its endpoints ask for.
        """
        self.id = ""
        self.resources, self.attributes = resources, attributes or []
        self.hostname, self.ip, self.port, self.path = hostname, ip, port, path
        self.timing = timing or Timing()
        self.pretend = by_command if pretend is None and work_dir is None else pretend
        self.work_dir, self.images, self.credentials = work_dir, images, credentials
        self.start_time = time.time()
        self.runs: dict[tuple[str, str], Run] = {}
        self.frameworks: dict[str, Hosted] = {}
        self.completed_frameworks: list[Hosted] = []
        self.delay_s = 0.0
        self.alive = True
        self.removed = False
        self.life: Callable[[bool], None] | None = None
        """Told when the agent's process begins and ends, so that its endpoints do."""
        self.master: MasterLink | None = None
        self._reached = asyncio.Event()
        self._reached.set()
        self._recovered = True
        self._registered = False
        self._attempt: asyncio.TimerHandle | None = None
        self._ending: dict[asyncio.Task[None], Executor] = {}

    # -- what tests do to it -----------------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        """Whether messages reach it."""
        return self.alive and self._reached.is_set()

    async def reached(self) -> None:
        """Returns when no partition is in the way."""
        await self._reached.wait()

    def slow(self, seconds: float) -> None:
        """From now on its endpoints answer so much later."""
        self.delay_s = seconds

    def crash(self) -> None:
        """SIGKILL to the agent: executors of frameworks with ``checkpoint`` go on, all others end."""
        self._down()
        for run in list(self.runs.values()):
            if not run.hosted.checkpoint:
                self._end(run)
        if self.master is not None and self._reached.is_set():
            self.master.disconnected(self)

    def restart(self) -> None:
        """Start it again, with its work_dir: it recovers for a while, then re-registers with its tasks.

        Raises:
            RuntimeError: It was marked gone; only :meth:`wipe` brings it back.
        """
        if self.removed:
            raise RuntimeError("an agent that was marked gone comes back by wipe() only")
        if self.alive:
            self.crash()
        self.alive, self.start_time = True, time.time()
        self._tell_life(True)
        self._attempt = asyncio.get_running_loop().call_later(self.timing.agent_recovery, self._recover)

    def lose(self) -> None:
        """A network partition: nothing comes through in either direction, until :meth:`find`."""
        self._reached.clear()
        if self.master is not None and self.alive:
            self.master.silent(self)

    def find(self) -> None:
        """The partition is over."""
        self._reached.set()
        if self.master is None or not self.alive:
            return
        self.master.answering(self)
        # Whatever the master thinks of it, and if it does not answer now: it may have missed launches and kills.
        self.detected(self.master)

    def shutdown_gracefully(self) -> None:
        """SIGUSR1: unregister, end all tasks, exit. Restarted, it is known under its old id."""
        if self.master is not None and self.connected:
            self.master.unregister(self)
        self._end_all()
        self._down()

    def wipe(self) -> None:
        """Its disk is empty: its tasks are gone, and it comes back with a new id."""
        if self.alive:
            self.crash()
        self._end_all()
        if self.work_dir is not None:
            shutil.rmtree(self.work_dir / "slaves", ignore_errors=True)
        self.frameworks.clear()
        self.completed_frameworks.clear()
        self.id, self.removed = "", False
        self.restart()

    async def stop(self) -> None:
        """End all, without a word to anybody; returns when no process is left."""
        self._down()
        self._end_all()
        for executor in self._ending.values():
            executor.destroy()
        await asyncio.gather(*self._ending)

    # -- its process -------------------------------------------------------------------------------------------

    def _down(self) -> None:
        self.alive = self._recovered = self._registered = False
        self._cancel_attempt()
        for run in self.runs.values():
            run.cancel_delivery()
        self._tell_life(False)

    def _tell_life(self, alive: bool) -> None:
        if self.life is not None:
            self.life(alive)

    def _recover(self) -> None:
        self._recovered = True
        now = asyncio.get_running_loop().time()
        for run in list(self.runs.values()):
            waiting, run.waiting = run.waiting, []
            if run.ended is not None and waiting and now - run.ended > self.timing.executor_linger:
                # Its executor waited for the agent in vain, and took the command's result with it.
                waiting = [Told("TASK_FAILED", "Executor terminated", "REASON_EXECUTOR_TERMINATED", AGENT)]
            for told in waiting:
                self._queue(run, told)
        self._register()

    def _end_all(self) -> None:
        for run in list(self.runs.values()):
            self._end(run)

    def _end(self, run: Run) -> None:
        """Kill it, and forget what it had to tell."""
        if run.executor is not None:
            run.executor.destroy()
            self._await_end(run.executor)
        self._remove(run)

    def _remove(self, run: Run) -> None:
        run.cancel_delivery()
        run.running = False
        run.updates.clear()
        if self.runs.get(run.key) is run:
            del self.runs[run.key]
            run.hosted.completed.append(run)

    def _await_end(self, executor: Executor) -> None:
        if self.pretend is None:
            waiting = asyncio.create_task(executor.ended())
            self._ending[waiting] = executor
            waiting.add_done_callback(self._ending.pop)

    # -- registration ------------------------------------------------------------------------------------------

    def detected(self, master: MasterLink | None) -> None:
        self.master = master
        self._registered = False
        if self._recovered:
            self._register()

    def _register(self) -> None:
        if not self._recovered:
            return
        self._cancel_attempt()
        if self.master is None or not self.connected or self.removed:
            return
        known = bool(self.id)
        answered = self.master.reregister(self, self._held()) if known else self.master.register(self)
        if not answered:
            self._attempt = asyncio.get_running_loop().call_later(REGISTER_AGAIN_S, self._register)
        elif not self.removed:
            self._registered = True
            if known:
                self._deliver_all()
                asyncio.get_running_loop().call_later(REDELIVERY_S, self._deliver_all)

    def _held(self) -> Iterator[HeldTask]:
        for run in list(self.runs.values()):
            if not run.told_all:
                status = run.updates[0] if run.updates else run.delivered
                earlier = tuple(each for each in run.statuses if each is not status and each not in run.updates)
                yield HeldTask(run.hosted.info, run.info, run.state, status, earlier)

    def _cancel_attempt(self) -> None:
        if self._attempt is not None:
            self._attempt.cancel()
            self._attempt = None

    # -- messages about tasks ----------------------------------------------------------------------------------

    def launch(self, framework: Framework, info: Json) -> None:
        if not self.connected or not self._recovered:
            return
        hosted = self._hosted(framework)
        old = self.runs.get((hosted.id, info["task_id"]["value"]))
        if old is not None:
            # It lingers. This update comes after all of its own.
            self._queue(old, Told("TASK_DROPPED", RUNNER_UP, "REASON_TASK_INVALID", AGENT), ends=False)
            return
        run = self._new_run(hosted, info)
        self._start(run)

    def _new_run(self, hosted: Hosted, info: Json) -> Run:
        executor = info["executor"]["executor_id"] if "executor" in info else info["task_id"]
        run = Run(hosted, info, str(uuids.uuid4()), (info["agent_id"], executor))
        self.runs[run.key] = run
        return run

    def _hosted(self, framework: Framework) -> Hosted:
        known = self.frameworks.get(framework.id)
        if known is None:
            known = Hosted.of(framework, REMEMBERED if self.pretend is None else 2)
            self.frameworks[framework.id] = known
        known.info = framework.info
        known.partition_aware, known.killing_state = framework.partition_aware, framework.killing_state
        return known

    def _start(self, run: Run) -> None:
        refused = refusal(run, self.images, self.directory(run) if self.pretend is None else None)
        if refused is not None:
            run.running = False
            self._queue(run, refused)
            return
        run.executor = self._executor(run)
        run.executor.start()

    def _executor(self, run: Run) -> Executor:
        def report(state: str, message: str | None = None, reason: str | None = None, source: str = EXECUTOR) -> None:
            self._reported(run, Told(state, message, reason, source))

        if self.pretend is not None:
            return PretendingExecutor(run.info, self.pretend(run.info), self.timing, report, next(_pids))
        assert self.work_dir is not None
        facts = AgentFacts(self.id, self.ip, self.port, self.pid, self.work_dir / "fetch")
        ended = lambda returncode: self._custom_ended(run, returncode)  # noqa: E731
        return real_executor(run, self.directory(run), facts, self.timing, report, ended)

    def _custom_ended(self, run: Run, returncode: int) -> None:
        if self._recovered and self.master is not None:
            status = returncode << 8 if returncode >= 0 else -returncode
            self.master.executor_ended(self, run.hosted.id, run.executor_id, status)
        self._reported(run, Told("TASK_FAILED", "Executor terminated", "REASON_EXECUTOR_TERMINATED", AGENT))

    def _reported(self, run: Run, told: Told) -> None:
        """An executor has something to say."""
        run.launching = False
        if told.state in TERMINAL:
            loop = asyncio.get_running_loop()
            run.ended = loop.time()
            loop.call_later(self.timing.executor_linger, self._executor_gone, run)
        if self._recovered:
            self._queue(run, told)
        else:
            run.waiting.append(told)

    def _executor_gone(self, run: Run) -> None:
        run.running = False
        if run.told_all:
            self._remove(run)

    def kill(self, framework_id: str, task_id: str) -> None:
        run = self.runs.get((framework_id, task_id))
        if run is not None and self.connected:
            self._kill(run, grace_of(run.info, self.timing))

    def _kill(self, run: Run, grace: float, reason: str | None = None) -> None:
        if run.executor is None or run.state in TERMINAL:
            return
        if run.launching:
            run.executor.destroy()
            self._await_end(run.executor)
            run.running = run.launching = False
            why = reason or "REASON_TASK_KILLED_DURING_LAUNCH"
            self._queue(run, Told("TASK_KILLED", "Killed before delivery to the executor", why, AGENT))
        else:
            run.executor.kill(grace, run.hosted.killing_state, reason)

    def drain(self, max_grace: float | None) -> None:
        for run in list(self.runs.values()) if self.connected else ():
            own = grace_of(run.info, self.timing)
            self._kill(run, own if max_grace is None else min(own, max_grace), "REASON_AGENT_DRAINING")

    def shutdown_framework(self, framework_id: str) -> None:
        if not self.connected:
            return
        for run in [each for each in self.runs.values() if each.hosted.id == framework_id]:
            if run.executor is not None:
                run.executor.shutdown(SHUTDOWN_GRACE_S * self.timing.scale)
                self._await_end(run.executor)
            self._remove(run)
        hosted = self.frameworks.pop(framework_id, None)
        if hosted is not None:
            self.completed_frameworks.append(hosted)

    def gone(self) -> None:
        self.removed = True
        self._end_all()
        self._down()

    def unknown_tasks(self, framework: Framework, infos: list[Json]) -> None:
        hosted = self._hosted(framework)
        told = Told("TASK_DROPPED", "Reconciliation: task unknown to the agent", "REASON_RECONCILIATION", AGENT)
        for info in infos:
            if (hosted.id, info["task_id"]["value"]) not in self.runs:
                run = self._new_run(hosted, info)
                run.running = False
                self._queue(run, told)

    # -- status updates ----------------------------------------------------------------------------------------

    def _queue(self, run: Run, told: Told, ends: bool = True) -> None:
        """An update of a task; it is sent at once if none of it waits for an acknowledgement."""
        run.update(told, self.ip)
        if ends:
            run.state = run.hosted.state(told.state)
        if len(run.updates) == 1:
            self._deliver(run)

    def _deliver(self, run: Run) -> None:
        run.cancel_delivery()
        run.interval = self.timing.update_retry
        self._send(run)

    def _send(self, run: Run) -> None:
        if not run.updates or not self._recovered:
            return
        run.delivery = asyncio.get_running_loop().call_later(run.interval, self._send, run)
        run.interval = min(run.interval * 2, self.timing.update_retry_max)
        if self._registered and self._reached.is_set() and self.master is not None:
            self.master.status_update(self, run.hosted.id, run.updates[0], run.state)

    def _deliver_all(self, framework_id: str | None = None) -> None:
        for run in list(self.runs.values()):
            if run.updates and framework_id in (None, run.hosted.id):
                self._deliver(run)

    def framework_updated(self, framework_id: str) -> None:
        if self.connected:
            self._deliver_all(framework_id)

    def acknowledge(self, framework_id: str, task_id: str, uuid: str) -> None:
        run = self.runs.get((framework_id, task_id))
        if run is None or not self.connected or not run.updates or run.updates[0]["uuid"] != uuid:
            return
        run.cancel_delivery()
        run.delivered = run.updates.pop(0)
        if run.updates:
            self._deliver(run)
        elif run.state in TERMINAL and not run.running:
            self._remove(run)

    # -- what its endpoints show -------------------------------------------------------------------------------

    @property
    def pid(self) -> str:
        """``slave(1)@127.0.0.1:5051``"""
        return f"{self.path.removeprefix('/')}@{self.ip}:{self.port}"

    @property
    def root(self) -> Path:
        """The directory below which the sandboxes of this agent id are."""
        return (self.work_dir or Path("/var/lib/mesos")) / "slaves" / self.id

    def directory(self, run: Run) -> Path:
        """The sandbox of a task."""
        executors = self.root / "frameworks" / run.hosted.id / "executors"
        return executors / run.executor_id / "runs" / run.container_id

    def locate(self, root: str | None, framework: str, executor: str, run: str) -> Path | None:
        """The sandbox that a path means; in its virtual form there is the latest run only."""
        if self.work_dir is None or not self.id or {".", ".."} & {framework, executor, run}:
            return None
        if run != "latest" if root is None else Path(root) != self.root:
            return None
        return self.root / "frameworks" / framework / "executors" / executor / "runs" / run

    def live(self) -> Iterable[Run]:
        """Tasks whose executors are there."""
        return [run for run in self.runs.values() if run.running and run.executor is not None]
