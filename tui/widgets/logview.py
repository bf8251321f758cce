"""The text of a remote file: draws the rows on the screen, and fetches just the bytes they need."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events, work
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.reactive import reactive
from textual.strip import Strip

from retz.client import ApiError, RetzError

from ..logfile import BLOCK, LogWindow, Missing, Row, cells, slice_cells
from ..logsearch import Read, Search, Tell, line_start
from ..text import printable
from .paint import STYLES, Painted

GROUP = 8
"""Blocks fetched at a time."""
TAIL = 4 * BLOCK
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 2.0
"""Between two looks whether the file has grown: soon after it did, seldom when it is quiet."""
QUEUED = 64
"""Moves that wait for bytes; a key held down for longer than that is no wish to go on for ever."""
SIDE_STEP = 16


class LogView(Painted, can_focus=True):
    """See the module's text.

    Attributes:
        live: Whether the file may still grow.
        follow: Whether the end is kept in sight.
        note: What to tell about a search or a jump.
    """

    COMPONENT_CLASSES: ClassVar[set[str]] = STYLES

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "scroll_rows(-1)", "up", show=False, id="log.up"),
        Binding("down,j", "scroll_rows(1)", "down", show=False, id="log.down"),
        Binding("pageup,ctrl+b", "scroll_pages(-1.0)", "page up", show=False, id="log.page_up"),
        Binding("pagedown,ctrl+f,space", "scroll_pages(1.0)", "page down", show=False, id="log.page_down"),
        Binding("ctrl+u", "scroll_pages(-0.5)", "half a page up", show=False, id="log.half_up"),
        Binding("ctrl+d", "scroll_pages(0.5)", "half a page down", show=False, id="log.half_down"),
        Binding("home,g", "start", "start", show=False, id="log.start"),
        Binding("end,G", "end", "end", show=False, id="log.end"),
        Binding("left", "side(-1)", "left", show=False, id="log.left"),
        Binding("right", "side(1)", "right", show=False, id="log.right"),
    ]

    follow: reactive[bool] = reactive(False, repaint=False)
    stale: reactive[bool] = reactive(False)

    class Changed(Message):
        """What it shows, or says of itself, changed."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.window = LogWindow()
        self.live = False
        self.note = ""
        self.search: Search | None = None
        self._found: int | None = None
        self._left = 0
        self._rows: list[Row] = []
        self._message = ""
        self._read: Read | None = None
        self._opened = False
        self._moves: deque[Callable[[], None]] = deque(maxlen=QUEUED)
        self._need: int | None = None
        self._wake = asyncio.Event()

    # -- the file ------------------------------------------------------------------------------------------------

    def open(self, read: Read, *, live: bool) -> None:
        """Show another file, at its end."""
        wrap = self.window.wrap
        self.window = LogWindow()
        self.window.wrap = wrap
        self.window.resize(self.size.width, self.size.height)
        self.live = self.follow = live
        self._read, self._opened = read, False
        self._left, self._rows, self._found, self._need, self.note = 0, [], None, None, ""
        self._moves.clear()
        self.say("…")
        self._feeding(read)

    def close(self, text: str) -> None:
        """Show no file but a text."""
        self._read = None
        self.live = self.follow = False
        self.workers.cancel_group(self, "feed")
        self._rows = []
        self.say(text)

    def say(self, text: str) -> None:
        """Show a text in place of lines."""
        self._message = printable(text)
        self.refresh()
        self.post_message(self.Changed())

    @property
    def opened(self) -> bool:
        """Whether there is a file."""
        return self._read is not None

    def look(self) -> None:
        """Look now whether it has grown: something happened to the job."""
        self._wake.set()

    @work(exclusive=True, group="feed")
    async def _feeding(self, read: Read) -> None:
        pause = FIRST_PAUSE_S
        while True:
            self._wake.clear()
            lost = False
            try:
                grew = await self._feed(read)
                pause = FIRST_PAUSE_S if grew else min(1.5 * pause, LONGEST_PAUSE_S)
            except ApiError as error:
                self._refused(error)
                pause = LONGEST_PAUSE_S
            except RetzError:
                lost, pause = True, LONGEST_PAUSE_S  # the top of the screen tells that there is no connection
            if self._need is None or pause == LONGEST_PAUSE_S:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause if self.live or lost else None):
                        await self._wake.wait()

    async def _feed(self, read: Read) -> bool:
        """Fetch what is needed, or else what is new; whether that was anything."""
        size = self.window.blocks.size
        if not self._opened:
            got = await read(-TAIL, None)
            self._opened, self._message = True, ""
            self._moves.append(self.window.to_end)
        elif self._need is not None:
            first = self._need // GROUP * GROUP * BLOCK
            got = await read(first, GROUP * BLOCK)
            self._need = None
        else:
            got = await read(size, TAIL)
            if got.size != size and self.follow:
                self._moves.append(self.window.to_end)
        self.window.put(got.offset, got.data, got.size)
        self.settle()
        return bool(got.data) or got.size != size

    def _refused(self, error: ApiError) -> None:
        self._need = None
        self._moves.clear()
        if not self._opened:
            self.say(error.detail)

    # -- moving --------------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Make the moves that wait, as far as the bytes for them are there, and draw."""
        try:
            while self._moves:
                self._moves[0]()
                self._moves.popleft()
            self._rows = self.window.rows()
        except Missing as missing:
            self._need = missing.block
            self._wake.set()
        self.refresh()
        self.post_message(self.Changed())

    def move(self, how: Callable[[], None], *, follow: bool = False) -> None:
        """Move, as soon as the bytes are there."""
        self.follow = follow and self.live
        self._moves.append(how)
        self.settle()

    def action_scroll_rows(self, by: int) -> None:
        """Move by rows."""
        self.move(lambda: self.window.scroll(by), follow=by > 0 and self.follow)

    def action_scroll_pages(self, by: float) -> None:
        """Move by screens."""
        self.action_scroll_rows(round(by * max(1, self.size.height - 1)))

    def action_start(self) -> None:
        """To the start."""
        self.move(self.window.to_start)

    def action_end(self) -> None:
        """To the end, and stay there."""
        self.move(self.window.to_end, follow=True)

    def action_side(self, by: int) -> None:
        """Move sideways, where lines are not folded."""
        self._left = 0 if self.window.wrap else max(0, self._left + by * SIDE_STEP)
        self.refresh()

    def toggle_wrap(self) -> None:
        """Fold long lines, or do not."""
        self.window.wrap = not self.window.wrap
        self._left = 0
        start = self.window.top[0]
        self.move(self.window.to_end if self.follow else lambda: self.window.to(start), follow=self.follow)

    def toggle_follow(self) -> None:
        """Keep the end in sight, or do not."""
        if not self.live:
            self.tell("the job has ended: nothing more will be written")
        self.move(self.window.to_end, follow=not self.follow)

    def jump(self, where: str) -> None:
        """To ``50%``, to a line by its number, or to a byte (``@123456``). See :func:`wrong_jump`."""
        size = self.window.blocks.size
        if where.endswith("%"):
            share = min(100.0, float(where[:-1]))
            self.move(lambda: self.window.to(int(size * share / 100)))
        elif where.startswith("@"):
            self.move(lambda: self.window.to(int(where[1:])))
        else:
            self._go_where(lambda read, tell: line_start(read, int(where), tell), f"line {where}", above=0)

    # -- searching -----------------------------------------------------------------------------------------------

    def find(self, needle: str) -> None:
        """Look for a text from the top of the screen on."""
        self.search, self._found = Search(needle), None
        self.find_next(forward=True)

    def find_next(self, *, forward: bool) -> None:
        """The next place, down or up."""
        search, found, rows = self.search, self._found, self._rows
        if search is None:
            self.tell("nothing to look for: / asks for it")
            return
        if forward:
            start = found + 1 if found is not None else self.window.top[0]
            self._go_where(lambda read, tell: search.forward(read, start, tell), search.needle, mark=True)
        else:
            before = found if found is not None else (rows[-1].end if rows else 0)
            self._go_where(lambda read, tell: search.backward(read, before, tell), search.needle, mark=True)

    @property
    def busy(self) -> bool:
        """Whether it is looking for something."""
        return any(worker.group == "search" and worker.is_running for worker in self.workers)

    def cancel(self) -> bool:
        """Stop looking, or forget what was looked for; whether there was anything."""
        had = self.busy or self.search is not None
        self.workers.cancel_group(self, "search")
        self.search = self._found = None
        self.tell("")
        return had

    @work(exclusive=True, group="search")
    async def _go_where(
        self, where: Callable[[Read, Tell], Awaitable[int | None]], what: str, *, above: int = 3, mark: bool = False
    ) -> None:
        if self._read is None:
            return
        try:
            place = await where(self._read, lambda at: self._progress(what, at))
        except RetzError as error:
            self.tell(str(error))
            return
        if place is None:
            self.tell(f"{what} is not there" if not mark else f"no more {what!r} that way")
            return
        self.tell("")
        if mark:
            self._found = place
        shown = any(row.start <= place < row.end for row in self._rows[above:])
        self.move((lambda: None) if shown and mark else lambda: self.window.to(place, above))

    def _progress(self, what: str, at: int) -> None:
        size = max(1, self.window.blocks.size)
        self.tell(f"looking for {what}: {100 * min(at, size) // size} %, esc stops")

    def tell(self, note: str) -> None:
        """Say something above the text."""
        self.note = printable(note)
        self.refresh()
        self.post_message(self.Changed())

    @property
    def share(self) -> int:
        """How far down the lowest row is, in per cent of the file."""
        size = self.window.blocks.size
        return 100 * self._rows[-1].end // size if self._rows and size else 100

    # -- drawing -------------------------------------------------------------------------------------------------

    def render_line(self, y: int) -> Strip:
        """One row."""
        width = self.size.width
        base = self.paint("base") + (self.paint("dim") if self.stale else Style())
        if self._message or not self._rows:
            text = self._message or ("nothing written yet" if self.live else "nothing was written")
            return Strip([Segment(slice_cells(f" {text}" if y == 0 else "", 0, width), base + self.paint("dim"))])
        if y >= len(self._rows):
            return Strip([Segment(" " * width, base)])
        row = self._rows[y]
        if not row.text.isascii():  # what is far off the screen is not measured: lines have up to 32 KiB
            row = row._replace(text=row.text[: 2 * (self._left + width)])
        strip = Strip(self._segments(row, base)).crop(0, width)
        if not self.window.wrap and cells(row.text) > self._left + width:
            return Strip([*strip.crop(0, width - 1), Segment("›", base + self.paint("dim"))])
        return strip

    def _segments(self, row: Row, base: Style) -> list[Segment]:
        """The row's visible cells, what was looked for marked."""
        places = self.search.places(row.text) if self.search is not None else []
        here = self._found is not None and row.start <= self._found < row.end
        mark = base + self.paint("cursor" if here else "match")
        segments, at, column, left, width = [], 0, 0, self._left, self.size.width
        for begin, end, style in [*((b, e, mark) for b, e in places), (len(row.text), len(row.text), base)]:
            for text, look in ((row.text[at:begin], base), (row.text[begin:end], style)):
                size = cells(text)
                first, last = max(left - column, 0), min(size, left + width - column)
                if last > first:
                    segments.append(Segment(slice_cells(text, first, last - first), look))
                column += size
            at = end
        drawn = sum(cells(segment.text) for segment in segments)
        return [*segments, Segment(" " * max(0, width - drawn), base)]

    def on_resize(self, event: events.Resize) -> None:
        """Another size shows other rows."""
        start, follow = self.window.top[0], self.follow or (self._opened and self.share == 100)
        self.window.resize(self.size.width, self.size.height)  # the event tells it with the padding
        if self._opened:
            self.move(self.window.to_end if follow else lambda: self.window.to(start), follow=self.follow)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """The wheel."""
        event.stop()
        self.action_scroll_rows(-3)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """The wheel."""
        event.stop()
        self.action_scroll_rows(3)


def wrong_jump(where: str) -> str:
    """What is wrong with a place to jump to; empty if nothing is."""
    number = where.removesuffix("%") if where.endswith("%") else where.removeprefix("@")
    try:
        good = number.isascii() and (float(number) >= 0 if where.endswith("%") else number.isdecimal())
    except ValueError:
        good = False
    if not good or (number == "0" and not where.endswith("%") and not where.startswith("@")):
        return "50% of the file, 1200 for that line, or @65536 for that byte"
    return ""
