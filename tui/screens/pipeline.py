"""One pipeline: its past runs, and what the next one will need."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Static

from estimator.units import duration
from retz.client import ApiError, AsyncClient, RetzError
from retz.client.types import Event, History, Prediction, Sizes

from ..commands import Command
from ..dialogs import Checklist, Chooser
from ..page import Page
from ..sentences import given
from ..skyline_series import Kind, Picture, resources_of, skyline_of, when
from ..text import printable
from ..widgets.bars import Line, Message, TopLine
from ..widgets.stepplot import StepPlot

MOST_RUNS = 100
"""Runs whose skylines are fetched: what the server gives at once."""

SETTLED_S = 0.1
"""A key that is held down asks for its last step, not for each."""

ALPHA_STEP = 0.05
SOLVERS = (
    ("", "as the server is configured"),
    ("fast", "fast: the optimum of the linear programme, quickly"),
    ("lp", "lp: the linear programme itself"),
    ("peak", "peak: learns one safe constant size"),
    ("last", "last: as the last run"),
    ("max", "max: the most that any run held"),
    ("mean2", "mean2: mean and two deviations"),
    ("p95", "p95: the 95th percentile"),
)
WEIGHED = ("fast", "lp")
"""Solvers that weigh too much against too little by alpha."""


class Settings(Line):
    """What is drawn, and how it was made."""

    def __init__(self) -> None:
        super().__init__()
        self.left: list[tuple[str, str]] = []
        self.right: list[tuple[str, str]] = []

    def say(self, left: list[tuple[str, str]], right: list[tuple[str, str]]) -> None:
        """Show these."""
        self.left, self.right = left, right
        self.refresh()

    def parts(self) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
        """See :class:`Line`."""
        return self.left, self.right


class Reading(Settings):
    """What the cursor reads."""


class PipelinePage(Page):
    """See the module's text.

    Args:
        name: The pipeline.
        user: Whose; None is ours.
    """

    crumb = "pipeline"
    every_s = 1.0
    DEFAULT_CSS = """
    PipelinePage #refusal { padding: 1 2; height: auto; }
    PipelinePage #saving { max-height: 3; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab", "resource(1)", "resource", id="pipeline.resource", tooltip="Memory, vcores, gpus in turn."),
        Binding("shift+tab", "resource(-1)", "resource back", show=False, id="pipeline.resource_back"),
        Binding("u", "kind", "use⇄held", id="pipeline.kind", tooltip="What was used, or what was reserved."),
        Binding("left_square_bracket", "alpha(-1)", "alpha", id="pipeline.alpha_down", key_display="[]",
                tooltip="What if reserving too little cost more? Solved again in the background."),
        Binding("right_square_bracket", "alpha(1)", "alpha up", show=False, id="pipeline.alpha_up", key_display="]",
                tooltip="What if reserving too much cost more?"),
        Binding("p", "png", "PNG", id="pipeline.png", tooltip="Write the picture into the current directory."),
        Binding("space", "runs", "runs", id="pipeline.runs", tooltip="Choose the past runs that are drawn."),
        Binding("S", "solver", "solver", id="pipeline.solver", tooltip="Choose how the prediction is made."),
        Binding("enter", "jobs", "jobs", id="pipeline.jobs", tooltip="All jobs of the pipeline, in the queue."),
    ]  # fmt: skip

    def __init__(self, name: str, user: str | None = None) -> None:
        super().__init__()
        self.pipeline = name
        self.user = user
        self.resource = "memory"
        self.kind: Kind = "allocated"
        self.solver: str | None = None
        self.alpha: float | None = None
        self.chosen: frozenset[str] | None = None
        self.history: History | None = None
        self.prediction: Prediction | None = None
        self.sizes: Sizes | None = None
        self.refusal = ""
        self.solving = False
        self._asked = 0
        self._solved_for: object = None

    def content(self) -> ComposeResult:
        """Settings, what is wrong, the plot, what it reads, the saving."""
        yield Settings()
        yield Static("", id="refusal", markup=False)
        plot = StepPlot(id="plot")
        plot.add_class("ages")
        yield plot
        yield Reading()
        yield Message(id="saving")

    def on_mount(self) -> None:
        """The plot has the keys."""
        self.plot.focus()

    @property
    def plot(self) -> StepPlot:
        """The plot."""
        return self.query_one("#plot", StepPlot)

    def title_text(self) -> str:
        """The pipeline's name, and whose it is."""
        return printable(self.pipeline if self.user is None else f"{self.user}: {self.pipeline}")

    def summary(self) -> str:
        """How many runs, and when the last one was."""
        if self.history is None or not self.history.runs:
            return ""
        runs = self.history.runs
        last = when(max(run.start for run in runs))
        return f"{len(runs)} {'run' if len(runs) == 1 else 'runs'}" + (f"   last {last}" if last else "")

    def commands(self) -> list[Command]:
        """What can be typed here."""
        return [
            Command("alpha", "what if alpha were NUMBER", self._type_alpha, (), "NUMBER"),
            Command("solver", "predict with another solver", self._take_solver, (), "NAME",
                    lambda: [name for name, _ in SOLVERS if name]),
            Command("png", "write the picture to a file", self._type_png),
        ]  # fmt: skip

    def events(self, batch: list[Event]) -> None:
        """A run may be complete when a job of the pipeline has ended."""
        for event in batch:
            if event.kind == "reset" or (event.job and event.job.over and event.job.pipeline == self.pipeline):
                self.reload()

    def escape(self) -> bool:
        """Cursor and zoom first."""
        return self.plot.escape()

    # -- loading ---------------------------------------------------------------------------------------------------

    async def load(self) -> None:
        """The runs; a prediction is asked for when they, or the wishes, are not those of the last one."""
        try:
            self.history = await self.session.client.pipeline(self.pipeline, user=self.user, skylines=MOST_RUNS)
        except ApiError as error:
            if error.status == 404:  # forgotten, or not ours
                self.history = self.prediction = None
            self._refuse(str(error))
            return
        self.sizes = await sizes_of(self.session.client, self.pipeline, self.user)
        if self.resource not in resources_of(self.history, "allocated"):
            self.resource = resources_of(self.history, "allocated")[0]
        if self._solved_for != self._wished():
            self._solve()
        self.draw()

    def _wished(self) -> object:
        runs = () if self.history is None else tuple(run.run for run in self.history.runs)
        return runs, self.kind, self.solver, self.alpha

    @work(exclusive=True, group="solve")
    async def _solve(self) -> None:
        """Ask for a prediction. A newer wish ends this one, and what the server does for it."""
        self._asked += 1
        mine, wished, self.solving = self._asked, self._wished(), True
        self.draw()
        await asyncio.sleep(SETTLED_S)
        try:
            prediction, refusal = await self._predict(), ""
        except ApiError as error:
            prediction, refusal = None, str(error)
        except RetzError:
            self.reload()  # the page waits until the server is back
            return
        if mine == self._asked:
            self.solving, self._solved_for = False, wished
            self.prediction = prediction
            self._refuse(refusal)

    async def _predict(self) -> Prediction:
        return await self.session.client.prediction(
            self.pipeline, kind=self.kind, solver=self.solver, alpha=self.alpha, user=self.user
        )

    def _refuse(self, why: str) -> None:
        self.refusal = why
        self.draw()

    # -- showing ---------------------------------------------------------------------------------------------------

    def picture(self) -> Picture | None:
        """What is drawn."""
        if self.history is None:
            return None
        shown = self.prediction if self.prediction is not None and self.prediction.kind == self.kind else None
        return Picture(self.history, shown, self.resource, self.kind, self.chosen)

    def draw(self) -> None:
        """Show what is known."""
        if not self.query(StepPlot):
            return  # the page was closed meanwhile
        picture = self.picture()
        series = picture.series() if picture is not None else []
        refusal = self.query_one("#refusal", Static)
        refusal.update(printable(self.refusal))
        refusal.display = bool(self.refusal)
        self.plot.display = any(each.style != "dashed" for each in series)
        self.plot.pending = self.solving
        if picture is not None:
            self.plot.show(series, picture.unit)
            self.query_one("#saving", Message).say(" ".join(filter(None, (picture.saving(), given(self.sizes)))))
        self.query_one(TopLine).refresh()
        self.query_one(Settings).say(*self._settings())
        self._read()

    def _settings(self) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
        left = [(f" {printable(self.resource)}, {self.kind}", "bold")]
        right = [("solving… ", "warn")] if self.solving else []
        if self.prediction is not None:
            found = self.prediction
            left.append((f"   from {len(found.runs)} runs   solver {printable(found.solver)}", "dim"))
            if found.solver in WEIGHED and "alpha" in found.settings:
                left.append((f"   alpha {float(found.settings['alpha']):.2f}", "dim"))
        if self.alpha is not None or self.solver:
            wish = [f"alpha {self.alpha:.2f}"] if self.alpha is not None else []
            wish += [f"solver {self.solver}"] if self.solver else []
            right = [("what if " + ", ".join(wish) + "  ", "accent"), *right]
        return left, right

    def _read(self) -> None:
        picture, at = self.picture(), self.plot.cursor
        if picture is None:
            return
        reading = picture.peaks() if at is None else picture.reading(self.plot.series, at)
        where = "at most" if at is None else f"at {duration(round(at))}"
        left = [(f" {where:<14}", "accent" if at is not None else "dim")]
        for what, text in reading:
            left += [(f"{what} ", "dim"), (f"{text:<10} ", "plan" if what == "predicted" else "")]
        self.query_one(Reading).say(left, [])

    def on_step_plot_read(self, event: StepPlot.Read) -> None:
        """The cursor moved."""
        event.stop()
        self._read()

    # -- keys --------------------------------------------------------------------------------------------------------

    def action_resource(self, by: int) -> None:
        """The next resource."""
        if self.history is not None:
            names = resources_of(self.history, "allocated")
            place = names.index(self.resource) + by if self.resource in names else 0
            self.resource = names[place % len(names)]
            self.draw()

    def action_kind(self) -> None:
        """Used, or allocated."""
        self.kind = "used" if self.kind == "allocated" else "allocated"
        self.prediction = None
        self._solve()

    def action_alpha(self, by: int) -> None:
        """A step up or down from what the prediction shown was made with."""
        solver = self.solver or (self.prediction.solver if self.prediction is not None else "")
        if self.prediction is None or solver not in WEIGHED:
            self.notify(f"alpha is for the solvers {' and '.join(WEIGHED)}: S chooses one", markup=False)
            return
        now = self.alpha if self.alpha is not None else float(self.prediction.settings.get("alpha", 0.0))
        self._wish_alpha(round(now / ALPHA_STEP + by) * ALPHA_STEP)

    def _wish_alpha(self, alpha: float) -> None:
        self.alpha = round(min(max(alpha, 0.0), 1.0), 4)
        self._solve()

    def _type_alpha(self, text: str) -> None:
        try:
            self._wish_alpha(float(text))
        except ValueError:
            self.notify(f"alpha is a number from 0 to 1, not {printable(text)!r}", severity="warning", markup=False)

    def action_solver(self) -> None:
        """Choose one."""
        self.app.push_screen(Chooser("predict with", SOLVERS, self.solver or ""), self._take_solver)

    def _take_solver(self, name: str | None) -> None:
        if name is None:
            return
        if name not in dict(SOLVERS):
            known = ", ".join(each for each, _ in SOLVERS if each)
            self.notify(f"there is no solver {printable(name)!r}: {known}", severity="warning", markup=False)
            return
        self.solver = name or None
        self.alpha = self.alpha if name else None
        self._solve()

    def action_runs(self) -> None:
        """Choose what is drawn."""
        picture = self.picture()
        if picture is None:
            return
        options = [
            (run.run, f"{when(run.start):16}  {duration(run.duration_s):>12}  {run.run}")
            for run in reversed(picture.history.runs)
            if skyline_of(run, self.kind) is not None
        ]
        ticked = {run.run for run in picture.runs}
        self.app.push_screen(Checklist("past runs to draw", options, ticked), self._take_runs)

    def _take_runs(self, runs: frozenset[str] | None) -> None:
        if runs is not None:
            self.chosen = runs
            self.draw()

    async def action_jobs(self) -> None:
        """The pipeline's jobs, in the queue."""
        await self.retz.action_go("queue")
        quoted = f'"{self.pipeline}"' if " " in self.pipeline else self.pipeline
        whose = f"user:{self.user} " if self.user else ""
        await self.retz.command(f"filter {whose}state:all pipeline:{quoted}")

    def action_png(self) -> None:
        """Write the server's picture into the current directory."""
        self._export()

    def _type_png(self, _: str) -> None:
        self._export()

    @work(group="png")
    async def _export(self) -> None:
        wishes = {"kind": self.kind, "solver": self.solver, "alpha": self.alpha, "user": self.user}
        try:
            data = await self.session.client.prediction_plot(self.pipeline, "png", resource=self.resource, **wishes)
            path = await asyncio.to_thread(_write, Path.cwd(), f"{self.pipeline}-{self.resource}", data)
        except RetzError as error:
            self.retz.tell_error(error)
        except OSError as error:
            text = f"the picture could not be written to {error.filename}: {error.strerror}"
            self.notify(printable(text), severity="error", markup=False)
        else:
            self.notify(printable(f"wrote {path}"), markup=False, timeout=8)


async def sizes_of(client: AsyncClient, pipeline: str, user: str | None) -> Sizes | None:
    """What its jobs would be given; None where that is not known, as of runs from logs."""
    try:
        return await client.sizes(pipeline, user=user)
    except ApiError as error:
        if error.status == 404:
            return None
        raise


def _write(directory: Path, name: str, data: bytes) -> Path:
    """Write a PNG under a name that is free."""
    safe = re.sub(r"[^\w.-]+", "_", name).strip(".") or "pipeline"
    number = 1
    while True:
        path = directory / (f"{safe}.png" if number == 1 else f"{safe}-{number}.png")
        try:
            with path.open("xb") as file:
                file.write(data)
        except FileExistsError:
            number += 1
        else:
            return path
