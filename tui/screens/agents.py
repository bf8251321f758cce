"""The machines: what of each is held and used, who runs there; one machine with its jobs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, ClassVar

from msgspec.structs import replace
from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from retz.client.types import Agent, Agents, Job, Window
from retz.model.resources import Resources

from ..columns import columns_of, id_of, title_of
from ..commands import Command
from ..dialogs import Chooser, Prompt
from ..holding import Holding, holding_at
from ..page import Page
from ..states import agent_state
from ..text import amount, count, memory, printable
from ..widgets.bars import Message, TopLine
from ..widgets.meter import KINDS, Kind, Level, Meters, counted, meter
from ..widgets.table import Cell, Column, Table

RUNNING = "STARTING,STARTED"
POLL_S = 3.0
"""Telemetry brings no events."""
MOST_JOBS = 5
"""Jobs that the sentence about an agent names."""
OWNER = 8
"""Characters of an access key that tell who it is."""
SORTS = {
    "host": "host", "state": "state", "jobs": "jobs that run there", "cpus": "free cpus", "mem": "free memory",
    "gpus": "free GPUs", "disk": "free disk", "ports": "free ports",
}  # fmt: skip


def state_cell(agent: Agent) -> Cell:
    """Glyph and word."""
    glyph, style = agent_state(agent.state)
    return f"{glyph} {printable(agent.state)}", style


def level_of(agent: Agent, name: str) -> Level:
    """How much of a resource is held of an agent, and used where somebody measures."""
    measured = getattr(agent.measured, name, None) if agent.measured is not None else None
    return Level(getattr(agent.total, name), getattr(agent.used, name), measured, getattr(agent.others, name))


def levels(total: Resources, used: Resources, others: Resources) -> list[tuple[Kind, Level]]:
    """All resources of sums."""
    return [
        (kind, Level(getattr(total, name), getattr(used, name), others=getattr(others, name)))
        for name, kind in KINDS.items()
    ]


def amounts_text(resources: Resources) -> str:
    """``4 cpus, 2.0G and 1 GPU``; what there is none of is left out."""
    parts = [f"{amount(resources.cpus)} cpus"] if resources.cpus else []
    parts += [memory(resources.mem)] if resources.mem else []
    parts += [counted(resources.gpus, "GPU")] if resources.gpus else []
    return " and ".join(filter(None, (", ".join(parts[:-1]), *parts[-1:])))


def attributes_text(agent: Agent) -> str:
    """``rack=r1 ssd``."""
    words = (_attribute(name, value) for name, value in sorted(agent.attributes.items()))
    return printable(" ".join(words))


def _attribute(name: str, value: object) -> str:
    if value is True:
        return name
    return f"{name}={amount(value)}" if isinstance(value, float) else f"{name}={value}"


def _resource(name: str, width: int, drop: int) -> Column[Agent]:
    kind = KINDS[name]

    def parts(agent: Agent, room: int) -> list[Cell]:
        return meter(room, kind, level_of(agent, name))

    return Column(
        name, kind.title.upper(), lambda agent: ("", ""), width, flexible=True, drop=drop, sort=name, parts=parts
    )


def agent_columns() -> list[Column[Agent]]:
    """The columns of the table of agents."""
    return [
        Column("host", "HOST", lambda agent: (printable(agent.host or agent.id), ""), 10, flexible=True, sort="host"),
        Column("state", "STATE", state_cell, 13, sort="state"),
        _resource("cpus", 16, 0),
        _resource("mem", 17, 6),
        _resource("gpus", 10, 5),
        _resource("disk", 17, 2),
        _resource("ports", 13, 1),
        Column(
            "jobs",
            "JOBS",
            lambda agent: (count(agent.jobs), "" if agent.jobs else "dim"),
            5,
            right=True,
            sort="jobs",
            drop=4,
        ),
        Column("attributes", "ATTRIBUTES", lambda agent: (attributes_text(agent), "dim"), 14, flexible=True, drop=3),
    ]


def as_then(agents: Sequence[Agent], holding: Holding) -> list[Agent]:
    """The agents with what was held of them then: today's totals, no telemetry."""
    then = []
    for agent in agents:
        held = holding.held(agent.id)
        free = Resources(**{name: max(0, getattr(agent.total, name) - getattr(held, name)) for name in KINDS})
        jobs = len(holding.by_agent.get(agent.id, ()))
        none = Resources()
        then.append(replace(agent, used=held, free=free, others=none, offered=none, measured=None, jobs=jobs))
    return then


def gone(agents: Sequence[Agent], holding: Holding) -> list[Agent]:
    """Agents that ran jobs then and are not there today."""
    known = {agent.id for agent in agents}
    return [
        Agent(id=name, host=name, state="gone", used=holding.held(name), jobs=len(jobs))
        for name, jobs in sorted(holding.by_agent.items())
        if name not in known
    ]


def rewound_text(holding: Holding, admin: bool) -> str:
    """What one must know about a picture of the past."""
    whose = "" if admin else ", yours only"
    missing = "" if holding.complete else f"; only {count(sum(map(len, holding.by_agent.values())))} are counted"
    when = datetime.fromtimestamp(holding.moment).strftime("%H:%M:%S")
    jobs = counted(holding.total, "job")
    return f"◀ {when}: what {jobs} held then{whose}{missing}. Totals are today's; telemetry was not recorded."


def names_of(jobs: Sequence[Job], admin: bool) -> str:
    """``48201 train-vit (bo), 48190 sweep``."""
    return ", ".join(
        f"{id_of(job)} {title_of(job)[:30]}" + (f" ({printable(job.owner)[:OWNER]})" if admin else "") for job in jobs
    )


async def open_job(page: Page, job: int) -> None:
    """To the job's own page."""
    from .job import JobPage

    await page.retz.drill(JobPage(job))


class Watching(Page):
    """A page about machines: it asks every few seconds while it is seen and live, and knows the past."""

    every_s = 2.0
    poll_s: ClassVar[float] = POLL_S

    def __init__(self) -> None:
        super().__init__()
        self._past: Holding | None = None

    def on_mount(self) -> None:
        """Begin to ask."""
        super().on_mount()
        self.set_interval(self.poll_s, self._poll)

    def _poll(self) -> None:
        if self.seen and self.retz.moment is None:
            self.reload()

    async def past(self) -> Holding | None:
        """What was held at the time that is looked at; None for now."""
        moment = self.retz.moment
        if moment is None:
            self._past = None
        elif self._past is None or self._past.moment != moment:
            self._past = await holding_at(self.session.client, moment, self.session.everybody)
        return self._past


class AgentsPage(Watching):
    """See the module's text."""

    crumb = "agents"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "slash", "filter", "filter", id="agents.filter", key_display="/", tooltip="Part of host, id or attribute."
        ),
        Binding("s", "sort", "sort", id="agents.sort", tooltip="Choose what to sort by."),
        Binding("S", "reverse", "reverse", show=False, id="agents.reverse", tooltip="Turn the order around."),
        Binding("y", "copy", "copy id", show=False, id="agents.copy", tooltip="The agent's id into the clipboard."),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.text = ""
        self.sort = "host"
        self._found: Agents | None = None

    def content(self) -> ComposeResult:
        """The sums, the table, who runs on the selected one."""
        yield Meters(id="sums")
        table = Table[Agent](agent_columns(), lambda agent: agent.id, id="agents", empty="no agents")
        table.add_class("ages")
        table.sorted_by = self.sort
        yield table
        yield Message(id="who")

    @property
    def table(self) -> Table[Agent]:
        """The table of agents."""
        return self.query_one("#agents", Table)

    def summary(self) -> str:
        """How many there are."""
        if self._found is None:
            return ""
        states = self._found.sum.states
        others = "".join(
            f"   {number} {printable(state)}" for state, number in sorted(states.items()) if state != "active"
        )
        wanted = f"   / {printable(self.text)}" if self.text else ""
        return counted(self._found.total, "agent") + others + wanted

    async def load(self) -> None:
        """The window around the screen, and who runs on the selected one."""
        first, number = self.table.wanted()
        live = self.retz.moment is None
        found = await self.session.client.agents_window(
            sort=self.sort, offset=first, limit=min(number, 1000), text=self.text or None, usage=True if live else None
        )
        past = await self.past()
        self._found = found
        if past is None:
            self.table.show(first, found.agents, found.total)
            self.query_one("#sums", Meters).show(levels(found.sum.total, found.sum.used, found.sum.others))
        else:
            self._show_past(first, found, past)
        self.query_one(TopLine).refresh()
        await self._say_who(past)

    def _show_past(self, first: int, found: Agents, past: Holding) -> None:
        rows = as_then(found.agents, past)
        lost = gone(found.agents, past) if first == 0 and len(found.agents) == found.total and not self.text else []
        self.table.show(first, [*rows, *lost], found.total + len(lost))
        everywhere = [past.held(name) for name in past.by_agent]
        used = Resources(
            *(sum(getattr(each, name) for each in everywhere) for name in ("cpus", "mem", "disk", "gpus", "ports"))
        )
        self.query_one("#sums", Meters).show(levels(found.sum.total, used, Resources()))

    async def _say_who(self, past: Holding | None) -> None:
        agent = self.table.selected
        say = self.query_one("#who", Message).say
        if agent is None:
            say("no agent matches: / changes the filter" if self.text else "")
        elif past is not None:
            jobs = past.by_agent.get(agent.id, [])[:MOST_JOBS]
            say(f"{rewound_text(past, self.session.admin)}\n{who_text(agent, jobs, len(jobs), self.session.admin)}")
        else:
            window = await self._jobs_of(agent)
            say(who_text(agent, window.jobs, window.total, self.session.admin))

    async def _jobs_of(self, agent: Agent) -> Window:
        if not agent.jobs:
            return Window(jobs=(), total=0)
        everybody: dict[str, Any] = self.session.everybody
        return await self.session.client.list(agent=agent.id, state=RUNNING, limit=MOST_JOBS, **everybody)

    def on_table_wanted(self, event: Table.Wanted) -> None:
        """Rows came into sight."""
        event.stop()
        self.reload(now=True)

    def on_table_moved(self, event: Table.Moved) -> None:
        """Another row is selected."""
        event.stop()
        self.reload(now=True)

    async def on_table_opened(self, event: Table.Opened) -> None:
        """To the agent's own page."""
        event.stop()
        agent = self.table.selected
        if agent is not None:
            await self.retz.drill(AgentPage(agent.id, agent.host))

    def on_table_head_clicked(self, event: Table.HeadClicked) -> None:
        """Sort by it; again turns the order around."""
        event.stop()
        name = event.column.sort
        if name:
            self._sort_by(f"-{name}" if self.sort == name else name)

    def action_filter(self) -> None:
        """Ask for a text."""
        self.app.push_screen(Prompt("agents: part of host, id or name=value", self.text), self._filter)

    def _filter(self, text: str | None) -> None:
        if text is not None:
            self.text = text.strip()
            self.table.cursor = 0
            self.reload(now=True)

    def escape(self) -> bool:
        """Away with the filter."""
        had = bool(self.text)
        if had:
            self._filter("")
        return had

    def action_sort(self) -> None:
        """Choose the order."""
        self.app.push_screen(Chooser("sort agents by", list(SORTS.items()), self.sort.removeprefix("-")), self._chosen)

    def _chosen(self, name: str | None) -> None:
        if name is not None:
            # Of what is free, most first: that is what one looks for.
            self._sort_by(name if name in ("host", "state") else f"-{name}")

    def action_reverse(self) -> None:
        """Turn the order around."""
        self._sort_by(self.sort.removeprefix("-") if self.sort.startswith("-") else f"-{self.sort}")

    def _sort_by(self, sort: str) -> None:
        self.sort = self.table.sorted_by = sort
        self.table.redraw()
        self.reload(now=True)

    def action_copy(self) -> None:
        """Into the clipboard."""
        agent = self.table.selected
        if agent is not None:
            self.retz.copy(agent.id, f"id {printable(agent.id)}")

    def commands(self) -> list[Command]:
        """Filter and sort."""
        return [
            Command("filter", "part of host, id or attribute", self._filter, ("f",), "TEXT"),
            Command("sort", "sort the agents by", self._sort_command, (), "FIELD", lambda: list(SORTS)),
        ]

    def _sort_command(self, name: str) -> None:
        if name.removeprefix("-") in SORTS:
            self._sort_by(name)
        else:
            self.notify(f"say one of {', '.join(SORTS)}, - in front for descending", severity="warning", markup=False)


def who_text(agent: Agent, jobs: Sequence[Job], visible: int, admin: bool) -> str:
    """The sentence about an agent: who runs there, or why nobody does."""
    name = printable(agent.host or agent.id)
    if agent.state == "gone":
        start = f"{name} is not there today"
    elif agent.state != "active":
        start = f"{name} is {printable(agent.state)}: it takes no new jobs"
    else:
        free = agent.free
        start = f"{name}: {amount(free.cpus)} cpus, {memory(free.mem)} and {counted(free.gpus, 'GPU')} free"
    if theirs := amounts_text(agent.others):
        start += f"; others hold {theirs}"
    if not agent.jobs:
        return f"{start}; nobody runs there."
    yours = "" if admin else f", {visible} of them yours"
    more = f", … {visible - len(jobs)} more" if visible > len(jobs) else ""
    named = f": {names_of(jobs, admin)}{more}" if jobs else ""
    return f"{start}; {counted(agent.jobs, 'job')} there{yours}{named}."


class AgentPage(Watching):
    """One machine and its jobs.

    Args:
        agent: Its id.
        host: Its name, until the server has answered.
    """

    crumb = "agent"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("e", "ended", "ended too", id="agent.ended", tooltip="Its ended jobs, too, or only those that run."),
        Binding("y", "copy", "copy id", show=False, id="agent.copy", tooltip="The agent's id into the clipboard."),
    ]

    def __init__(self, agent: str, host: str = "") -> None:
        super().__init__()
        self.agent_id = agent
        self.host = host or agent
        self.ended = False
        self.agent: Agent | None = None

    def content(self) -> ComposeResult:
        """What it is, its resources, its GPUs, its jobs."""
        yield Message(id="what")
        yield Meters(below=True, id="levels")
        yield Message(id="gpus")
        columns = [column for column in columns_of(self.retz) if column.key != "agent"]
        table = Table[Job](columns, lambda job: job.id, id="jobs", empty="nobody runs here, as far as you may see")
        table.add_class("ages")
        yield table

    @property
    def table(self) -> Table[Job]:
        """The table of its jobs."""
        return self.query_one("#jobs", Table)

    def title_text(self) -> str:
        """Its host."""
        return printable(self.host)

    async def load(self) -> None:
        """The machine and the window of its jobs."""
        past = await self.past()
        usage = True if past is None else None
        found = await self.session.client.agents_window(id=self.agent_id, limit=1, usage=usage)
        agents = list(found.agents) if past is None else [*as_then(found.agents, past), *gone(found.agents, past)]
        self.agent = next((agent for agent in agents if agent.id == self.agent_id), None)
        if past is None:
            await self._load_jobs()
        else:
            jobs = past.by_agent.get(self.agent_id, [])
            self.table.show(0, jobs, len(jobs))
        self._show(past)

    async def _load_jobs(self) -> None:
        first, number = self.table.wanted()
        window = await self.session.client.list(
            agent=self.agent_id,
            state="ALL" if self.ended else RUNNING,
            offset=first,
            limit=min(number, 1000),
            **self.session.everybody,
        )
        self.table.show(first, window.jobs, window.total)

    def _show(self, past: Holding | None) -> None:
        agent = self.agent
        if agent is None:
            self.query_one("#what", Message).say(f"agent {printable(self.agent_id)} is not there (any more).")
            self.query_one("#levels", Meters).show([])
            return
        self.host = agent.host or agent.id
        glyph, _ = state_cell(agent)
        offered = amounts_text(agent.offered)
        facts = [
            glyph,
            f"id {printable(agent.id)}",
            attributes_text(agent),
            counted(agent.jobs, "job"),
            f"on offer now: {offered}" if offered else "",
        ]
        lines = ["   ".join(filter(None, facts))]
        if past is not None:
            lines.append(rewound_text(past, self.session.admin))
        self.query_one("#what", Message).say("\n".join(lines))
        self.query_one("#levels", Meters).show([(kind, level_of(agent, name)) for name, kind in KINDS.items()])
        self.query_one("#gpus", Message).say(gpus_text(agent, past))

    def on_table_wanted(self, event: Table.Wanted) -> None:
        """Rows came into sight."""
        event.stop()
        self.reload(now=True)

    async def on_table_opened(self, event: Table.Opened) -> None:
        """To the job's page."""
        event.stop()
        job = self.table.selected
        if job is not None:
            await open_job(self, job.id)

    def action_ended(self) -> None:
        """With or without those that have ended."""
        self.ended = not self.ended
        self.reload(now=True)

    def action_copy(self) -> None:
        """Into the clipboard."""
        self.retz.copy(self.agent_id, f"id {printable(self.agent_id)}")


def gpus_text(agent: Agent, past: Holding | None) -> str:
    """Its GPUs in a line: the models, how many are held, what is missing."""
    if not agent.gpus:
        return ""
    models = sorted({printable(gpu.model) for gpu in agent.gpus if gpu.model})
    held = sum(gpu.held if past is None else gpu.uuid in past.by_gpu for gpu in agent.gpus)
    strangers = sum(len(gpu.strangers) for gpu in agent.gpus) if past is None else 0
    notes = sorted({gpu.note for gpu in agent.gpus if gpu.note and gpu.util is None})
    hints = sorted({gpu.note for gpu in agent.gpus if gpu.note and gpu.util is not None})
    parts = [f"{counted(len(agent.gpus), 'GPU')}{' ' + ', '.join(models) if models else ''}: {held} held"]
    parts += [f"{counted(strangers, 'process', 'processes')} on them not ours"] if strangers else []
    parts += [f"no telemetry ({printable(', '.join(notes))})"] if notes and past is None else []
    parts += [printable(", ".join(hints))] if hints and past is None else []
    return "   ".join(parts)
