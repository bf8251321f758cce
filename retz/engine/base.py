"""The contract between the server and whatever runs tasks.

An engine knows tasks, offers and agents. It has never heard of users, priorities or HTTP. The same contract
tests run over every engine.

Rules, in the order in which they matter:

1. ``launch`` is called only after the intent is durable. A task id is launched at most once, ever.
2. Every update is delivered until it is acknowledged, across restarts of the server. The server acknowledges
   after the update is durable. Delivery may repeat; the server's life cycle ignores repeats.
3. After ``start(known)`` every known task gets, sooner or later, exactly one final truth: it runs (``started``),
   it ended, it is lost, or it was never started (``not_started``). A task that the engine runs but the server
   does not know is killed.
4. Adoption ends before the first offer.
5. All methods are called on the event loop's thread, and so are the listener's. Methods that are not
   coroutines return at once and never block: what takes time happens behind them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from msgspec import Struct

from retz.model.agent import Agent, Offer
from retz.model.container import Container
from retz.model.job import Reason, Usage
from retz.model.resources import Resources


class Assignment(Struct, frozen=True, gc=False):
    """What of an offer a task gets beyond amounts: which GPUs (by UUID) and which ports."""

    gpus: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()


class Uri(Struct, frozen=True):
    """A file to fetch into the sandbox before the command starts.

    Attributes:
        cache: Keep a copy on the agent for other tasks.
    """

    value: str
    cache: bool = False


class Task(Struct, frozen=True, kw_only=True, gc=False):
    """Everything an engine needs to run one attempt of a job.

    Attributes:
        id: ``<job>.<attempt>``.
        agent: The agent it was planned for.
        command: A shell line (text, run by ``/bin/sh -c``), or an argument vector.
        environment: Complete, as the job shall see it, but for what only the agent knows (``CUDA_VISIBLE_DEVICES``,
            the sandbox's path); the RETZ_* and PORT variables are in it already.
        directory: Working directory on the agent; None means the sandbox.
        mem_limit_mb: Memory above which the task is ended with reason ``oom``; None means no limit.
        timeout_s: Time limit, enforced even while the server is down.
        kill_grace_s: Seconds between SIGTERM and SIGKILL, for a kill and for the time limit.
        files, user, container: Only what the engine says it :attr:`~Engine.honours`. Archives among the files are
            unpacked.
    """

    id: str
    agent: str
    command: str | tuple[str, ...]
    environment: dict[str, str]
    resources: Resources
    assignment: Assignment = Assignment()
    directory: str | None = None
    mem_limit_mb: int | None = None
    timeout_s: float | None = None
    kill_grace_s: float = 5.0
    files: tuple[Uri, ...] = ()
    user: str | None = None
    container: Container = Container()


class KnownTask(Struct, frozen=True, kw_only=True):
    """A task that the store believes to be running, at start-up.

    Attributes:
        resources, assignment: What it holds, so that the first offer leaves it out.
        kill: A kill was recorded; the engine must end it (again).
    """

    id: str
    agent: str
    resources: Resources
    assignment: Assignment = Assignment()
    kill: bool = False
    kill_grace_s: float = 5.0


class Update(Struct, frozen=True, kw_only=True):
    """News about a task. ``seq`` is what the server acknowledges; 0 needs no acknowledgement.

    Attributes:
        kind: ``started``; ``ended`` with its result; ``lost``: machine or result gone, nothing of it runs any more;
            ``not_started``: nothing of it ever ran and never will.
        started: Start time of the process, on ``ended`` too, in case ``started`` was missed.
        reason: On ``ended``: None to derive it from code and signal, else ``oom``, ``timeout``, ``start``, ...
    """

    seq: int
    task: str
    kind: Literal["started", "ended", "lost", "not_started"]
    at: float
    started: float | None = None
    exit_code: int | None = None
    signal: int | None = None
    reason: Reason | None = None
    message: str | None = None
    usage: Usage | None = None


class FileEntry(Struct, frozen=True, kw_only=True):
    """One entry of a sandbox directory. ``path`` is relative to the sandbox, with ``/`` between parts."""

    path: str
    size: int
    mtime: float
    mode: str
    uid: str
    gid: str
    nlink: int = 1
    type: Literal["file", "directory", "link", "other"] = "file"


class FileRefused(Exception):
    """The path leaves the sandbox, is a link or is not a plain file; the text says which."""


class FilesUnavailable(Exception):
    """The machine that has the files cannot be asked; the text says why, and whether trying later helps.

    Attributes:
        waiting_helps: It is away or slow; otherwise somebody must do something about it.
    """

    def __init__(self, message: str, *, waiting_helps: bool = True) -> None:
        super().__init__(message)
        self.waiting_helps = waiting_helps


class FileReader(Protocol):
    """An open sandbox file. Reads happen outside the event loop."""

    @property
    def size(self) -> int:
        """Size in bytes when it was opened or last refreshed."""

    async def refresh(self) -> int:
        """Look again: the present size in bytes."""

    async def read(self, offset: int, length: int) -> bytes:
        """Up to ``length`` bytes from ``offset``; empty at or past the end."""

    def close(self) -> None:
        """Release it. Twice is harmless."""


class Listener(Protocol):
    """What the server gives the engine to talk back through."""

    def offers(self, offers: Sequence[Offer]) -> None:
        """New room. An offer stays valid until used, declined or rescinded."""

    def rescinded(self, offer_ids: Sequence[str]) -> None:
        """These offers are void."""

    def updates(self, updates: Sequence[Update]) -> None:
        """News about tasks, in order per task."""

    def agents_changed(self) -> None:
        """:meth:`Engine.agents` would answer something else now."""

    def failed(self, message: str) -> None:
        """The engine cannot go on by itself; shown to operators in status and health until :meth:`recovered`."""

    def recovered(self) -> None:
        """It can again."""


class Engine(Protocol):
    """See the module's text for the rules."""

    name: str

    honours: frozenset[str]
    """Features of applications that it can do: some of ``files``, ``user``, ``container``."""

    shared: bool
    """Whether others want the same machines: room that no job needs is declined, not held."""

    @property
    def master(self) -> str | None:
        """``host:port`` of who hands out the machines; None where nobody does, or while not connected."""

    async def start(self, listener: Listener, known: Sequence[KnownTask]) -> None:
        """Adopt ``known``, then begin to offer. Returns when adoption is complete and the first offers are out.

        Raises:
            EngineError: if it cannot work at all; the text tells the operator what to do.
        """

    async def stop(self) -> None:
        """Let go. Tasks keep running where the engine can keep them (local, mesos)."""

    def agents(self) -> Sequence[Agent]:
        """All agents known now."""

    async def refusal(self, container: Container) -> str | None:
        """Return why no task can run in such a container here, in words for who asked; None if one may.

        What no engine of the kind could do is told by :attr:`honours`, when a job is submitted.
        """

    def assign(self, offer: Offer, resources: Resources, taken: Assignment) -> Assignment | None:
        """Choose GPUs and ports of ``offer`` for a task, leaving out what is ``taken`` from the same offer already.

        None if there are too few (another program took a port, say); the server then plans again later.

        From the first call for an offer until its ``launch`` or ``decline`` the offer's whole room is claimed: the
        engine neither rescinds it nor offers it a second time while the server waits for its disk.
        """

    def launch(self, offer: Offer, tasks: Sequence[Task]) -> None:
        """Use up ``offer`` for these tasks. What is left comes back as a new offer."""

    def decline(self, offer_ids: Sequence[str]) -> None:
        """Give offers back unused. The engine offers them again when something may have changed."""

    def revive(self) -> None:
        """A job waits that was not tried on everything declined so far: offer that again, soon. Only if shared."""

    def suppress(self) -> None:
        """No job waits, or none may start: offer nothing until :meth:`revive`. Only if shared."""

    def kill(self, task_id: str, grace_s: float) -> None:
        """End it: SIGTERM to the whole tree, SIGKILL after the grace. An ``ended`` or ``lost`` update follows."""

    def acknowledge(self, seqs: Sequence[int]) -> None:
        """These updates are durable; they need not come again."""

    async def usage(self, task_ids: Sequence[str], *, series: bool = True) -> dict[str, Usage]:
        """Present usage of running tasks; unknown ones are left out.

        Args:
            series: Whether the whole series is wanted; if not it has its latest point at most, and a thousand tasks
                are cheap.
        """

    async def list_files(self, task_id: str, path: str, agent: str = "") -> list[FileEntry]:
        """Entries of a directory of the sandbox, in name order; one entry if ``path`` is a file.

        Args:
            agent: Where the task ran, for engines of several machines.

        Raises:
            FilesUnavailable: see there.
            FileNotFoundError: no such sandbox or path.
            FileRefused: see there.
        """

    async def open_file(self, task_id: str, path: str, agent: str = "") -> FileReader:
        """Open a file of the sandbox for reading. Raises as :meth:`list_files`."""

    def collect(self, task_ids: Sequence[str]) -> None:
        """The sandboxes of these ended tasks may go, slowly, in the background."""


class EngineError(Exception):
    """An engine cannot start or go on. The text is for the operator."""
