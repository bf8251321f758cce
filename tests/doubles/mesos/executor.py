"""Command executors: one that really runs the command of a task, and one that only pretends to."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import re
import shlex
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from .fetcher import FetchError, fetch
from .model import Json, Timing
from .processes import Process, Usage, read, scan, total, tree

START_S = 0.04
"""A real mesos-executor takes some 0.15 s to start; what is killed meanwhile never ran."""

SHELL = "/bin/sh"


class Report(Protocol):
    """Takes what the agent's executor has to say of its task."""

    def __call__(
        self, state: str, message: str | None = None, reason: str | None = None, source: str = "SOURCE_EXECUTOR"
    ) -> None: ...


class Executor(Protocol):
    """What an agent asks of an executor."""

    pid: int

    def start(self) -> None:
        """Begin; everything else is reported."""

    def kill(self, grace: float, state: bool, reason: str | None = None) -> None:
        """SIGTERM to the whole tree, SIGKILL after ``grace`` seconds; ``state``: report TASK_KILLING first."""

    def destroy(self) -> None:
        """SIGKILL to the whole tree; nothing more is reported."""

    def shutdown(self, grace: float) -> None:
        """SIGTERM to the whole tree, SIGKILL after ``grace`` seconds; nothing more is reported."""

    def usage(self, table: Mapping[int, Process]) -> Usage | None:
        """What it used, given all processes of the machine; None if nothing runs."""

    async def ended(self) -> None:
        """Returns when nothing of it is left."""


class Ending:
    """How the end of a command is told: its state, message and reason."""

    __slots__ = ("killed", "late", "reason")

    def __init__(self) -> None:
        self.killed = False
        self.late = False
        self.reason: str | None = None

    def tell(self, report: Report, returncode: int) -> None:
        """The last report of a command with this return code, negative for a signal."""
        report(self._state(returncode), ending(returncode), self._reason())

    def _state(self, returncode: int) -> str:
        if self.late:
            return "TASK_FAILED"
        if self.killed:
            return "TASK_KILLED"
        return "TASK_FINISHED" if returncode == 0 else "TASK_FAILED"

    def _reason(self) -> str | None:
        return "REASON_MAX_COMPLETION_TIME_REACHED" if self.late else self.reason


def ending(returncode: int) -> str:
    """The message of a task that ended so."""
    if returncode < 0:
        return f"Command terminated with signal {signal.strsignal(-returncode)}"
    return f"Command exited with status {returncode}"


def seconds(duration: Json | None, timing: Timing) -> float | None:
    """A DurationInfo of a call, as long as the double takes it."""
    return None if duration is None else duration["nanoseconds"] / 1e9 * timing.scale


def grace_of(info: Json, timing: Timing) -> float:
    """How long a task may take to end after SIGTERM; only its own kill policy counts, not the one of a KILL."""
    told = seconds(info.get("kill_policy", {}).get("grace_period"), timing)
    return timing.kill_grace if told is None else told


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How a pretended command ends: after so long, with this return code (negative: signal), having used so much."""

    seconds: float | None = 0.0
    returncode: int = 0
    cpus: float = 0.0
    rss: int = 16 * 2**20


Pretend = Callable[[Json], Behaviour]
"""What a TaskInfo's command would do."""

SIMPLE = re.compile(
    r"(?:^|[;&])\s*(?:sleep (?P<sleep>[\d.]+)\s*(?:$|[;&]+\s*))?(?:exit (?P<exit>\d+)|(?P<false>false))?\s*$"
)
"""At the end of the line: a framework may have put something of its own before it."""

ARGUMENTS = 'exec "$@"'
"""A script that ends so executes the arguments behind it."""


def by_command(info: Json) -> Behaviour:
    """Understands lines that end in ``sleep 5``, ``exit 3``, ``sleep 5; exit 3``, ``false``; all else ends well."""
    command = info.get("command", {})
    text = str(command.get("value", ""))
    if not command.get("shell", True):
        arguments = command.get("arguments", [text])
        own = next((place for place, each in enumerate(arguments) if each.endswith(ARGUMENTS)), None)
        text = shlex.join(arguments if own is None else arguments[own + 2 :])
    found = SIMPLE.search(text)
    if not found:
        return Behaviour()
    return Behaviour(float(found["sleep"] or 0), 1 if found["false"] else int(found["exit"] or 0))


class PretendingExecutor:
    """No process: reports what a command of this behaviour would. Light enough for a hundred thousand."""

    __slots__ = ("_behaviour", "_ending", "_info", "_report", "_since", "_timer", "_timing", "pid")

    def __init__(self, info: Json, behaviour: Behaviour, timing: Timing, report: Report, pid: int) -> None:
        self.pid = pid
        self._info, self._behaviour, self._timing, self._report = info, behaviour, timing, report
        self._ending = Ending()
        self._timer: asyncio.TimerHandle | None = None
        self._since: float | None = None

    def start(self) -> None:
        self._later(self._timing.executor_start, self._begin)

    def _later(self, delay: float, call: Callable[..., None], *args: int) -> None:
        self._timer = asyncio.get_running_loop().call_later(delay, call, *args)

    def _begin(self) -> None:
        self._since = time.monotonic()
        self._report("TASK_STARTING")
        self._report("TASK_RUNNING")
        took, limit = self._behaviour.seconds, seconds(self._info.get("max_completion_time"), self._timing)
        if limit is not None and (took is None or took > limit):
            self._ending.late = True
            self._later(limit, self._end, -signal.SIGTERM)
        elif took is not None:
            self._later(took, self._end, self._behaviour.returncode)

    def _end(self, returncode: int) -> None:
        self._stop()
        self._ending.tell(self._report, returncode)

    def _stop(self) -> None:
        self._since = None
        if self._timer is not None:
            self._timer.cancel()

    def kill(self, grace: float, state: bool, reason: str | None = None) -> None:
        if self._since is None or self._ending.killed:
            return
        if state:
            self._report("TASK_KILLING")
        self._ending.killed, self._ending.reason = True, reason
        self._end(-signal.SIGTERM)

    def destroy(self) -> None:
        self._stop()

    def shutdown(self, grace: float) -> None:
        self._stop()

    def usage(self, table: Mapping[int, Process]) -> Usage | None:
        if self._since is None:
            return None
        return Usage((time.monotonic() - self._since) * self._behaviour.cpus, 0.0, self._behaviour.rss)

    async def ended(self) -> None:
        return


@dataclass(frozen=True, slots=True)
class Launch:
    """What a real executor needs to know.

    Attributes:
        command: CommandInfo.
        sandbox: An existing directory.
        environment: All of it, but for the command's own variables.
        user: To run as; None: as this process.
        custom: It is a custom executor: its end alone says nothing about the task.
        log: The first lines of stderr.
    """

    info: Json
    command: Json
    sandbox: Path
    environment: Mapping[str, str]
    user: str | None
    cache: Path
    container_id: str
    log: tuple[str, ...]
    custom: bool = False


class RealExecutor:
    """Runs the command in its sandbox, in its own session."""

    def __init__(self, launch: Launch, timing: Timing, report: Report, exited: Callable[[int], None]) -> None:
        """``exited`` is told the return code of a custom executor, instead of a report."""
        self.pid = os.getpid()
        self._launch, self._timing, self._report, self._exited = launch, timing, report, exited
        self._ending = Ending()
        self._process: asyncio.subprocess.Process | None = None
        self._work: asyncio.Task[None] | None = None
        self._reaping: asyncio.Task[None] | None = None
        self._quiet = False
        self._tree: dict[int, int] = {}

    def start(self) -> None:
        self._work = asyncio.create_task(self._run())

    async def _run(self) -> None:
        await asyncio.sleep(max(START_S, self._timing.executor_start))
        if await self._fetched():
            await self._execute()

    async def _fetched(self) -> bool:
        uris = self._launch.command.get("uris", [])
        try:
            if uris:
                await asyncio.to_thread(fetch, uris, self._launch.sandbox, self._launch.cache)
        except FetchError as error:
            await asyncio.to_thread(note, self._launch.sandbox / "stderr", f"{error}\n")
            what = f"Failed to fetch all URIs for container '{self._launch.container_id}': exited with status 1"
            message = f"Failed to launch container: {what}"
            self._tell("TASK_FAILED", message, "REASON_CONTAINER_LAUNCH_FAILED", "SOURCE_AGENT")
            return False
        return True

    def _tell(
        self, state: str, message: str | None = None, reason: str | None = None, source: str = "SOURCE_EXECUTOR"
    ) -> None:
        if not self._quiet:
            self._report(state, message, reason, source)

    async def _execute(self) -> None:
        returncode = 1
        with self._log("stdout") as out, self._log("stderr") as err:
            try:
                self._process = await self._spawn(out, err)
                self.pid = self._process.pid
            except OSError as error:
                err.write(f"Failed to execute '{self._launch.command.get('value')}': {error.strerror}\n".encode())
        if not self._launch.custom:
            self._tell("TASK_STARTING")
            self._tell("TASK_RUNNING")
        if self._process is not None:
            returncode = await self._wait(self._process)
        self._told(returncode)

    def _log(self, name: str) -> IO[bytes]:
        return open(self._launch.sandbox / name, "ab")

    def _told(self, returncode: int) -> None:
        if self._quiet:
            return
        if self._launch.custom:
            self._exited(returncode)
        else:
            self._ending.tell(self._tell, returncode)

    async def _spawn(self, out: IO[bytes], err: IO[bytes]) -> asyncio.subprocess.Process:
        err.write("".join(f"{line}\n" for line in self._launch.log).encode())
        err.flush()
        argv = argv_of(self._launch.command)
        return await asyncio.create_subprocess_exec(
            *argv[1:],
            executable=argv[0],
            stdin=asyncio.subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            cwd=self._launch.sandbox,
            env={**self._launch.environment, **variables(self._launch.command)},
            start_new_session=True,
            **account(self._launch.user),
        )

    async def _wait(self, process: asyncio.subprocess.Process) -> int:
        limit = seconds(self._launch.info.get("max_completion_time"), self._timing)
        timer = None if limit is None else asyncio.get_running_loop().call_later(limit, self._too_late)
        returncode = await process.wait()
        for waiting in (timer, self._reaping):
            if waiting is not None:
                waiting.cancel()
        self._kill_rest(process.pid)
        return returncode

    def _kill_rest(self, session: int) -> None:
        """What the command left behind goes with its container."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(session, signal.SIGKILL)
        if self._tree:
            self._signal(signal.SIGKILL)

    def _too_late(self) -> None:
        if not self._ending.killed:
            self._ending.late = True
            self._terminate(grace_of(self._launch.info, self._timing))

    def kill(self, grace: float, state: bool, reason: str | None = None) -> None:
        if self._process is None or self._ending.killed or self._process.returncode is not None:
            return
        if state:
            self._tell("TASK_KILLING")
        self._ending.killed, self._ending.reason = True, reason
        self._terminate(grace)

    def _terminate(self, grace: float) -> None:
        self._signal(signal.SIGTERM)
        self._reaping = asyncio.create_task(self._kill_after(grace))

    async def _kill_after(self, grace: float) -> None:
        await asyncio.sleep(grace)
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        """To the whole tree, also to those that left it since the first signal."""
        if self._process is None:
            return
        for pid, process in tree(self._process.pid, scan()).items():
            self._tree[pid] = process.started
        # Stopped first, as Mesos does: no shell sees a child end before it has the signal itself.
        for each in (signal.SIGSTOP, number, signal.SIGCONT):
            for pid, started in self._tree.items():
                now = read(pid)
                if now is not None and now.started == started:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, each)

    def destroy(self) -> None:
        self._quiet = True
        if self._process is None and self._work is not None:
            self._work.cancel()
        self._signal(signal.SIGKILL)

    def shutdown(self, grace: float) -> None:
        if self._process is None:
            self.destroy()
            return
        self._quiet = True
        if self._process.returncode is None:
            self._terminate(grace)

    def usage(self, table: Mapping[int, Process]) -> Usage | None:
        if self._process is None or self._process.returncode is not None:
            return None
        return total(tree(self._process.pid, table))

    async def ended(self) -> None:
        if self._work is not None:
            await asyncio.gather(self._work, return_exceptions=True)
        if self._reaping is not None:
            self._reaping.cancel()
            await asyncio.gather(self._reaping, return_exceptions=True)


def argv_of(command: Json) -> list[str]:
    """What to execute, and its argv."""
    value = str(command.get("value", ""))
    if command.get("shell", True):
        return [SHELL, "sh", "-c", value]
    return [value, *(command.get("arguments") or [value])]


def account(user: str | None) -> Json:
    """The arguments that start a process as this user; none for None."""
    if user is None:
        return {}
    entry = pwd.getpwnam(user)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": os.getgrouplist(user, entry.pw_gid)}


def variables(command: Json) -> dict[str, str]:
    """The command's own environment."""
    return {each["name"]: each.get("value", "") for each in command.get("environment", {}).get("variables", [])}


def note(path: Path, text: str) -> None:
    """Add to a log."""
    with open(path, "a") as file:
        file.write(text)
