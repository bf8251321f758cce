"""The files of a job's sandbox; ``enter`` shows one in the job's page."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import ClassVar

from textual.app import ComposeResult

from retz.client import ApiError
from retz.client.types import FileEntry

from ..page import Page
from ..text import printable, size_text
from ..widgets.bars import Message
from ..widgets.table import Cell, Column, Table

GLYPHS = {"directory": "▸", "file": " ", "link": "→", "other": "?"}


def _modified(entry: FileEntry) -> Cell:
    if entry.mtime is None:
        return "", ""
    return datetime.fromtimestamp(entry.mtime.timestamp()).strftime("%Y-%m-%d %H:%M:%S"), "dim"


COLUMNS: list[Column[FileEntry]] = [
    Column("type", "", lambda entry: (GLYPHS[entry.type], "dim"), 1),
    Column("name", "NAME", lambda e: (printable(e.name or e.path) + "/" * (e.type == "directory"), ""), 20,
           flexible=True),
    Column("size", "SIZE", lambda e: (size_text(e.size) if e.type == "file" else "", ""), 8, right=True),
    Column("modified", "MODIFIED", _modified, 19, drop=3),
    Column("mode", "MODE", lambda entry: (printable(entry.mode), "dim"), 10, drop=2),
    Column("owner", "OWNER", lambda entry: (printable(entry.uid), "dim"), 10, drop=1),
]  # fmt: skip


class FilesPage(Page):
    """One directory of the sandbox of one attempt.

    Args:
        take: Called with the path of the file that the user wants to see.
    """

    crumb: ClassVar[str] = "files"
    every_s: ClassVar[float] = 1.0

    def __init__(self, job_id: int, attempt: int | None, take: Callable[[str], None]) -> None:
        super().__init__()
        self.job_id = job_id
        self.attempt = attempt
        self.path = ""
        self._take = take

    def title_text(self) -> str:
        """Where in the sandbox."""
        return f"files {printable(self.path)}".rstrip()

    def content(self) -> ComposeResult:
        """The list, and what is wrong with it."""
        yield Table[FileEntry](COLUMNS, lambda entry: entry.path, id="files", empty="no files here")
        yield Message(id="trouble")

    @property
    def table(self) -> Table[FileEntry]:
        """The list."""
        return self.query_one("#files", Table)

    async def load(self) -> None:
        """The directory."""
        trouble = "enter shows a file, esc leads back to the job"
        entries: tuple[FileEntry, ...] = ()
        try:
            entries = await self.session.client.files(self.job_id, self.path, attempt=self.attempt)
        except ApiError as error:
            trouble = error.detail
        entries = tuple(sorted(entries, key=lambda entry: (entry.type != "directory", entry.name)))
        self.table.show(0, entries, len(entries))
        self.query_one("#trouble", Message).say(printable(trouble))

    def escape(self) -> bool:
        """To the directory above."""
        if not self.path:
            return False
        self._enter(self.path.rpartition("/")[0])
        return True

    def on_table_wanted(self, event: Table.Wanted) -> None:
        """All rows are there."""
        event.stop()

    def on_table_opened(self, event: Table.Opened) -> None:
        """Into the directory, or show the file."""
        event.stop()
        entry = self.table.selected
        if entry is None:
            return
        if entry.type == "directory":
            self._enter(entry.path)
        elif entry.type == "file":
            self._take(entry.path)
            self.retz.pop_screen()  # awaited it would wait for this very handler
        else:
            self.notify("only files can be shown: links may lead out of the sandbox", severity="warning")

    def _enter(self, path: str) -> None:
        self.path = path
        self.table.action_first()
        self.reload(now=True)
