"""Every GPU of every machine: who holds it, what it does, and whether anybody else is on it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from msgspec.structs import replace
from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from retz.client.types import Agent, Agents, Gpu, Job

from ..columns import id_of, seconds, title_of
from ..holding import Holding
from ..states import agent_state
from ..text import duration, memory, printable
from ..widgets.bars import Line, Message, TopLine
from ..widgets.gpugrid import VIEWS, GpuGrid, value_of
from ..widgets.meter import counted
from ..widgets.sparks import Histories, spark
from ..widgets.table import Cell
from .agents import OWNER, AgentPage, Watching, open_job, rewound_text

IDS = 500
"""Jobs asked for by id in one request: their text fits the request line."""
BESIDE = 72
"""Cells that telemetry and the history's name take beside it."""
IDLE_S = 60.0
"""Shorter pauses are nothing to speak of."""
NO_TELEMETRY = "no telemetry"


class DetailLine(Line):
    """One line about the selected GPU."""

    left: Sequence[Cell] = ()
    right: Sequence[Cell] = ()

    def say(self, left: Sequence[Cell], right: Sequence[Cell] = ()) -> None:
        """Show this."""
        if (left, right) != (self.left, self.right):
            self.left, self.right = left, right
            self.refresh()

    def parts(self) -> tuple[list[Cell], list[Cell]]:
        """See :class:`Line`."""
        return [(" ", ""), *self.left], [*self.right, (" ", "")]


class GpusPage(Watching):
    """See the module's text."""

    crumb = "gpus"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("u", "view('util')", "util", id="gpus.util", tooltip="Show utilisation."),
        Binding("m", "view('mem')", "memory", id="gpus.memory", tooltip="Show memory."),
        Binding("t", "view('temp')", "temperature", id="gpus.temperature", tooltip="Show temperatures."),
        Binding("a", "agent", "agent", id="gpus.agent", tooltip="The machine of the selected GPU, and its jobs."),
        Binding("y", "copy", "copy uuid", id="gpus.copy", tooltip="The GPU's UUID into the clipboard."),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._found: Agents | None = None
        self._jobs: dict[int, Job] = {}
        self._histories: dict[str, Histories[str]] = {view: Histories() for view in VIEWS}
        self._noted_at = float("-inf")
        self._shown: Sequence[Agent] = ()

    def content(self) -> ComposeResult:
        """The grid, and lines about the selected GPU."""
        yield Message(id="rewound")
        grid = GpuGrid(id="grid")
        grid.add_class("ages")
        yield grid
        yield DetailLine(id="holder")
        yield DetailLine(id="telemetry")
        yield DetailLine(id="remarks")

    @property
    def grid(self) -> GpuGrid:
        """The grid."""
        return self.query_one("#grid", GpuGrid)

    def summary(self) -> str:
        """How many there are, held, free, and with strangers."""
        if self._found is None:
            return ""
        total = self._found.sum.total.gpus
        held = self._found.sum.used.gpus if self._past is None else len(self._past.by_gpu)
        others = self._found.sum.others.gpus if self._past is None else 0
        theirs = f"   {others} held by others" if others else ""
        strangers = sum(bool(gpu.strangers) for agent in self._shown for gpu in agent.gpus)
        more = f"   {strangers} with strangers" if strangers else ""
        return f"{counted(total, 'GPU')}   {held} held   {max(0, total - held - others)} free{theirs}{more}"

    async def load(self) -> None:
        """The machines around the screen, and the jobs on them that we may see."""
        first, number = self.grid.wanted()
        found = await self.session.client.agents_window(gpus=True, sort="host", offset=first, limit=min(number, 1000))
        past = await self.past()
        self._found = found
        agents = list(found.agents) if past is None else gpus_then(found, past)
        if past is None:
            await self._load_jobs(agents)
            self._note(agents)
        else:
            self._jobs = {job.id: job for job in past.by_gpu.values()}
        self._shown = agents
        aside = {agent.id: aside_of(agent, self._jobs) for agent in agents}
        self.grid.empty = "no machine has GPUs"
        extra = len(agents) - len(found.agents)
        most = max(found.sum.largest.gpus, *(len(agent.gpus) for agent in agents), 1)
        self.grid.show(first, agents, found.total + extra, most, aside)
        rewound = self.query_one("#rewound", Message)
        rewound.display = past is not None
        rewound.say("" if past is None else rewound_text(past, self.session.admin))
        self.query_one(TopLine).refresh()
        self.say_which()

    async def _load_jobs(self, agents: Iterable[Agent]) -> None:
        """Ask for the jobs that are new here; what is shown of a job that runs does not change."""
        here = {gpu.job for agent in agents for gpu in agent.gpus if gpu.job is not None}
        self._jobs = {job_id: job for job_id, job in self._jobs.items() if job_id in here}
        missing = sorted(job_id for job_id in here if (job := self._jobs.get(job_id)) is None or job.started is None)
        everybody: dict[str, Any] = self.session.everybody
        for start in range(0, len(missing), IDS):
            ids = ",".join(map(str, missing[start : start + IDS]))
            window = await self.session.client.list(ids=ids, state="ALL", limit=IDS, **everybody)
            self._jobs.update((job.id, job) for job in window.jobs)

    def _note(self, agents: Iterable[Agent]) -> None:
        """Add to the histories, evenly: not whenever somebody presses a key."""
        now = time.monotonic()
        if now - self._noted_at < 0.8 * self.poll_s:
            return
        self._noted_at = now
        for agent in agents:
            for gpu in agent.gpus:
                for view, histories in self._histories.items():
                    histories.add(gpu.uuid, value_of(gpu, view))

    def say_which(self) -> None:
        """The lines about the selected GPU."""
        selected = self.grid.selected
        holder, telemetry, remarked = self.query(DetailLine)
        if selected is None:
            for line in (holder, telemetry, remarked):
                line.say([])
            return
        agent, gpu = selected
        job = None if gpu.job is None else self._jobs.get(gpu.job)
        past = self._past
        now = self.session.now() if past is None else past.moment
        what = f"{printable(agent.host or agent.id)}:{gpu.index}  {model_of(gpu)}".rstrip()
        holder.say([(what, "bold"), (f"   {holder_text(gpu, job, now)}", "")])
        if past is None:
            telemetry.say(telemetry_parts(gpu), self._history(gpu))
            remarked.say(remarks(agent, gpu, job, now))
        else:
            telemetry.say([])
            remarked.say([])

    def _history(self, gpu: Gpu) -> list[Cell]:
        values = self._histories[self.grid.view].of(gpu.uuid)
        if all(value is None for value in values):
            return []
        width = max(8, min(60, self.size.width - BESIDE))
        spoken = duration(min(len(values), width) * self.poll_s)
        drawn = spark(values, width).lstrip()
        return [(f"{self.grid.view} for {spoken} ", "dim"), ("·" * (width - len(drawn)), "free"), (drawn, "used")]

    def on_gpu_grid_wanted(self, event: GpuGrid.Wanted) -> None:
        """Machines came into sight."""
        event.stop()
        self.reload(now=True)

    def on_gpu_grid_moved(self, event: GpuGrid.Moved) -> None:
        """Another GPU is selected."""
        event.stop()
        self.say_which()

    async def on_gpu_grid_opened(self, event: GpuGrid.Opened) -> None:
        """To the job that holds it."""
        event.stop()
        selected = self.grid.selected
        if selected is None:
            return
        gpu = selected[1]
        if gpu.job is not None:
            await open_job(self, gpu.job)
        else:
            told = "it is held by somebody else's job" if gpu.held else "nobody holds it"
            self.notify(f"{told}: there is no job to open", timeout=3, markup=False)

    def action_view(self, view: str) -> None:
        """Show something else of the GPUs."""
        self.grid.view = view
        self.grid.redraw()
        self.say_which()

    async def action_agent(self) -> None:
        """To the machine."""
        if self.grid.selected is not None:
            agent = self.grid.selected[0]
            await self.retz.drill(AgentPage(agent.id, agent.host))

    def action_copy(self) -> None:
        """Into the clipboard."""
        if self.grid.selected is not None:
            self.retz.copy(self.grid.selected[1].uuid, "the GPU's UUID")


def gpus_then(found: Agents, past: Holding) -> list[Agent]:
    """The machines with who held their GPUs then, without telemetry; and GPUs of that time that are not there today."""
    agents = [replace(agent, gpus=tuple(_then(gpu, past) for gpu in agent.gpus)) for agent in found.agents]
    if len(agents) < found.total:
        return agents
    known = {gpu.uuid for agent in agents for gpu in agent.gpus}
    lost: dict[str, list[Gpu]] = {}
    for uuid, job in sorted(past.by_gpu.items()):
        if uuid not in known and job.agent is not None:
            gpus = lost.setdefault(job.agent, [])
            gpus.append(Gpu(uuid=uuid, index=len(gpus), job=job.id, held=True))
    hosts = {agent.id: agent.host for agent in agents}
    return agents + [
        Agent(id=f"{name} then", host=hosts.get(name, name), state="gone", gpus=tuple(gpus))
        for name, gpus in lost.items()
    ]


def _then(gpu: Gpu, past: Holding) -> Gpu:
    job = past.by_gpu.get(gpu.uuid)
    return Gpu(
        uuid=gpu.uuid,
        index=gpu.index,
        model=gpu.model,
        mem_mb=gpu.mem_mb,
        job=None if job is None else job.id,
        held=job is not None,
    )


def model_of(gpu: Gpu) -> str:
    """``NVIDIA H200 143.8G``."""
    size = memory(gpu.mem_mb) if gpu.mem_mb else ""
    return f"{printable(gpu.model)} {size}".strip()


def holder_text(gpu: Gpu, job: Job | None, now: float) -> str:
    """Who holds it, and for how long."""
    if not gpu.held:
        return "free"
    if gpu.job is None:
        return "held by another user"
    if job is None:
        return f"held by {gpu.job}"
    begun = seconds(job.started)
    since = "" if begun is None else f" for {duration(now - begun)}"
    return f"held by {id_of(job)} {title_of(job)[:40]} ({printable(job.owner)[:OWNER]}){since}"


def telemetry_parts(gpu: Gpu) -> list[Cell]:
    """``util  52%   mem  71.2 of 143.8G   38 °C   92 W``; what is not known is left out, or why nothing is."""
    parts = []
    if gpu.util is not None:
        parts.append(f"util {gpu.util:3.0f}%")
    if gpu.mem_used_mb is not None and gpu.mem_mb:
        parts.append(f"mem {memory(gpu.mem_used_mb):>6} of {memory(gpu.mem_mb)}")
    if gpu.temperature_c is not None:
        parts.append(f"{gpu.temperature_c:3.0f} °C")
    if gpu.power_w is not None:
        parts.append(f"{gpu.power_w:4.0f} W")
    if parts:
        return [("   ".join(parts), "")]
    why = f" ({printable(gpu.note)})" if gpu.note else ""
    return [(f"{NO_TELEMETRY}{why}", "dim")]


def remarks(agent: Agent, gpu: Gpu, job: Job | None, now: float) -> list[Cell]:
    """What an operator should notice: a machine that takes no jobs, strangers, a GPU that is held and does nothing."""
    parts: list[Cell] = []
    if agent.state != "active":
        glyph, style = agent_state(agent.state)
        parts.append((f"{glyph} {printable(agent.host or agent.id)} is {printable(agent.state)}   ", style))
    if gpu.strangers:
        parts.append((f"! not ours: {strangers_text(gpu)}   ", "warn"))
    idle = seconds(gpu.idle_since)
    if gpu.held and idle is not None:
        held_since = seconds(job.started) if job is not None else None
        idle_s = now - max(idle, held_since or 0.0)
        if idle_s >= IDLE_S:
            while_held = "while held" if held_since is not None else "and held now"
            parts.append((f"idle for {counted(int(idle_s // 60), 'minute')} {while_held}   ", "warn"))
    if gpu.note and gpu.util is not None:
        parts.append((printable(gpu.note), "dim"))
    return parts


def strangers_text(gpu: Gpu) -> str:
    """``pid 8812 (jupyter) 34.0G``."""
    words = (
        f"pid {process.pid}"
        + (f" ({printable(process.name)})" if process.name else "")
        + (f" {memory(process.mem_mb)}" if process.mem_mb is not None else "")
        for process in gpu.strangers
    )
    return ", ".join(words)


def aside_of(agent: Agent, jobs: dict[int, Job]) -> list[Cell]:
    """The words at the right of a machine: strangers first, then who holds its GPUs."""
    parts: list[Cell] = []
    strange = [gpu for gpu in agent.gpus if gpu.strangers]
    if strange:
        parts.append((f"! not ours: {strangers_text(strange[0])}  ", "warn"))
    here = sorted({gpu.job for gpu in agent.gpus if gpu.job is not None})
    if len(here) == 1 and here[0] in jobs:
        job = jobs[here[0]]
        parts.append((f"{id_of(job)} {title_of(job)} {printable(job.owner)[:OWNER]}", "dim"))
    elif here:
        owners = sorted({printable(jobs[job_id].owner)[:OWNER] for job_id in here if job_id in jobs})
        parts.append((f"{' '.join(map(str, here))}  {' '.join(owners)}", "dim"))
    elif any(gpu.held for gpu in agent.gpus):
        parts.append(("other users", "dim"))
    notes = sorted({printable(gpu.note) for gpu in agent.gpus if gpu.note and gpu.util is None})
    if notes and not parts:
        parts.append((notes[0], "dim"))
    return parts
