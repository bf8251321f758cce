"""The queue: every job, live."""

from __future__ import annotations

from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from retz.client.types import Job, Window

from ..columns import columns_of
from ..page import Page
from ..text import count
from ..widgets.bars import Line, Message
from ..widgets.table import Table


class Counts(Line):
    """How many jobs stand where."""

    counts: dict[str, int]

    def __init__(self) -> None:
        super().__init__()
        self.counts = {}

    def parts(self) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
        """See :class:`Line`."""
        have = self.counts
        left = [
            (f" ◌ {count(have.get('QUEUED', 0))} queued  ", "queued"),
            (f" ◔ {count(have.get('STARTING', 0))} starting  ", "starting"),
            (f" ● {count(have.get('STARTED', 0))} started  ", "started"),
        ]
        return left, []


class QueuePage(Page):
    """See the module's text."""

    crumb = "queue"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "sort", "sort", id="queue.sort"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.filters: dict[str, Any] = {}
        self.sort = "-id"

    def content(self) -> ComposeResult:
        """Counts, table, the sentence about the selected job."""
        yield Counts()
        table = Table[Job](
            columns_of(self.session), lambda job: job.id, id="jobs", empty="no jobs: 'retz run' makes one"
        )
        table.add_class("ages")
        table.sorted_by = self.sort
        yield table
        yield Message(id="why")

    @property
    def table(self) -> Table[Job]:
        """The table of jobs."""
        return self.query_one("#jobs", Table)

    async def load(self) -> None:
        """The window around the screen."""
        first, number = self.table.wanted()
        window: Window = await self.session.client.list(
            sort=self.sort, offset=first, limit=min(number, 1000), **self.session.everybody, **self.filters
        )
        self.table.show(first, window.jobs, window.total)
        counts = self.query_one(Counts)
        counts.counts = dict(window.counts)
        counts.refresh()
        self.say_why()

    def say_why(self) -> None:
        """The sentence about the selected row."""
        job = self.table.selected
        self.query_one("#why", Message).say("" if job is None else job.why or job.message or "")

    def on_table_wanted(self, event: Table.Wanted) -> None:
        """Rows came into sight."""
        event.stop()
        self.reload(now=True)

    def on_table_moved(self, event: Table.Moved) -> None:
        """Another row is selected."""
        event.stop()
        self.say_why()
