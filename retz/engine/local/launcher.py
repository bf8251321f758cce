"""The launcher: starts the jobs of one data directory, holds their process trees, knows how they ended.

Run by ``__main__.py`` in isolated mode; its READY_FD gets one line, ``ok`` or ``locked``. Standard library only,
one thread, one loop; it sleeps without any timer while there are no jobs. It outlives the server, enforces limits
while the server is away, and exits by itself when it has no jobs and no server has been connected for a while.

The server talks to it over a Unix socket, one JSON array per line.

From the server:
    ``["start", task, command, environment, directory, mem_limit_mb, timeout_s, kill_grace_s, after, how]``. The last
    two may be left out. ``after``, a task: start it when that one has ended; ``["withdraw", task]`` lets it go if it
    still waits. ``how``: what must be done first, see ``prepare.py``
    ``["kill", task, grace_s]``, ``["ack", [seq, ...]]``, ``["usage", request, [task, ...], series]``
    (``series``: is it wanted? may be left out), ``["interval", seconds]``
    ``["bye"]``: the server ends on purpose; without jobs there is nothing to stay for

To the server:
    ``["hello", protocol, pid, [[task, started], ...], [end, ...]]`` first; ends are as below; ``started`` is null
    while the task is still prepared
    ``["s", task, started]``; ``["w", task]``: withdrawn, it never ran
    ``["e", seq, "ended" | "lost" | "not_started", task, at, started, code, signal, reason, message, usage]``
    ``["u", request, {task: usage}]`` with usage ``[cpu_s, max_rss_mb, interval_s, [[cpu x 100, MiB], ...]]``
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import time

from . import cgroup, leftovers, prepare, processes, records, sandbox
from .followers import Followers
from .job import FOREVER, Job, duration, size
from .line import ServerLine
from .orphans import Orphans
from .spawn import StartError, enter, spawn
from .system import (
    PROTOCOL,
    boot_id,
    open_signalfd,
    ticks_now,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Record = list[Any]

ORDER_FIELDS = 7
"""Of a start, without its optional ones."""
HOLD_STARTED_S = 0.003
"""News of a start waits this long: most short jobs then need one message, not two."""
SCAN_MIN_S, SCAN_MAX_S = 0.15, 2.0
LINGER_S = 2.0
"""What a container's runtime leaves running for a moment (it tidies up) may do so for so long."""
REMOVAL_S = 20.0
"""A keeper that was told to end its container at once has so long."""
SCAN_SHARE = 40
"""Memory limits are looked after with at most 1/40 of a processor."""

_decode = json.JSONDecoder().raw_decode


class Launcher:
    """All state of the process. Methods run in the loop's one thread."""

    def __init__(
        self, cookie: str, dir_fd: int, linger_s: float, listener: socket.socket, history: records.History
    ) -> None:
        self.cookie = cookie
        self.dir_fd = dir_fd
        self.linger_s = self.patience_s = linger_s
        self.interval_s = 5.0
        self.jobs: dict[str, Job] = {}
        self.running: dict[int, Job] = {}  # by pid of the main process, until it is reaped
        self.sessions: dict[int, Job] = {}  # the same, until nothing of the job is left
        self.ending: list[Job] = []  # main process over, some of the tree left
        self.orphans = Orphans(cookie, self.jobs, self.running, self.sessions)
        self.followers = Followers()
        self.removing: dict[int, str] = {}  # what takes containers away, and whose
        self.preparing: dict[int, Job] = {}  # by the descriptor of their news
        self.fresh: list[Job] = []  # started, and not announced yet
        self.group = cgroup.enter(f"{cookie}-{os.getpid()}")
        self.book = records.Book(history, records.encode(["h", boot_id(), self.group]))
        self.announce_at = self.scan_at = self.act_at = self.linger_at = FOREVER
        self.scan_interval = SCAN_MIN_S
        self.signals = open_signalfd((signal.SIGCHLD, signal.SIGTERM))
        self.epoll = select.epoll()
        self.epoll.register(self.signals, select.EPOLLIN)
        self.server = ServerLine(listener, self.epoll)
        self.messages = self.server.messages
        self.oom_kills = processes.kernel_oom_kills()
        self.scanned_at = 0.0
        self.stopping = False

    # -- the loop

    def run(self) -> None:
        """Work until there is nothing to do and nobody to do it for."""
        self.linger_at = time.monotonic() + self.linger_s
        while True:
            events = self.epoll.poll(self._timeout())
            # First, before any descriptor can come to mean another job.
            for fd, _ in events if self.preparing else ():
                if fd in self.preparing:
                    self._hear(self.preparing[fd], time.monotonic())
            for fd, mask in events:
                if fd == self.signals:
                    self._read_signals()
                elif self.server.connection is not None and fd == self.server.connection.fileno():
                    self._serve(mask)
                elif fd == self.server.listener.fileno():
                    self._accept()
            done = self._run_timers(time.monotonic())
            self.book.write(self.jobs.values())
            self.server.send()
            if done:
                return

    def _timeout(self) -> float:
        wake = min(self.announce_at, self.scan_at, self.act_at, self.linger_at)
        return -1 if wake == FOREVER else max(0.0, wake - time.monotonic())

    def _run_timers(self, now: float) -> bool:
        if now >= self.announce_at:
            self._announce(now)
        if now >= self.scan_at:
            self._scan(now)
        if now >= self.act_at:
            self._act(now)
        idle = not self.jobs and (self.server.connection is None or self.stopping)
        if not idle:
            self.linger_at = FOREVER
        elif self.linger_at == FOREVER and not self.stopping:
            self.linger_at = now + self.patience_s
        return idle and (self.stopping or now >= self.linger_at)

    def _read_signals(self) -> None:
        data = os.read(self.signals, 128 * 16)
        numbers = {int.from_bytes(data[at : at + 4], "little") for at in range(0, len(data), 128)}
        if signal.SIGCHLD in numbers:
            self._reap()
        if signal.SIGTERM in numbers:
            self._stop()

    def _stop(self) -> None:
        """End all jobs, then exit: their machine is going down, so they are lost, not failed."""
        self.stopping = True
        for job in list(self.jobs.values()):
            self._end(job, "lost", "the launcher was told to stop", job.grace_s)

    # -- talking to the server

    def _accept(self) -> None:
        self.server.accept()
        # What the old server still had to say is void: the new one decides what it knows from the hello.
        self.followers.clear()
        self.patience_s = self.linger_s
        self.fresh.clear()
        running = records.encode([[job.task, job.started] for job in self.jobs.values()])
        ended = ",".join(self.book.ends)
        self.messages.append(f'["hello",{PROTOCOL},{os.getpid()},{running},[{ended}]]')

    def _serve(self, mask: int) -> None:
        try:
            for message in self.server.receive(mask):
                self._handle(message)
        except (ValueError, TypeError, IndexError) as error:
            self.server.refuse(error)

    def _handle(self, message: Record) -> None:
        kind = message[0]
        if kind == "start":
            self._order(*message[1:])
        elif kind == "ack":
            self.book.acknowledged(message[1])
        elif kind == "kill":
            job = self.jobs.get(message[1])
            if job is not None:
                self._end(job, "user", None, message[2])
            else:
                self._withdraw(message[1])
        elif kind == "withdraw":
            self._withdraw(message[1])
        elif kind == "usage":
            self._answer_usage(message[1], message[2], bool(message[3]) if len(message) > 3 else True)
        elif kind == "interval":
            self.interval_s = message[1]
        elif kind == "bye":
            self.patience_s = 0.0

    def _answer_usage(self, request: int, tasks: list[str], series: bool) -> None:
        now = time.monotonic()
        if now - self.scanned_at > SCAN_MIN_S:  # whoever asks more often gets the same again
            self._scan(now)
        known = {task: self.jobs[task].usage(series) for task in tasks if task in self.jobs}
        self.messages.append(records.encode(["u", request, known]))

    # -- starting

    def _withdraw(self, task: str) -> None:
        """Let a start that waits for another job's end go, if it still waits."""
        self.messages.extend(records.encode(["w", gone]) for gone in self.followers.withdraw(task))

    def _order(self, *message: Any) -> None:
        """Start a task; if ``after`` names another one, when that has ended."""
        start, (after, how) = [*message[:ORDER_FIELDS]], [*message[ORDER_FIELDS:], None, None][:2]
        start.append(how)
        if after is not None and (after in self.jobs or after in self.followers):
            self.followers.add(after, start)
        else:
            self._start(*start)

    def _start_followers(self, task: str) -> None:
        for start in self.followers.take(task):
            self._start(*start)

    def _start(
        self,
        task: str,
        command: str | list[str],
        environment: dict[str, str],
        directory: str | None,
        mem_limit_mb: int | None,
        timeout_s: float | None,
        grace_s: float,
        how: dict[str, Any] | None,
    ) -> None:
        if task in self.jobs or self.stopping:
            return
        path = sandbox.sandbox_path(task)
        try:
            stdout = sandbox.claim(path, self.dir_fd)
        except FileExistsError:
            self._never_ran(task, "lost", None, "its attempt was claimed before, by a launcher that is gone")
            return
        except OSError as error:
            self._never_ran(task, "not_started", None, f"cannot make the sandbox {path}: {error.strerror}")
            return
        try:
            pid, news, record = self._spawn(task, path, stdout, command, environment, directory, how)
        except StartError as error:
            self._never_ran(task, "ended" if error.exit_code else "not_started", error.exit_code, str(error))
            return
        except OSError as error:
            self._never_ran(task, "not_started", None, f"cannot make an output file in {path}: {error.strerror}")
            return
        finally:
            os.close(stdout)
        job = Job(task, pid, record, started=None, born=time.monotonic(), interval_s=self.interval_s)
        job.limits, job.grace_s, job.news = (mem_limit_mb, timeout_s, grace_s), grace_s, news
        job.contained = how is not None and "container" in how
        self._watch(job)

    def _spawn(
        self,
        task: str,
        path: str,
        stdout: int,
        command: str | list[str],
        environment: dict[str, str],
        directory: str | None,
        how: dict[str, Any] | None,
    ) -> tuple[int, int | None, str]:
        """Returns the pid, the descriptor of its news if it must be prepared, and its record."""
        earliest, news = ticks_now(), None
        stderr = sandbox.create_output(f"{path}/stderr", self.dir_fd)
        try:
            if how:
                pid, news = prepare.start(path, stdout, stderr, command, environment, directory, how)
            else:
                enter(directory or path)
                pid = spawn(command, environment, stdout, stderr)
        finally:
            os.fchdir(self.dir_fd)
            os.close(stderr)
        return pid, news, f'["s","{task}",{pid},{earliest},{ticks_now()}]'

    def _watch(self, job: Job) -> None:
        self.jobs[job.task] = self.running[job.pid] = self.sessions[job.pid] = job
        self.book.started(job.record)
        if job.news is None:
            self._begin(job, job.born)
        else:
            self.preparing[job.news] = job
            # Only its end, because nothing before that is the whole message; a keeper writes whole lines.
            self.epoll.register(job.news, select.EPOLLIN if job.contained else 0)

    def _begin(self, job: Job, now: float) -> None:
        """The command itself runs: its time and its limits begin."""
        job.begin(now, time.time())
        if not self.fresh:
            self.announce_at = now + HOLD_STARTED_S
        self.fresh.append(job)
        self.act_at = min(self.act_at, job.deadline)
        wait = SCAN_MIN_S if job.limit_mb is not None else self.interval_s
        self.scan_at = min(self.scan_at, now + wait)

    def _hear(self, job: Job, now: float) -> None:
        """Its preparation is over: it runs, or said what is wrong, or died. Or its container's keeper has news."""
        news = job.news
        assert news is not None
        told = os.read(news, 1 << 16)
        if job.contained and told:
            self._hear_keeper(job, told, now)
            return
        job.news = None
        del self.preparing[news]
        self.epoll.unregister(news)
        os.close(news)
        if told == prepare.BEGUN:
            self._begin(job, now)
        elif told:
            job.trouble = _decode(told.removeprefix(prepare.BEGUN).decode())[0]

    def _hear_keeper(self, job: Job, told: bytes, now: float) -> None:
        for line in told.splitlines():
            message = _decode(line.decode())[0]
            if message[0] != "at":
                job.trouble = message
                continue
            self._begin(job, now)
            first = processes.read_stat(message[1])
            if first is not None:
                job.roots[message[1]] = first[3]
                parent = processes.read_stat(first[0])
                if parent is not None and parent[0] == os.getpid() and first[0] not in self.running:
                    # The runtime's monitor: what the container used is in its sum.
                    self.orphans.owners[first[0]] = {job.task}

    def _never_ran(self, task: str, kind: str, code: int | None, message: str) -> None:
        reason = "start" if kind == "ended" else None
        end = ["e", 0, kind, task, time.time(), None, code, None, reason, message, None]
        self.messages.append(self.book.ended(end))
        self._start_followers(task)

    def _announce(self, now: float) -> None:
        due = [job for job in self.fresh if job.born + HOLD_STARTED_S <= now]
        self.fresh = [job for job in self.fresh if job.born + HOLD_STARTED_S > now]
        self.announce_at = self.fresh[0].born + HOLD_STARTED_S if self.fresh else FOREVER
        self.messages.extend(f'["s","{job.task}",{job.started}]' for job in due)

    # -- ending

    def _reap(self) -> None:
        now = time.monotonic()
        orphaned = False
        while True:
            try:
                pid, status, used = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            job = self.running.pop(pid, None)
            if job is not None:
                while job.news is not None:
                    self._hear(job, now)
                job.over(status, used.ru_utime + used.ru_stime, used.ru_maxrss, now, time.time())
                self.ending.append(job)
                if job.contained:
                    job.deadline = now + (REMOVAL_S if self._remove_container(job) else LINGER_S)
                    self.act_at = min(self.act_at, job.deadline)
            else:
                orphaned = True
                if pid in self.removing and status == 0:
                    leftovers.forget(self.removing[pid])
                self.removing.pop(pid, None)
                self._charge(self.orphans.owners.pop(pid, None), used.ru_utime + used.ru_stime, used.ru_maxrss)
        if self.ending or orphaned:
            self._settle(now)

    def _charge(self, owners: set[str] | None, cpu_s: float, max_rss_kb: int) -> None:
        if owners is not None and len(owners) == 1:
            job = self.jobs.get(next(iter(owners)))
            if job is not None:
                job.charge(cpu_s, max_rss_kb)

    def _settle(self, now: float) -> None:
        """Report the jobs of which nothing is left; end what is left of the others."""
        self.orphans.find()
        held = self.orphans.by_task()
        left = []
        for job in self.ending:
            remaining = held.get(job.task)
            if remaining is None:
                self._report(job)
                continue
            left.append(job)
            # A job that was asked to end may clean up until its grace is over; nothing survives a normal end.
            if (job.verdict is None and not job.contained) or job.forced or now >= job.deadline:
                job.forced = True
                self._signal(remaining, [signal.SIGKILL])
        self.ending = left
        if self.orphans:
            self._signal(self.orphans.of_nobody(), [signal.SIGKILL])

    def _report(self, job: Job) -> None:
        if job.verdict is None and job.killed_by(signal.SIGKILL):
            self._blame_kernel(job)
        del self.jobs[job.task], self.sessions[job.pid]
        for pid, start in job.roots.items():  # of a daemon's containers nothing is below us
            processes.send(pid, start, [signal.SIGKILL])
        if self.fresh and job in self.fresh:
            self.fresh.remove(job)
            if not self.fresh:
                self.announce_at = FOREVER
        self.orphans.ended(job.task)
        self.messages.append(self.book.ended(job.final(0)))
        if not self.jobs:
            self.scan_at = self.act_at = FOREVER
        self._start_followers(job.task)

    def _remove_container(self, job: Job) -> bool:
        """If its keeper was killed, have the runtime take away what it kept."""
        command = leftovers.removal(job.task)
        if command is None:
            return False
        try:
            pid = os.posix_spawn(command[0][0], *command, setsid=True, setsigmask=[])
        except OSError:
            return False  # the next launcher tries again
        self.orphans.ours(pid)
        self.removing[pid] = job.task
        return True

    def _blame_kernel(self, job: Job) -> None:
        """Somebody sent SIGKILL, and it was not us: see whether the kernel has just run out of memory."""
        before, self.oom_kills = self.oom_kills, processes.kernel_oom_kills()
        if self.oom_kills > before:
            text = f"the kernel killed it because memory ran out, here or in a container; it used {size(job.peak_mb)}"
            if job.contained and job.limit_mb is not None:
                text = f"the kernel killed it because it needed more than the {size(job.limit_mb)} it may use"
            job.verdict, job.message = "oom", text

    def _end(self, job: Job, verdict: str, message: str | None, grace_s: float) -> None:
        """SIGTERM to the whole tree, SIGKILL after the grace. The first verdict stays, the shortest grace counts."""
        now = time.monotonic()
        if job.verdict is None:
            job.verdict, job.message, job.deadline = verdict, message, now + grace_s
            if grace_s > 0 and self._kept(job):
                os.kill(job.pid, signal.SIGTERM)
            elif grace_s > 0:
                self._signal([job.pid] if job.status is None else [], [signal.SIGTERM, signal.SIGCONT], job)
        else:
            job.deadline = min(job.deadline, now + grace_s)
        if job.deadline <= now:
            self._force(job)
        self.act_at = min(self.act_at, job.deadline)

    def _kept(self, job: Job) -> bool:
        """Whether a keeper sees to its end; before the container begins, it is a process like any other."""
        return job.contained and job.started is not None and job.status is None

    def _force(self, job: Job) -> None:
        if self._kept(job):
            # One that does not obey is killed, and what it kept is taken away when it is gone.
            os.kill(job.pid, signal.SIGKILL if job.urged else signal.SIGUSR1)
            job.urged, job.deadline = True, time.monotonic() + REMOVAL_S
            self.act_at = min(self.act_at, job.deadline)
            return
        job.forced, job.deadline = True, FOREVER
        self._signal([job.pid] if job.status is None else [], [signal.SIGKILL], job)

    def _signal(self, roots: list[int], signals: list[int], job: Job | None = None) -> None:
        """Signal children of ours and everything below them; with ``job``, its orphans as well."""
        if job is not None:
            self.orphans.find()
            roots = roots + self.orphans.of(job.task)
        if not roots:
            return
        table = processes.scan(processes.all_pids())
        for pid in processes.descend(processes.children_of(table), roots):
            if pid in table:
                processes.send(pid, table[pid][3], signals)

    def _act(self, now: float) -> None:
        """Do what is due: time limits, and the ends of graces."""
        for job in list(self.jobs.values()):
            if job.deadline > now:
                continue
            if job.verdict is None and job.status is None:
                text = f"it ran longer than its time limit of {duration(job.timeout_s or 0)}"
                self._end(job, "timeout", text, job.grace_s)
            else:
                self._force(job)
        self.act_at = min((job.deadline for job in self.jobs.values()), default=FOREVER)

    # -- watching

    def _scan(self, now: float) -> None:
        """Sample every job, and end those over their memory limit."""
        table = processes.scan(processes.all_pids())
        children = processes.children_of(table)
        limited = False
        for job in list(self.jobs.values()):
            if job.status is not None or job.started is None:
                continue
            if job.contained and not self._roots(job, table):
                continue
            limited = limited or job.limit_mb is not None
            # The keeper and what belongs to the runtime is not the job.
            top = self._roots(job, table) if job.contained else [job.pid, *self.orphans.of(job.task)]
            pids = [pid for pid in processes.descend(children, top) if pid in table]
            stats = [table[pid] for pid in pids]
            rss_mb = sum(stat[4] for stat in stats) * processes.PAGE_MB
            job.sample(now, sum(stat[2] for stat in stats), rss_mb)
            if job.limit_mb is not None and rss_mb > job.limit_mb and job.verdict != "oom":
                self._check_memory(job, pids, rss_mb)
        self._plan_scan(now, limited)

    def _roots(self, job: Job, table: processes.Table) -> list[int]:
        return [pid for pid, start in job.roots.items() if pid in table and table[pid][3] == start]

    def _plan_scan(self, now: float, limited: bool) -> None:
        self.scanned_at = now
        cost = time.monotonic() - now
        wait = min(max(SCAN_MIN_S, SCAN_SHARE * cost), SCAN_MAX_S) if limited else self.interval_s
        self.scan_at = now + min(wait, self.interval_s) if self.running else FOREVER

    def _check_memory(self, job: Job, pids: list[int], used_mb: float) -> None:
        if len(pids) > 1:
            # Forked workers share most of their pages; the sum of what is resident counts those once for each.
            proportional = processes.proportional_mb(pids)
            used_mb = used_mb if proportional is None else proportional
        if job.limit_mb is not None and used_mb > job.limit_mb:
            job.verdict, job.message = "oom", f"used {size(used_mb)} of the {size(job.limit_mb)} it may use"
            self._force(job)
