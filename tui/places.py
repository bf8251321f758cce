"""The screens one can go to, each imported when it is first seen: the skyline screen brings numbers along."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from .page import Page


class Place(NamedTuple):
    """One screen.

    Attributes:
        key: The number that leads there.
        path: ``module:class``.
        words: What else one may type after ``:``.
    """

    name: str
    key: str
    path: str
    text: str
    words: tuple[str, ...] = ()

    @property
    def help(self) -> str:
        """Name and text."""
        return f"{self.name.capitalize()}: {self.text}."

    def make(self) -> Page:
        """A new page."""
        module, _, name = self.path.partition(":")
        page: Page = getattr(import_module(module), name)()
        return page


PLACES = (
    Place("queue", "1", "tui.screens.queue:QueuePage", "every job, live", ("jobs",)),
    Place("job", "2", "tui.screens.job:JobPage", "the job last looked at: everything about it, its output"),
    Place(
        "agents", "3", "tui.screens.agents:AgentsPage", "every machine: what is held and used", ("nodes", "machines")
    ),
    Place("gpus", "4", "tui.screens.gpus:GpusPage", "every GPU: who holds it, what it does"),
    Place("skylines", "5", "tui.screens.skylines:SkylinesPage", "pipelines, and what their next runs will need"),
    Place(
        "cluster", "6", "tui.screens.cluster:ClusterPage", "use, waiting and throughput over time; rewind", ("pulse",)
    ),
    Place("users", "7", "tui.screens.users:UsersPage", "who uses how much, now and over the day"),
)
