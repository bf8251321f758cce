"""One job: where it stands and why, its attempts, what it uses, what it was asked to do, and its output."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar

from msgspec.structs import replace
from textual import events as textual_events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.message import Message as TextualMessage

from retz.client import ApiError
from retz.client.types import Event, FileRange, Job, Series, Why

from .. import actions
from ..columns import id_of, seconds, title_of
from ..commands import Command
from ..dialogs import Prompt
from ..facts import facts_of
from ..logsearch import Read
from ..page import Page
from ..sentences import sentence
from ..states import look_of, state_text
from ..text import duration, printable, size_text, width_of
from ..widgets.bars import Line, Message, TopLine
from ..widgets.facts import Facts
from ..widgets.logview import LogView, wrong_jump
from ..widgets.timeline import Timeline
from ..widgets.usageplot import UsagePlot
from .files import FilesPage

MEASURED_S = 5.0
"""Usage is asked for anew so often while the job runs; servers measure about that often."""
WIDE, LOW = 150, 30
MODES = ("", "-log", "-facts")
STREAMS = ("stdout", "stderr")

Cells = list[tuple[str, str]]


class Status(Line):
    """State, place, attempt, owner, pipeline; exit code."""

    job: Job | None = None
    host: str = ""
    now: float = 0.0

    def show(self, job: Job | None, host: str, now: float) -> None:
        """Show this job, on that machine, as of ``now``."""
        self.job, self.host, self.now = job, host, now
        self.refresh()

    def parts(self) -> tuple[Cells, Cells]:
        """See :class:`Line`."""
        job = self.job
        if job is None:
            return [], []
        left: Cells = [(f" {state_text(job)}", look_of(job).style)]
        if self.host:
            left += [(" on ", "dim"), (printable(self.host), "")]
        begun = seconds(job.started)
        if begun is not None:
            left += [(" for ", "dim"), (duration((seconds(job.ended) or self.now) - begun), "")]
        if job.losses:
            left.append((f"   lost {job.losses} of {job.max_retries} times", "warn"))
        left.append((f"   {printable(job.owner)[:8]}", "dim"))
        if job.pipeline:
            left.append((f"   pipeline {printable(job.pipeline)}, run {printable(job.run or '')}", "dim"))
        return left, self._exit(job)

    def _exit(self, job: Job) -> Cells:
        if job.exit_code is not None:
            return [("  exit ", "dim"), (f"{job.exit_code} ", "failed" if job.exit_code else "good")]
        return [("  signal ", "dim"), (f"{job.signal} ", "failed")] if job.signal is not None else []


class LogHead(Line):
    """Which file is shown, how much of it, and what the viewer has to say."""

    class Picked(TextualMessage):
        """The user clicked the name of a file."""

        def __init__(self, path: str) -> None:
            super().__init__()
            self.path = path

    def __init__(self) -> None:
        super().__init__()
        self.path = "stdout"
        self.attempt = ""
        self.rewound = False
        self.view: LogView | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """What stands on the left: the streams, and the file that is shown if it is neither."""
        return STREAMS if self.path in STREAMS else (*STREAMS, self.path)

    def on_click(self, event: textual_events.Click) -> None:
        """The name that was clicked is shown."""
        left = 1
        for name in self.names:
            right = left + width_of(printable(name))
            if left <= event.x < right:
                self.post_message(self.Picked(name))
            left = right + 2

    def parts(self) -> tuple[Cells, Cells]:
        """See :class:`Line`."""
        view = self.view
        left: Cells = [(" ", "")]
        for name in self.names:
            left += [(printable(name), "bold" if name == self.path else "dim"), ("  ", "")]
        left.append((self.attempt, "dim"))
        if view is None:
            return left, []
        if not view.opened:
            return left, []
        note = view.note or ("output is of now, not of the time above" if self.rewound else "")
        left.append((f"  {note}", "warn"))
        right: Cells = [(f"  {size_text(view.window.blocks.size):>6}  {view.share:>3} %", "dim")]
        right += [("  wrap", "dim")] if view.window.wrap else []
        follow = ("  ▼ follow " if view.follow else "  ▽ f follows ") if view.live else "  ■ complete "
        return left, [*right, (follow, "good" if view.live and view.follow else "dim")]


class JobPage(Page):
    """See the module's text.

    Args:
        job_id: Which job; None is the one last looked at or selected, or else your newest.
    """

    crumb = "job"
    changing: ClassVar[frozenset[str]] = frozenset({"kill", "hold", "release", "priority", "resubmit"})
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f", "follow", "follow", id="job.follow", tooltip="Keep the end of the output in sight, or do not."),
        Binding("w", "wrap", "wrap", id="job.wrap", tooltip="Fold long lines, or do not."),
        Binding("slash", "search", "search", id="job.search", key_display="/", tooltip="Find a text in the file."),
        Binding("n", "next(1)", "next", show=False, id="job.next", tooltip="The next place further down."),
        Binding("N", "next(-1)", "previous", show=False, id="job.previous", tooltip="The next place further up."),
        Binding("percent_sign", "jump", "jump", show=False, id="job.jump", key_display="%",
                tooltip="To 50%, to line 1200, to byte @65536."),
        Binding("o", "stream", "out⇄err", id="job.stream", tooltip="stdout or stderr."),
        Binding("K", "kill", "kill", id="job.kill", tooltip="End it, after a question."),
        Binding("r", "resubmit", "resubmit", id="job.resubmit", tooltip="A new job like this one."),
        Binding("F", "files", "files", id="job.files", tooltip="Any file of the sandbox."),
        Binding("d", "mode('-facts')", "details", id="job.details", tooltip="Everything but the output, or all again."),
        Binding("z", "mode('-log')", "zoom", id="job.zoom", tooltip="Nothing but the output, or all again."),
        Binding("left_square_bracket", "attempt(-1)", "earlier attempt", show=False, id="job.attempt_before",
                key_display="["),
        Binding("right_square_bracket", "attempt(1)", "later attempt", show=False, id="job.attempt_after",
                key_display="]"),
        Binding("s", "skylines", "skylines", id="job.skylines", tooltip="Its pipeline's history and prediction."),
        Binding("y", "copy('id')", "copy id", show=False, id="job.copy_id"),
        Binding("Y", "copy('command')", "copy command", show=False, id="job.copy_command"),
        Binding("p", "priority", "priority", show=False, id="job.priority"),
        Binding("h", "hold", "hold", show=False, id="job.hold"),
        Binding("u", "release", "release", id="job.release"),
    ]  # fmt: skip

    def __init__(self, job_id: int | None = None) -> None:
        super().__init__()
        self.wanted = job_id
        self.drilled = job_id is not None
        self.job: Job | None = None
        self.latest: Job | None = None
        self.why: Why | None = None
        self.series: Series | None = None
        self.path = "stdout"
        self.attempt: int | None = None
        self._shown: tuple[int, int, str] | None = None
        self._as_it_is_now = False
        self._measured_at = 0.0

    def title_text(self) -> str:
        """Id and name."""
        return "job" if self.job is None else f"{id_of(self.job)} {title_of(self.job)[:40]}"

    def content(self) -> ComposeResult:
        """See the module's text."""
        yield Status()
        yield Message(id="sentence")
        yield Timeline()
        with Container(id="body"):
            with Container(id="side"):
                yield Facts()
                with Container(id="plots"):
                    yield UsagePlot("cpus", id="cpus")
                    yield UsagePlot("memory", id="memory")
            with Container(id="logs"):
                yield LogHead()
                view = LogView(id="log")
                view.add_class("ages")
                yield view

    def on_mount(self) -> None:
        """Begin; the clock moves what counts seconds."""
        self.query_one(LogHead).view = self.view
        self.query_one(Timeline).host = self.session.host
        self.view.focus()
        super().on_mount()
        self.set_interval(1.0, self._tick)

    @property
    def view(self) -> LogView:
        """The viewer."""
        return self.query_one(LogView)

    # -- what the server knows -------------------------------------------------------------------------------------

    def events(self, batch: Sequence[Event]) -> None:
        """Only what happens to this job is of interest; a queued one waits for others too."""
        queued = self.job is not None and self.job.state == "QUEUED"
        mine = {event.job.id for event in batch if event.job is not None}
        if queued or (self.job is not None and self.job.id in mine) or any(e.kind == "reset" for e in batch):
            self.reload()

    def on_screen_resume(self) -> None:
        """It is seen again; as a root page it may have to show another job."""
        if not self.drilled and self.retz.job is not None and self.retz.job != self.wanted:
            self._turn_to(self.retz.job)
        super().on_screen_resume()

    def _turn_to(self, job_id: int) -> None:
        self.retz.job = self.wanted = job_id
        self.attempt, self.path = None, "stdout"

    async def load(self) -> None:
        """The job, why it waits, what it uses."""
        wanted = self.wanted
        try:
            job = await self._ask()
        except ApiError as error:
            if error.status != 404:
                raise
            self._nothing(error.detail)
            return
        why = await self._reasons(job)
        if wanted != self.wanted:
            return
        if self.job is None or self.job.id != job.id:
            self.series = None
        self.job, self.why = job, why
        self.retz.job = self.wanted = job.id
        self._show()
        self.series = await self._used(job)
        self._measured_at = self.session.now()
        if self.job is job:
            self._show()
            self.query_one("#cpus", UsagePlot).show(self.series, job.resources.cpus)
            self.query_one("#memory", UsagePlot).show(self.series, job.resources.mem)

    async def _reasons(self, job: Job) -> Why | None:
        """Why it waits, or ended, and what it waited for; of one that waits, anew each time."""
        if self.retz.moment is not None:
            return None
        known = self.why
        if known is not None and (known.id, known.state) == (job.id, job.state) and job.state != "QUEUED":
            return known
        return await self.session.client.why(job.id)

    async def _ask(self) -> Job:
        client, moment = self.session.client, self.retz.moment
        now = self.latest = await client.job(self.wanted or "last")
        self._as_it_is_now = moment is not None
        if moment is None:
            return now
        at = datetime.fromtimestamp(moment, UTC).isoformat().replace("+00:00", "Z")
        filters: dict[str, Any] = {"at": at, "ids": str(now.id), **self.session.everybody}
        then = await client.list(limit=1, **filters)
        self._as_it_is_now = not then.jobs
        return then.jobs[0] if then.jobs else now

    async def _used(self, job: Job) -> Series | None:
        number = self._number(job)
        if number is None:
            return None
        try:
            series = await self.session.client.usage(job.id, attempt=number)
        except ApiError as error:
            if error.status != 404:  # archived without its series
                raise
            return None
        return series if self.retz.moment is None else _until(series, job, number, self.retz.moment)

    def _number(self, job: Job) -> int | None:
        """The attempt that is looked at."""
        numbers = [attempt.number for attempt in job.attempts]
        if self.attempt in numbers:
            return self.attempt
        return numbers[-1] if numbers else None

    # -- showing it ------------------------------------------------------------------------------------------------

    @property
    def now(self) -> float:
        """The moment that is looked at."""
        return self.retz.moment or self.session.now()

    def _show(self) -> None:
        job = self.job
        if job is None:
            return
        text = sentence(job, self.why, self.series, self.now)
        if self._as_it_is_now:
            text = f"This is the job as it is now: at the time above it was neither waiting nor running. {text}"
        self.query_one("#sentence", Message).say(text)
        self.query_one(Facts).show(facts_of(job, self.why))
        self.query_one(TopLine).refresh()
        self._show_times()
        self._show_output(job)
        self.refresh_bindings()

    def _show_times(self) -> None:
        job = self.job
        if job is not None:
            self.query_one(Status).show(job, self.session.host(job.agent), self.now)
            self.query_one(Timeline).show(job, self.now, self._number(job) or 0)

    def _show_output(self, job: Job) -> None:
        number, view, head = self._number(job), self.view, self.query_one(LogHead)
        head.path, head.rewound = self.path, self.retz.moment is not None
        head.attempt = "" if number is None or len(job.attempts) < 2 else f"attempt {number}"
        if number is None:
            self._shown = None
            view.close("it was never started: there is no output" if job.over else "no output yet: it has not started")
            return
        latest = self.latest or job  # files are of now, whatever the time that is looked at
        live = not latest.over and number == latest.attempts[-1].number
        if self._shown != (job.id, number, self.path):
            self._shown = (job.id, number, self.path)
            view.open(self._reader(job.id, number, self.path), live=live)
        elif view.live != live:
            view.live = live
            view.look()
        head.refresh()

    def _reader(self, job_id: int, attempt: int, path: str) -> Read:
        client = self.session.client

        async def read(offset: int, length: int | None) -> FileRange:
            return await client.read_range(job_id, path, attempt=attempt, offset=offset, length=length)

        return read

    def _nothing(self, text: str) -> None:
        self.job = self._shown = None
        self.query_one(Status).show(None, "", 0)
        self.query_one(Timeline).show(None, 0, 0)
        self.query_one(Facts).show([])
        self.query_one("#sentence", Message).say(f"{printable(text)}. :open ID shows another job.")
        self.view.close("")

    def _tick(self) -> None:
        if not self.seen or self.job is None or self.retz.moment is not None:
            return
        if not self.job.over:
            self._show_times()
            if self.job.state == "STARTED" and self.session.now() - self._measured_at >= MEASURED_S:
                self.reload()

    def on_resize(self, event: textual_events.Resize) -> None:
        """What has room where."""
        wide = event.size.width >= WIDE
        self.set_class(wide, "-wide")
        self.set_class(not wide and event.size.height < LOW, "-low")

    def on_log_view_changed(self, event: LogView.Changed) -> None:
        """The viewer has something to say."""
        event.stop()
        self.query_one(LogHead).refresh()

    def on_log_head_picked(self, event: LogHead.Picked) -> None:
        """Show that file."""
        event.stop()
        self.show_file(event.path)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Only what can be done to the job as it stands."""
        job = self.job
        if job is not None and action in self.changing:
            fits = {"kill": not job.over, "resubmit": job.over, "release": job.held}
            if not fits.get(action, job.state == "QUEUED"):
                return False
        return super().check_action(action, parameters)

    # -- keys ------------------------------------------------------------------------------------------------------

    def escape(self) -> bool:
        """Stop looking for something; then show all again."""
        if self.view.cancel():
            return True
        zoomed = self.has_class("-log") or self.has_class("-facts")
        self._mode("")
        return zoomed

    def action_mode(self, mode: str) -> None:
        """Only the output or only the details; all again."""
        self._mode("" if self.has_class(mode) else mode)

    def _mode(self, mode: str) -> None:
        for each in MODES[1:]:
            self.set_class(each == mode, each)
        (self.query_one(Facts) if mode == "-facts" else self.view).focus()

    def action_follow(self) -> None:
        """Keep the end in sight."""
        self.view.toggle_follow()

    def action_wrap(self) -> None:
        """Fold long lines."""
        self.view.toggle_wrap()

    def action_search(self) -> None:
        """Ask what to look for."""
        known = self.view.search.needle if self.view.search is not None else ""
        self.app.push_screen(Prompt(f"find in {self.path}", known), self._search)

    def _search(self, needle: str | None) -> None:
        if needle:
            self.view.find(needle)

    def action_next(self, way: int) -> None:
        """The next place, down or up."""
        self.view.find_next(forward=way > 0)

    def action_jump(self) -> None:
        """Ask where to go."""
        self.app.push_screen(Prompt("go to 50%, line 1200 or byte @65536", "", wrong_jump), self._jump)

    def _jump(self, where: str | None) -> None:
        if where:
            self.view.jump(where)

    def action_stream(self) -> None:
        """stdout or stderr."""
        self.show_file("stderr" if self.path == "stdout" else "stdout")

    def show_file(self, path: str) -> None:
        """Show a file of the sandbox."""
        self.path = path
        self._show()

    async def action_files(self) -> None:
        """The sandbox."""
        if self.job is not None:
            await self.retz.drill(FilesPage(self.job.id, self._number(self.job), self.show_file))

    def action_attempt(self, by: int) -> None:
        """Look at another attempt."""
        if self.job is None or not self.job.attempts:
            return
        numbers = [attempt.number for attempt in self.job.attempts]
        place = numbers.index(self._number(self.job) or numbers[-1]) + by
        if not 0 <= place < len(numbers):
            self.notify("there is no later attempt" if by > 0 else "there is no earlier attempt", timeout=2)
            return
        self.attempt = None if place == len(numbers) - 1 else numbers[place]
        self._show()
        self.reload(now=True)

    async def action_skylines(self) -> None:
        """Its pipeline's skylines."""
        if self.job is None or not self.job.pipeline:
            self.notify("this job is part of no pipeline: 'retz run --pipeline NAME' makes one", timeout=4)
            return
        from .pipeline import PipelinePage

        status = self.session.status
        mine = status is not None and status.user.key == self.job.owner
        await self.retz.drill(PipelinePage(self.job.pipeline, None if mine else self.job.owner))

    def action_copy(self, what: str) -> None:
        """Id or command into the clipboard."""
        if self.job is not None:
            command = self.job.command
            text = command if isinstance(command, str) else shlex.join(command)
            self.retz.copy(str(self.job.id) if what == "id" else text, what)

    def _change(self, action: Callable[..., Coroutine[Any, Any, None]]) -> None:
        if self.job is not None:
            actions.begin(self.retz, action(self.retz, [self.job]))

    def action_kill(self) -> None:
        """End it."""
        self._change(actions.kill)

    def action_hold(self) -> None:
        """Keep it from starting."""
        self._change(actions.hold)

    def action_release(self) -> None:
        """Let it start."""
        self._change(actions.release)

    def action_priority(self) -> None:
        """Give it another priority."""
        self._change(actions.priority)

    def action_resubmit(self) -> None:
        """Submit it again."""
        self._change(actions.resubmit)

    def commands(self) -> list[Command]:
        """Another job by its number; a file by its path."""
        return [
            Command("open", "show the job of that number", self._open, ("job#",), "ID"),
            Command("cat", "show that file of the sandbox", self.show_file, ("file",), "PATH"),
        ]

    def _open(self, text: str) -> None:
        if not text.isdecimal():
            self.notify("a job's number, please: ':open 12'", severity="warning")
            return
        self._turn_to(int(text))
        self.reload(now=True)


def _until(series: Series, job: Job, number: int, moment: float) -> Series:
    """What was measured up to a moment of the past."""
    begun = next((seconds(attempt.started) for attempt in job.attempts if attempt.number == number), None)
    points = int((moment - begun) / series.interval_s) if begun is not None and series.interval_s else 0
    seen = series.series[: max(0, points)]
    return replace(series, series=seen, max_rss_mb=max((rss for _, rss in seen), default=0.0))
