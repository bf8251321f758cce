"""The queue: every job, live."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any, ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Input

from retz.client import ApiError, RetzError
from retz.client.types import Job, Window

from .. import actions
from ..columns import columns_of, command_text, id_of, title_of
from ..commands import Command
from ..dialogs import Checklist, Chooser
from ..filters import Filter, FilterError, parse
from ..page import Page
from ..sentences import off_path, sentence
from ..widgets.bars import Message
from ..widgets.filterbar import FilterBar
from ..widgets.queuebar import Counts
from ..widgets.table import Table

SORTS = {
    "id": "id, which is when they were submitted",
    "state": "state, by their place in life",
    "user": "user",
    "application": "application",
    "priority": "priority",
    "pipeline": "pipeline",
}
EMPTY = "no live jobs: 'retz run' makes one, /state:all shows those that have ended"
FORESEE = True
"""Ask the server to look ahead, so that starts can be shown: it does so every few seconds at most."""

STATUS_EVERY_S = 2.0
HISTORY_EVERY_S = 30.0
HISTORY_STEP_S = 300


class QueuePage(Page):
    """See the module's text."""

    crumb = "queue"
    every_s = 0.5
    changing = frozenset({"kill", "kill_matching", "hold", "release", "priority", "resubmit"})
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "filter", "filter", id="queue.filter", key_display="/", tooltip="Show only some jobs."),
        Binding("s", "sort", "sort", id="queue.sort", tooltip="Choose what the list is sorted by."),
        Binding("S", "reverse", "reverse", show=False, id="queue.reverse", tooltip="Turn the order around."),
        Binding("K", "kill", "kill", id="queue.kill", tooltip="Kill the marked jobs, or the selected one."),
        Binding(
            "ctrl+k",
            "kill_matching",
            "kill all",
            show=False,
            id="queue.kill_matching",
            tooltip="Kill all that the filter shows.",
        ),
        Binding("h", "hold", "hold", id="queue.hold", tooltip="Keep queued jobs from starting."),
        Binding("u", "release", "release", id="queue.release", tooltip="Let held jobs start."),
        Binding("p", "priority", "priority", id="queue.priority", tooltip="Change when queued jobs start."),
        Binding("r", "resubmit", "resubmit", id="queue.resubmit", tooltip="Submit the same again."),
        Binding("a", "mark_shown", "mark all", show=False, id="queue.mark_shown", tooltip="Mark what is on screen."),
        Binding("c", "columns", "columns", show=False, id="queue.columns", tooltip="Show and hide columns."),
        Binding("y", "copy_id", "copy id", show=False, id="queue.copy_id", tooltip="Copy the id."),
        Binding("Y", "copy_command", "copy command", show=False, id="queue.copy_command", tooltip="Copy the command."),
        Binding("f5,ctrl+r", "refresh_now", "refresh", show=False, id="queue.refresh", tooltip="Ask the server again."),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.filter = Filter()
        self.sort = "-id"
        self.counts = Counts()
        self.bar = FilterBar()
        self.why = Message(id="why")
        self.table: Table[Job]
        self._status_at = self._history_at = 0.0
        self._numbers_of: float | None = None

    def content(self) -> ComposeResult:
        """Counts, filter, table, the sentence about the selected job."""
        yield self.counts
        yield self.bar
        self.table = Table[Job](columns_of(self.retz), lambda job: job.id, id="jobs", empty=EMPTY)
        self.table.add_class("ages")
        self.table.sorted_by = self.sort
        yield self.table
        yield self.why

    def on_mount(self) -> None:
        """Begin; durations count by themselves."""
        super().on_mount()
        self.table.focus()
        self.set_interval(1.0, self.tick)

    # -- loading -----------------------------------------------------------------------------------------------

    @property
    def parameters(self) -> dict[str, Any]:
        """What the list is asked for."""
        moment = self.retz.moment
        past = {} if moment is None else {"at": datetime.fromtimestamp(moment, UTC).isoformat()}
        return {**self.session.everybody, **self.filter.parameters, **past}

    async def load(self) -> None:
        """The window around the screen."""
        try:
            window = await self._window()
        except ApiError as error:
            if error.status not in (400, 403) or not self.filter:
                raise
            self.bar.wrong = error.detail
            return
        if self.bar.input.value.strip() == self.filter.text:
            self.bar.wrong = ""  # what has been typed since may be wrong in another way
        self.bar.tell(self.sort, window.total, len(self.table.marked))
        if self.retz.moment is None:
            self.counts.show_counts(dict(window.counts))
        if self._numbers_of != self.retz.moment:
            self._numbers_of = self.retz.moment
            self._status_at = self._history_at = 0.0
        self.say_why()
        self._load_numbers()

    async def _window(self) -> Window:
        table, sort, parameters = self.table, self.sort, self.parameters
        first, number = table.wanted()
        number = min(number, 1000)
        backwards = table.total > 2 * number and first > table.total // 2
        if backwards:
            # The far end is the near one of the list turned around: no server has to walk there.
            first = max(0, table.total - first - number)
            sort = sort.removeprefix("-") if sort.startswith("-") else f"-{sort}"
        wishes = {**parameters, "foresee": True} if FORESEE and self.retz.moment is None else parameters
        window: Window = await self.session.client.list(sort=sort, offset=first, limit=number, **wishes)
        rows = window.jobs
        if backwards:
            first, rows = max(0, window.total - first - len(rows)), tuple(reversed(rows))
        if parameters == self.parameters:
            table.show(first, rows, window.total)
        return window

    @work(group="numbers")
    async def _load_numbers(self) -> None:
        """Utilisation and its history, now and then, after the list."""
        now, counts = time.monotonic(), self.counts
        try:
            if now - self._status_at > STATUS_EVERY_S:
                self._status_at = now
                counts.status = await self.session.refresh_status()
                counts.refresh()
            if now - self._history_at > HISTORY_EVERY_S:
                self._history_at = now
                moment = self.retz.moment
                until = datetime.fromtimestamp(self.retz.now).astimezone()
                since = until.replace(hour=0, minute=0, second=0, microsecond=0)
                end = None if moment is None else until.isoformat()
                history = await self.session.client.aggregates(since.isoformat(), end, HISTORY_STEP_S)
                if moment == self.retz.moment:
                    counts.history, counts.past = history.points, moment is not None
                    counts.refresh()
        except RetzError:
            # The list's own request says what is wrong with the server.
            self._status_at = self._history_at = 0.0

    def tick(self) -> None:
        """A second has passed: durations change, and with them what some filters mean."""
        if self.seen and self.retz.moment is None and self.session.link == "live":
            self.table.redraw()
            if int(time.time()) % 5 == 0 and any("wait" in c or "run" in c for c in self._conditions()):
                self.reload()

    def _conditions(self) -> list[str]:
        return list(self.filter.parameters.get("where", ()))

    def say_why(self) -> None:
        """The sentence about the selected row."""
        job = self.table.selected
        self.why.say("" if job is None else said(job, self.retz.now))

    def on_table_wanted(self, event: Table.Wanted) -> None:
        """Rows came into sight."""
        event.stop()
        self.reload(now=True)

    def on_table_moved(self, event: Table.Moved) -> None:
        """Another row is selected, or one more marked."""
        event.stop()
        self.bar.tell(self.sort, self.table.total, len(self.table.marked))
        self.say_why()
        if self.table.selected is not None:
            self.retz.job = self.table.selected.id

    async def on_table_opened(self, event: Table.Opened) -> None:
        """The job's page."""
        from .job import JobPage

        event.stop()
        if self.table.selected is not None:
            await self.retz.drill(JobPage(self.table.selected.id))

    # -- filter and sort ---------------------------------------------------------------------------------------

    def action_filter(self) -> None:
        """Edit the filter."""
        self.bar.input.focus()

    def action_leave_filter(self) -> None:
        """Back to the list."""
        self.table.focus()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """In the filter's line a slash is a slash."""
        editing = action == "filter" and isinstance(self.focused, Input)
        return not editing and super().check_action(action, parameters)

    def on_input_changed(self, event: Input.Changed) -> None:
        """Apply it as it is typed; while it means nothing the list stays."""
        event.stop()
        try:
            wanted = parse(event.value)
        except FilterError as error:
            self.bar.wrong = str(error)
            return
        self.bar.wrong = ""
        changed = wanted.parameters != self.filter.parameters
        self.filter = wanted
        if changed:
            self._from_the_top()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Back to the list."""
        event.stop()
        self.table.focus()

    def escape(self) -> bool:
        """Take the marks away, then the filter."""
        if self.table.unmark():
            self.bar.tell(self.sort, self.table.total, 0)
            return True
        had = bool(self.bar.input.value)
        self.bar.input.value = ""
        return had

    def set_filter(self, text: str) -> None:
        """Show only what a filter means."""
        self.bar.input.value = text
        self.table.focus()

    def _from_the_top(self) -> None:
        table = self.table
        table.empty = (
            "nothing matches: esc takes the filter away" if self.filter else "no live jobs: state:all shows ended ones"
        )
        table.sorted_by = self.sort
        table.restart()
        self.reload(now=True)

    @work(group="dialog")
    async def action_sort(self) -> None:
        """Choose what the list is sorted by."""
        field = await self.app.push_screen_wait(Chooser("sort by", list(SORTS.items()), self.sort.removeprefix("-")))
        if field:
            self.sort_by(field)

    def sort_by(self, field: str) -> None:
        """Sort by a field; again turns the order around."""
        if field == self.sort.removeprefix("-"):
            self.action_reverse()
        else:
            self.sort = f"-{field}" if field == "id" else field
            self._from_the_top()

    def action_reverse(self) -> None:
        """Turn the order around."""
        self.sort = self.sort.removeprefix("-") if self.sort.startswith("-") else f"-{self.sort}"
        self._from_the_top()

    def on_table_head_clicked(self, event: Table.HeadClicked) -> None:
        """Sort by that column."""
        event.stop()
        if event.column.sort:
            self.sort_by(event.column.sort)

    @work(group="dialog")
    async def action_columns(self) -> None:
        """Show and hide columns."""
        table = self.table
        options = [(column.key, column.key) for column in table.columns]
        shown = {column.key for column in table.columns} - table.hidden
        ticked = await self.app.push_screen_wait(Checklist("columns, as far as there is room", options, shown))
        if ticked:
            table.hidden = {column.key for column in table.columns} - ticked
            table.lay_out()

    def action_refresh_now(self) -> None:
        """Ask the server again."""
        self._status_at = self._history_at = 0.0
        self.reload(now=True)

    # -- jobs --------------------------------------------------------------------------------------------------

    def action_mark_shown(self) -> None:
        """Mark what is on the screen."""
        self.table.mark_shown()

    def action_copy_id(self) -> None:
        """Copy the ids of the chosen jobs."""
        ids = " ".join(str(job.id) for job in self.table.chosen)
        if ids:
            self.retz.copy(ids, ids)

    def action_copy_command(self) -> None:
        """Copy the selected job's command."""
        job = self.table.selected
        if job is not None:
            self.retz.copy(actions.shell_line(job), f"the command of {job.id}")

    def action_kill(self) -> None:
        """End the chosen jobs."""
        actions.begin(self.retz, actions.kill(self.retz, self.table.chosen))

    def action_kill_matching(self) -> None:
        """End all that the filter shows."""
        if self.filter:
            actions.begin(self.retz, actions.kill_matching(self.retz, self.filter))
        else:
            self.notify("first say which, with / : this kills all that the filter shows", severity="warning")

    def action_hold(self) -> None:
        """Hold the chosen jobs."""
        actions.begin(self.retz, actions.hold(self.retz, self.table.chosen))

    def action_release(self) -> None:
        """Release the chosen jobs."""
        actions.begin(self.retz, actions.release(self.retz, self.table.chosen))

    def action_priority(self) -> None:
        """Change the priority of the chosen jobs."""
        actions.begin(self.retz, actions.priority(self.retz, self.table.chosen))

    def action_resubmit(self) -> None:
        """Submit the chosen jobs again."""
        actions.begin(self.retz, actions.resubmit(self.retz, self.table.chosen))

    def commands(self) -> list[Command]:
        """What one may type here."""
        look = [
            Command("filter", "show only some jobs", self.set_filter, ("f",), "TERMS", _filter_words),
            Command("sort", "choose the order", self._sort_command, (), "FIELD", lambda: [*SORTS]),
            Command("columns", "show and hide columns", lambda _: self._call(self.action_columns)),
        ]
        change = [
            Command("kill", "kill the chosen jobs, or all that match", self._kill_command, (), "[FILTER]"),
            Command("hold", "keep the chosen jobs from starting", lambda _: self.action_hold()),
            Command("release", "let held jobs start", lambda _: self.action_release()),
            Command("priority", "change when the chosen jobs start", lambda _: self.action_priority()),
            Command("resubmit", "submit the chosen jobs again", lambda _: self.action_resubmit()),
        ]
        return look if self.retz.readonly else look + change

    def _call(self, action: Any) -> None:
        action()

    def _sort_command(self, field: str) -> None:
        if field in SORTS:
            self.sort_by(field)
        else:
            self.notify(f"sort by one of {', '.join(SORTS)}", severity="warning", markup=False)

    def _kill_command(self, terms: str) -> None:
        if not terms:
            self.action_kill()
            return
        try:
            wanted = parse(terms)
        except FilterError as error:
            self.notify(str(error), severity="warning", markup=False)
            return
        actions.begin(self.retz, actions.kill_matching(self.retz, wanted))


def said(job: Job, now: float) -> str:
    """Why a job waits, or why it ended; of a running one what it runs."""
    if job.state == "STARTED" and job.kill_requested is None:
        return f"{id_of(job)}  {off_path(job) or command_text(job)}"
    return f"{id_of(job)}  {title_of(job)}: {sentence(job, None, None, now)}"


def _filter_words() -> list[str]:
    return ["state:queued", "state:started", "state:all", "held", "gpu>0", "wait>10m", "user:", "pipeline:"]
