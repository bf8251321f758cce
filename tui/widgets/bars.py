"""The line on top, which says where one is and whether it is live, and the line of keys."""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING, ClassVar, cast

from rich.segment import Segment
from textual.strip import Strip
from textual.widget import Widget

from ..text import duration, fit, printable, width_of
from .paint import STYLES, Painted

if TYPE_CHECKING:
    from ..app import RetzApp
    from ..page import Page


class Line(Painted):
    """One line that draws itself from (text, style name) pairs on the left and on the right."""

    COMPONENT_CLASSES: ClassVar[set[str]] = STYLES

    def parts(self) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
        """What stands left and right."""
        raise NotImplementedError

    def render_line(self, y: int) -> Strip:
        """Draw it: the right part wins where there is no room for both."""
        left, right = self.parts()
        width = self.size.width
        room = max(0, width - sum(width_of(text) for text, _ in right))
        segments = []
        for text, name in left:
            shown = fit(text, min(room, width_of(text)))
            room -= width_of(shown)
            segments.append(Segment(shown, self.paint("base") + self.paint(name)))
        segments.append(Segment(" " * room, self.paint("base")))
        segments += [Segment(text, self.paint("base") + self.paint(name)) for text, name in right]
        return Strip(segments).crop(0, width)


class TopLine(Line):
    """Breadcrumb, the page's own summary, whether what is shown is live, the server's time."""

    def on_mount(self) -> None:
        """The clock."""
        self.set_interval(1.0, self.refresh)

    def parts(self) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
        """See the class."""
        app, page = cast("RetzApp", self.app), cast("Page", self.screen)
        session = app.session
        left = [(" retz", "bold")]
        for each in app.pages:
            left += [(" ▸ ", "dim"), (each.title_text(), "bold" if each is page else "dim")]
        left.append((f"   {page.summary()}", "dim"))
        link = {"live": ("● live", "good"), "lost": ("✘ lost", "bad"), "connecting": ("◌ connecting", "warn")}
        clock = datetime.fromtimestamp(session.now()).strftime("%H:%M:%S")
        right = [
            ("  ", ""),
            *([("read-only  ", "warn")] if app.readonly else []),
            *(_rewound(app.moment, session.now()) if app.moment is not None else [link[session.link]]),
            (f"  {clock} ", "dim"),
        ]
        return left, right


def _rewound(moment: float, now: float) -> list[tuple[str, str]]:
    """``◀ rewound to 09:41:00 (−4:23:00) · R live``; with the day unless it is today's."""
    then = datetime.fromtimestamp(moment)
    day = "" if then.date() == datetime.fromtimestamp(now).date() else f"{then:%m-%d} "
    return [(f"◀ rewound to {day}{then:%H:%M:%S}", "accent"), (f" (−{duration(now - moment)}) · R live", "dim")]


class Banner(Line):
    """What is wrong with the connection or the server; not there while nothing is."""

    def on_mount(self) -> None:
        """Hidden at first; its seconds count."""
        self.display = False
        self.set_interval(1.0, self.refresh)

    def update(self) -> None:
        """The connection or the server's state changed."""
        session = cast("RetzApp", self.app).session
        self.display = session.link == "lost" or bool(session.warning)
        self.refresh()

    def parts(self) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
        """See :class:`Line`."""
        session = cast("RetzApp", self.app).session
        if session.warning:
            return [(" ▲ ", "warn"), (printable(session.warning), "warn")], []
        left = [(" ✘ ", "bad"), (printable(session.trouble), "bad")]
        return left, [(f"  for {duration(time.time() - session.lost_at)}: trying again, what you see is old ", "bad")]


class KeyBar(Line):
    """The keys that work here and now, from the real bindings: as many as there is room for, help always."""

    ALWAYS: ClassVar[tuple[str, ...]] = ("help", "command_line", "quit")

    def on_mount(self) -> None:
        """The keys change with the focus."""
        self.screen.bindings_updated_signal.subscribe(self, lambda _: self.refresh())

    def parts(self) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
        """See :class:`Line`."""
        keys = self._keys()
        right = [part for action in self.ALWAYS if action in keys for part in keys.pop(action)]
        room = self.size.width - 1 - sum(width_of(text) for text, _ in right)
        left = [(" ", "")]
        for pair in keys.values():
            room -= sum(width_of(text) for text, _ in pair)
            if room >= 0:
                left += pair
        places = self._places()
        return left, [*places, *right] if room >= sum(width_of(text) for text, _ in places) else right

    def _places(self) -> list[tuple[str, str]]:
        """``1-7 screens``: the keys that lead to them, from the first to the last."""
        ways = [each.binding for each in self.screen.active_bindings.values() if each.binding.action.startswith("go(")]
        keys = [self.app.get_key_display(way) for way in ways]
        return [(f"{keys[0]}-{keys[-1]}", "bold"), (" screens  ", "dim")] if keys else []

    def _keys(self) -> dict[str, list[tuple[str, str]]]:
        """Action -> its key and what it does."""
        keys: dict[str, list[tuple[str, str]]] = {}
        for active in self.screen.active_bindings.values():
            binding = active.binding
            if binding.show and active.enabled and binding.description and binding.action not in keys:
                shown = self.app.get_key_display(binding)
                keys[binding.action] = [(shown, "bold"), (f" {binding.description}  ", "dim")]
        return keys


class Message(Widget):
    """A line of text under a table: the sentence about the selected row."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.text = ""

    def say(self, text: str) -> None:
        """Show a text."""
        if text != self.text:
            self.text = text
            self.refresh(layout=True)

    def render(self) -> str:
        """Draw it."""
        return self.text.replace("[", r"\[")
