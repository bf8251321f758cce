"""The local engine, server side: one agent, one standing offer, a link to the launcher."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from retz.engine.base import (
    Assignment,
    EngineError,
    FileEntry,
    FileReader,
    KnownTask,
    Listener,
    Task,
    Update,
)
from retz.engine.offers import OfferBook
from retz.model.agent import Agent, AttributeValue, Gpu, Offer
from retz.model.container import Container
from retz.model.job import Usage
from retz.model.resources import Resources

from . import access, files, machine
from .account import Account
from .collector import Collector
from .gpus import Telemetry
from .link import Link
from .orders import Containers as Containers
from .orders import Fetching as Fetching
from .orders import Orders, has_runtime
from .ports import PortPool
from .sandbox import claim, sandbox_path
from .standby import WITHDRAW_S, Standby

_log = logging.getLogger(__name__)

UNKNOWN_GRACE_S = 5.0
REOFFER_S = 1.0
"""A declined offer comes back after this long, should nothing else bring it back."""
REST_S = 5.0
"""So long nothing is offered after a task could not be started for the machine's sake."""
_RETRY_MAX_S = 5.0
USAGE_PATIENCE_S = 5.0


class _Held:
    """A task that the launcher was asked to run, and whose end the server has not heard of yet."""

    __slots__ = ("gpu_mem_mb", "gpu_util", "gpus", "kill_grace_s")

    def __init__(self, gpus: tuple[str, ...], kill_grace_s: float | None = None) -> None:
        self.gpus = gpus
        self.kill_grace_s = kill_grace_s  # of the kill that was asked for; None if none was
        self.gpu_util: float | None = None
        self.gpu_mem_mb: float | None = None


class LocalEngine:
    """This machine as one agent. See :class:`retz.engine.base.Engine` for the contract.

    Args:
        directory: Holds sandboxes, the launcher's socket, lock, log and records. Made with mode 0700.
        total: What to offer; None for what is found. ``ports=0`` means the whole port range.
        attributes: Of the agent, for constraints.
        gpus: Declared GPUs; None for those NVML finds.
        port_range: First port, and the one after the last.
        sample_interval_s: Seconds between two samples of each job's usage.
        linger_s: Seconds that the launcher stays without jobs and without a server.
        user: Unix user of tasks that name none; None for the one that the server runs as. Only root may choose.
        fetching: Limits for files of tasks.
        containers: How tasks in containers are run.
    """

    name = "local"
    shared = False
    master: str | None = None

    def __init__(
        self,
        directory: Path,
        *,
        total: Resources | None = None,
        attributes: Mapping[str, AttributeValue] | None = None,
        gpus: Sequence[Gpu] | None = None,
        port_range: tuple[int, int] = (31000, 32000),
        sample_interval_s: float = 5.0,
        linger_s: float = 10.0,
        user: str | None = None,
        fetching: Fetching | None = None,
        containers: Containers | None = None,
    ) -> None:
        self._directory = directory.absolute()
        self._configured = total
        self._attributes = dict(attributes or {})
        self._declared = gpus
        self._ports = PortPool(*port_range)
        self._interval_s = sample_interval_s
        self._linger_s = linger_s
        self._root = os.geteuid() == 0
        self._user = user if self._root and user != "root" else None
        self._fetching = fetching or Fetching()
        self._containers = containers or Containers()
        container = ("container",) if has_runtime(self._containers) else ()
        self.honours = frozenset(("files", "user", *container) if self._root else ("files", *container))
        self._telemetry = Telemetry()
        self._gpus: tuple[Gpu, ...] = ()
        self._launcher_pid = 0
        self._tasks: dict[str, _Held] = {}
        self._delivered: set[int] = set()  # updates the server has and may not have on its disk yet
        self._acks: list[int] = []
        self._ack_due = self._offer_due = False
        self._ready = self._stopped = False
        self._requests: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._requests_made = 0
        self._background: set[asyncio.Task[None]] = set()
        self._overdue_timer: asyncio.TimerHandle | None = None
        self._resting = self._complaining = False

    # -- life

    async def start(self, listener: Listener, known: Sequence[KnownTask]) -> None:
        """Connect to the launcher, or start one; adopt ``known``; offer what is free."""
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._prepare()
        for task in known:
            self._tasks[task.id] = _Held(task.assignment.gpus, task.kill_grace_s if task.kill else None)
            self._account.take(task.id, task.resources.vector, task.assignment, force=True)
        self._link = Link(self._directory, self._dir_fd, self._linger_s, self._received, self._disconnected)
        self._adopt(await self._link.open())
        if self._gpus:
            self._keep(self._watch_gpus())
        self._make_offer()

    def _prepare(self) -> None:
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._dir_fd = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
            access.settle_directories(self._directory, self._dir_fd, self._user)
            self._id = machine.agent_id(self._directory)
            str(self._directory).encode()
        except OSError as error:
            raise EngineError(f"cannot use {self._directory}: {error.strerror}; see its owner and mode") from error
        except UnicodeEncodeError:
            text = f"{self._directory!s:.200}".encode(errors="replace").decode()
            raise EngineError(f"the name of {text} is not UTF-8; choose another --data-dir") from None
        self._collector = Collector(self._dir_fd)
        self._host = socket.gethostname()
        gpus = self._telemetry.find() if self._declared is None else self._telemetry.known(self._declared)
        total = self._configured or machine.detect(self._directory, len(gpus), self._ports.size)
        self._total, self._gpus = machine.reconcile(total, gpus, self._ports.size)
        self._account = Account(self._total.vector, [gpu.uuid for gpu in self._gpus], self._ports)
        self._book = OfferBook(self._id, self._host, self._attributes)
        self._standby = Standby(self._id, self._host, self._attributes)
        self._orders = Orders(self._directory, self._id, self._user, self._fetching, self._containers)

    async def stop(self) -> None:
        """Let go. The launcher keeps the jobs running, and what ends meanwhile is told to the next engine."""
        self._ready, self._stopped = False, True
        self._flush_acks()
        if self._overdue_timer is not None:
            self._overdue_timer.cancel()
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await self._collector.stop()
        if self._link.connected:
            self._link.send([["bye"]])
        self._link.close()
        self._fail_requests()
        os.close(self._dir_fd)

    def _keep(self, coroutine: Any) -> None:
        task = self._loop.create_task(coroutine)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    # -- the launcher

    def _adopt(self, hello: list[Any]) -> None:
        """Bring what we believe and what the launcher says together; every task gets its one truth."""
        _, _, self._launcher_pid, running, ended = hello
        self._link.send([["interval", self._interval_s]])
        updates = self._ends(ended)
        for task, started in running:
            held = self._tasks.get(task)
            if held is None:
                self._link.send([["kill", task, UNKNOWN_GRACE_S]])
                continue
            if started is not None:
                updates.append(Update(seq=0, task=task, kind="started", at=started, started=started))
            if held.kill_grace_s is not None:
                self._link.send([["kill", task, held.kill_grace_s]])
        running_tasks = {task for task, _ in running}
        updates.extend(self._settle(task) for task in list(self._tasks) if task not in running_tasks)
        self._ready = True
        if updates:
            self._listener.updates(updates)
        self._flush_acks()
        self._link.listen()

    def _settle(self, task: str) -> Update:
        """The launcher does not know it: either nothing ever ran, and we make sure that nothing will, or it is lost."""
        self._forget(task)
        try:
            os.close(claim(sandbox_path(task), self._dir_fd))
        except FileExistsError:
            text = "the launcher died before it could say what became of it"
            return Update(seq=0, task=task, kind="lost", at=time.time(), message=text)
        except OSError as error:  # a full disk, say: whether it was claimed cannot be told, and adoption must end
            text = f"the launcher died, and its sandbox cannot be looked at: {error.strerror}"
            return Update(seq=0, task=task, kind="lost", at=time.time(), message=text)
        return Update(seq=0, task=task, kind="not_started", at=time.time(), message="the launcher never got it")

    def _disconnected(self) -> None:
        self._ready = False
        void = self._book.withdraw() + self._standby.clear()
        if void:
            self._listener.rescinded(void)
        self._fail_requests()
        self._listener.agents_changed()
        _log.warning("the launcher is gone; starting another one")
        self._keep(self._reconnect())

    async def _reconnect(self) -> None:
        delay, failed = 0.1, False
        while True:
            try:
                hello = await self._link.open()
                break
            except (EngineError, OSError) as error:
                failed = True
                self._listener.failed(str(error))
                await asyncio.sleep(delay)
                delay = min(2 * delay, _RETRY_MAX_S)
        self._adopt(hello)
        self._listener.agents_changed()
        if failed:
            self._listener.recovered()
        self._offer_soon()

    def _received(self, messages: list[Any]) -> None:
        ends, updates = [], []
        for message in messages:
            kind = message[0]
            if kind == "e":
                ends.append(message)
            elif kind == "s":
                if message[1] in self._tasks:
                    at = message[2]
                    updates.append(Update(seq=0, task=message[1], kind="started", at=at, started=at))
            elif kind == "w":
                updates.extend(self._withdrawn(message[1]))
            elif kind == "u":
                self._answer(message[1], message[2])
        updates.extend(self._ends(ends))
        if updates:
            self._listener.updates(updates)
        if ends:
            # In the same turn, so that the record of the end and of the launch that follows share an fsync.
            self._make_offer()

    def _ends(self, messages: Iterable[list[Any]]) -> list[Update]:
        updates = []
        for _, seq, kind, task, at, started, code, number, reason, text, used in messages:
            held = self._tasks.get(task)
            if held is None:
                if seq not in self._delivered:
                    self._acks.append(seq)  # the server does not wait for it: it knew already, or never did
                    self._ack_soon()
                continue
            if started is not None:
                self._standby.observe(at - started)
                self._well()
            elif kind == "not_started":
                self._unwell(text)
            self._forget(task)
            self._delivered.add(seq)
            usage = None if used is None else _usage(used, held)
            updates.append(
                Update(
                    seq=seq,
                    task=task,
                    kind=kind,
                    at=at,
                    started=started,
                    exit_code=code,
                    signal=number,
                    reason=reason,
                    message=text,
                    usage=usage,
                )
            )
        return updates

    def _unwell(self, message: str) -> None:
        """This machine cannot start tasks (no space, no processes left): offer nothing for a while, then try again.

        Otherwise one such minute would go through the whole queue.
        """
        if self._resting:
            return
        self._resting = self._complaining = True
        self._listener.failed(f"{message}; trying again every {REST_S:g} s")
        void = self._book.withdraw() + self._standby.withdraw()
        if void:
            self._listener.rescinded(void)
        self._loop.call_later(REST_S, self._rested)

    def _rested(self) -> None:
        self._resting = False
        if not self._stopped:
            self._offer_soon()

    def _well(self) -> None:
        if self._complaining and not self._resting:
            self._complaining = False
            self._listener.recovered()

    def _forget(self, task: str) -> None:
        del self._tasks[task]
        self._account.give_back(task)
        followers, void, claimed = self._standby.ended(task)
        for follower in followers:
            self._account.take(follower.task, follower.need, Assignment(), force=True)
            self._standby.running(follower.task, follower.need)
        if claimed is not None:
            self._book.adopt(claimed)
        if void:
            self._listener.rescinded(void)
        self._offer_soon()

    def _withdrawn(self, task: str) -> Iterable[Update]:
        """The launcher let a follower go before its turn came."""
        if task in self._tasks:
            self._standby.drop(task)
            self._forget(task)
            text = "the task it was to follow ran on"
            yield Update(seq=0, task=task, kind="not_started", at=time.time(), message=text)

    def _withdraw_overdue(self) -> None:
        self._overdue_timer = None
        late = self._standby.overdue()
        if late:
            self._link.send([["withdraw", task] for task in late])
        self._watch_followers()

    def _watch_followers(self) -> None:
        if self._standby.waiting and self._overdue_timer is None and not self._stopped:
            self._overdue_timer = self._loop.call_later(WITHDRAW_S, self._withdraw_overdue)

    # -- offers

    def agents(self) -> Sequence[Agent]:
        """This machine, ``unreachable`` while there is no launcher."""
        state = "active" if self._ready else "unreachable"
        return [
            Agent(
                id=self._id,
                host=self._host,
                total=self._total,
                attributes=self._attributes,
                gpus=self._gpus,
                state=state,  # type: ignore[arg-type]
            )
        ]

    def assign(self, offer: Offer, resources: Resources, taken: Assignment) -> Assignment | None:
        """Choose GPUs and ports; see the contract."""
        self._book.claim(offer)
        self._standby.claim(offer.id)
        return self._account.assign(offer.id, resources, taken)

    def launch(self, offer: Offer, tasks: Sequence[Task]) -> None:
        """Hand tasks to the launcher. A task that no longer fits, its offer being void, is not started."""
        after = self._standby.close(offer.id)
        self._close_offers([offer.id])
        messages: list[Any] = []
        for task in tasks:
            need = task.resources.vector
            if after is not None:
                self._standby.follow(after, task.id, need)
                self._tasks[task.id] = _Held(())
                messages.append(self._orders.start(task, after))
            elif self._account.take(task.id, need, task.assignment):
                self._standby.running(task.id, need)
                self._tasks[task.id] = _Held(task.assignment.gpus)
                messages.append(self._orders.start(task, None))
            else:
                self._loop.call_soon(self._no_room, task.id)
        if self._ready:
            if self._acks:
                messages.insert(0, self._take_acks())
            self._link.send(messages)
        # Else the adoption under way settles them: a hello that was written before they came does not name them.
        self._watch_followers()
        self._offer_soon()

    def _no_room(self, task: str) -> None:
        text = "its offer was void when it was to be launched"
        self._listener.updates([Update(seq=0, task=task, kind="not_started", at=time.time(), message=text)])

    def decline(self, offer_ids: Sequence[str]) -> None:
        """Take the offer back; it returns when something has changed, or after a second."""
        if self._close_offers(offer_ids):
            self._loop.call_later(REOFFER_S, self._offer_soon)

    def _close_offers(self, offer_ids: Sequence[str]) -> bool:
        self._account.unpromise(offer_ids)
        for offer_id in offer_ids:
            self._standby.close(offer_id)
        return self._book.close(offer_ids)

    def _offer_soon(self) -> None:
        if not self._offer_due:
            self._offer_due = True
            self._loop.call_soon(self._make_offer)

    def _make_offer(self) -> None:
        """Offer what is free, in place of what was offered before, unless nothing has changed."""
        self._offer_due = False
        if not self._ready or self._resting:
            return
        void, offer = self._book.renew(self._account.free)
        offers = [] if offer is None else [offer]
        if self._book.standing:
            void += self._standby.withdraw()  # who could start now shall not wait for another one's end
        else:
            offers = self._standby.offers()
        if void:
            self._listener.rescinded(void)
        if offers:
            self._listener.offers(offers)

    async def refusal(self, container: Container) -> str | None:
        """See the contract."""
        if "container" not in self.honours:
            return (
                "jobs cannot run in containers: this machine had no container runtime when the server started; install "
                "podman or docker (or set retz.container.runtime) and restart the server"
            )
        return await self._orders.refusal(container)

    # -- tasks

    def revive(self) -> None:
        """What is offered stays offered: nobody else wants it."""

    def suppress(self) -> None:
        """Nobody else wants the room."""

    def kill(self, task_id: str, grace_s: float) -> None:
        """SIGTERM to its whole tree, SIGKILL after ``grace_s``."""
        held = self._tasks.get(task_id)
        if held is not None:
            held.kill_grace_s = grace_s  # again after a reconnect
            if self._ready:
                self._link.send([["kill", task_id, grace_s]])

    def acknowledge(self, seqs: Sequence[int]) -> None:
        """These are durable; the launcher forgets them."""
        for seq in seqs:
            if seq in self._delivered:
                self._delivered.discard(seq)
                self._acks.append(seq)
        self._ack_soon()

    def _ack_soon(self) -> None:
        if self._acks and not self._ack_due:
            self._ack_due = True
            self._loop.call_soon(self._flush_acks)

    def _flush_acks(self) -> None:
        self._ack_due = False
        if self._acks and self._link.connected:
            self._link.send([self._take_acks()])

    def _take_acks(self) -> list[Any]:
        seqs, self._acks = self._acks, []
        return ["ack", seqs]

    async def usage(self, task_ids: Sequence[str], *, series: bool = True) -> dict[str, Usage]:
        """Present usage of running tasks, sampled now."""
        if not self._link.connected:
            return {}
        self._requests_made += 1
        answer: asyncio.Future[dict[str, Any]] = self._loop.create_future()
        self._requests[self._requests_made] = answer
        self._link.send([["usage", self._requests_made, list(task_ids), int(series)]])
        request = self._requests_made
        try:
            async with asyncio.timeout(USAGE_PATIENCE_S):
                used = await answer
        except TimeoutError:  # a launcher that hangs; whoever asked must not
            return {}
        finally:
            self._requests.pop(request, None)
        return {task: _usage(values, self._tasks.get(task)) for task, values in used.items()}

    def _answer(self, request: int, used: dict[str, Any]) -> None:
        waiting = self._requests.pop(request, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(used)

    def _fail_requests(self) -> None:
        for request in list(self._requests):
            self._answer(request, {})

    async def _watch_gpus(self) -> None:
        """Sample the GPUs while tasks hold some, and now and then otherwise; keep each task's peaks."""
        while True:
            self._gpus = await asyncio.to_thread(self._telemetry.sample, self._gpus, self._launcher_pid)
            by_uuid = {gpu.uuid: gpu for gpu in self._gpus}
            busy = False
            for held in self._tasks.values():
                mine = [by_uuid[uuid] for uuid in held.gpus if uuid in by_uuid]
                busy = busy or bool(mine)
                held.gpu_util = _peak(held.gpu_util, [gpu.util for gpu in mine])
                held.gpu_mem_mb = _peak(held.gpu_mem_mb, [gpu.mem_used_mb for gpu in mine])
            await asyncio.sleep(self._interval_s if busy else 6 * self._interval_s)

    # -- files

    async def list_files(self, task_id: str, path: str, agent: str = "") -> list[FileEntry]:
        """See the contract. Works as long as the sandbox exists."""
        return await asyncio.to_thread(files.list_files, self._dir_fd, _sandbox(task_id), path)

    async def open_file(self, task_id: str, path: str, agent: str = "") -> FileReader:
        """See the contract. Works as long as the sandbox exists."""
        return files.open_file(self._dir_fd, _sandbox(task_id), path)

    def collect(self, task_ids: Sequence[str]) -> None:
        """Remove these sandboxes, slowly."""
        self._collector.add(task_ids)


def _sandbox(task_id: str) -> str:
    try:
        return sandbox_path(task_id)
    except ValueError as error:
        raise FileNotFoundError(str(error)) from error


def _usage(values: list[Any], held: _Held | None) -> Usage:
    cpu_s, max_rss_mb, interval_s, series = values
    usage = Usage(
        cpu_s=cpu_s, max_rss_mb=max_rss_mb, interval_s=interval_s, series=tuple((cpus, mem) for cpus, mem in series)
    )
    if held is None or held.gpu_util is None:
        return usage
    return replace(usage, gpu_util=held.gpu_util, gpu_mem_mb=held.gpu_mem_mb)


def _peak(before: float | None, values: Iterable[float | None]) -> float | None:
    return max((value for value in (before, *values) if value is not None), default=None)
