"""Pipelines: recurring work, and at a glance what its runs held."""

from __future__ import annotations

from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import Static

from estimator.units import duration
from retz.client import RetzError
from retz.client.types import Event, History, Pipeline

from ..commands import Command
from ..dialogs import Prompt
from ..page import Page
from ..sentences import given
from ..skyline_series import Picture, resources_of, when
from ..text import printable
from ..widgets.bars import Message, TopLine
from ..widgets.stepplot import StepPlot
from ..widgets.table import Column, Table
from .pipeline import PipelinePage, sizes_of

EMPTY = "no pipelines yet: mark jobs with 'retz run --pipeline NAME', and their runs are recorded"
PREVIEWED = 12
"""Runs that the preview draws."""


COLUMNS = [
    Column[Pipeline]("pipeline", "PIPELINE", lambda each: (printable(each.name), ""), 12, flexible=True),
    Column[Pipeline]("runs", "RUNS", lambda each: (str(each.runs), ""), 5, right=True),
]


class SkylinesPage(Page):
    """See the module's text."""

    crumb = "skylines"
    every_s = 2.0
    DEFAULT_CSS = """
    SkylinesPage #list { width: 34%; min-width: 30; max-width: 60; }
    SkylinesPage #preview { width: 1fr; padding-left: 2; }
    SkylinesPage #name { height: 1; color: $muted; text-style: bold; background: $surface; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("o", "owner", "owner", id="skylines.owner", tooltip="Whose pipelines (administrators)."),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.user: str | None = None
        self._pipelines: tuple[Pipeline, ...] = ()
        self._loaded = False

    def content(self) -> ComposeResult:
        """List and preview side by side."""
        with Horizontal():
            with Vertical(id="list"):
                table = Table[Pipeline](COLUMNS, lambda each: each.name, id="pipelines", empty="no pipelines yet")
                table.add_class("ages")
                yield table
            with Vertical(id="preview"):
                yield Static("", id="name", markup=False)
                plot = StepPlot(id="plot")
                plot.can_focus = False
                yield plot
                yield Message(id="about")

    @property
    def table(self) -> Table[Pipeline]:
        """The list."""
        return self.query_one("#pipelines", Table)

    def summary(self) -> str:
        """How many, and whose."""
        number = len(self._pipelines)
        whose = f" of {printable(self.user)}" if self.user is not None else ""
        return f"{number} {'pipeline' if number == 1 else 'pipelines'}{whose}"

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Only an administrator sees what others have."""
        if action == "owner" and not self.session.admin:
            return False
        return super().check_action(action, parameters)

    def commands(self) -> list[Command]:
        """What can be typed here."""
        if not self.session.admin:
            return []
        return [Command("owner", "pipelines of another user", self._take_owner, (), "KEY")]

    def events(self, batch: list[Event]) -> None:
        """A job of a pipeline has ended."""
        if any(event.kind == "reset" or (event.job and event.job.over and event.job.pipeline) for event in batch):
            self.reload()

    async def load(self) -> None:
        """The list, then what is under the cursor."""
        self._pipelines = await self.session.client.pipelines(user=self.user)
        self._loaded = True
        self.table.show(0, self._pipelines, len(self._pipelines))
        self.query_one(TopLine).refresh()
        self._preview()
        if self.retz.pipeline is not None:  # another page wants to show one
            name, self.retz.pipeline = self.retz.pipeline, None
            await self.retz.drill(PipelinePage(name, self.user))

    @work(exclusive=True, group="preview")
    async def _preview(self) -> None:
        selected = self.table.selected
        if selected is None:
            self._show(None, EMPTY if self._loaded else "")
            return
        try:
            history = await self.session.client.pipeline(selected.name, user=self.user, skylines=PREVIEWED)
            sizes = await sizes_of(self.session.client, selected.name, self.user)
        except RetzError as error:
            self._show(None, printable(str(error)))
        else:
            self._show(history, " ".join(filter(None, (given(sizes), about_history(history)))))

    def _show(self, history: History | None, text: str) -> None:
        if not self.query(StepPlot):
            return  # the window was closed meanwhile
        plot, title = self.query_one(StepPlot), self.query_one("#name", Static)
        plot.display = history is not None
        title.update("")
        if history is not None:
            resource = resources_of(history, "allocated")[0]
            picture = Picture(history, None, resource, "allocated")
            plot.show(picture.series(), picture.unit)
            title.update(f" {printable(history.name)}: allocated {printable(resource)} of its runs")
        self.query_one("#about", Message).say(text)

    def on_table_moved(self, event: Table.Moved) -> None:
        """Another one is selected."""
        event.stop()
        self._preview()

    async def on_table_opened(self, event: Table.Opened) -> None:
        """Look at it."""
        event.stop()
        if self.table.selected is not None:
            await self.retz.drill(PipelinePage(self.table.selected.name, self.user))

    def action_owner(self) -> None:
        """Ask whose."""
        self.app.push_screen(Prompt("pipelines of which user? (access key)", self.user or ""), self._asked)

    def _asked(self, key: str | None) -> None:
        if key is not None:
            self._take_owner(key)

    def _take_owner(self, key: str) -> None:
        self.user = key.strip() or None
        self._pipelines, self._loaded = (), False
        self.table.show(0, (), 0)
        self.reload(now=True)


def about_history(history: History) -> str:
    """The runs in a sentence."""
    runs = history.runs
    times = [run.duration_s for run in runs]
    span = duration(min(times)) if min(times) == max(times) else f"{duration(min(times))} to {duration(max(times))}"
    last = when(max(run.start for run in runs))
    measured = sum(run.used is not None for run in runs)
    use = "what they used was measured in all" if measured == len(runs) else f"use was measured in {measured}"
    return (
        f"{len(runs)} {'run' if len(runs) == 1 else 'runs'} of {span}{f', the last {last}' if last else ''}; "
        f"{use if measured else 'what they used was never measured'}. Enter shows what the next run will need."
    )
