"""The table that draws only what is seen."""

from __future__ import annotations

import asyncio

import pytest
from textual.app import App, ComposeResult

from tests.tui_frames import frame
from tui.widgets.table import Column, Table


class Shown(App[None]):
    """A table of a million numbers, of which only a window is ever asked for."""

    def __init__(self, total: int = 1_000_000) -> None:
        super().__init__()
        self.rows = total
        self.asked: list[tuple[int, int]] = []
        self.opened = 0
        self.heads: list[str] = []

        self.table = Table[int](
            [
                Column("number", "NUMBER", lambda row: (str(row), ""), 10, right=True, sort="id"),
                Column("word", "WORD", lambda row: (f"row {row}", ""), 8, flexible=True),
                Column("extra", "EXTRA", lambda row: ("x" * 20, ""), 20, drop=1),
            ],
            lambda row: row,
            empty="nothing here",
        )

    def compose(self) -> ComposeResult:
        yield self.table

    def on_table_wanted(self, event: Table.Wanted) -> None:
        self.asked.append((event.first, event.count))
        last = min(self.rows, event.first + event.count)
        self.table.show(event.first, range(event.first, last), self.rows)

    def on_table_opened(self) -> None:
        self.opened += 1

    def on_table_head_clicked(self, event: Table.HeadClicked) -> None:
        self.heads.append(event.column.key)


def in_window(app: Shown, *keys: str, size: tuple[int, int] = (60, 12)) -> str:
    """The frame after some keys."""

    async def run() -> str:
        async with app.run_test(size=size) as pilot:
            app.table.focus()
            await pilot.press(*keys)
            await pilot.pause()
            return frame(app)

    return asyncio.run(run())


def test_the_end_of_a_million_rows() -> None:
    app = Shown()
    lines = in_window(app, "end").splitlines()
    assert lines[-1].split()[:2] == ["▌", "999999"]
    assert max(count for _, count in app.asked) < 50


@pytest.mark.parametrize(("keys", "cursor"), [("jjk", 1), ("G", 999_999), ("Gg", 0), ("k", 0)])
def test_vim_keys(keys: str, cursor: int) -> None:
    app = Shown()
    in_window(app, *keys)
    assert app.table.cursor == cursor


def test_columns_leave_a_narrow_screen() -> None:
    assert "EXTRA" in in_window(Shown(3), size=(60, 8))
    assert "EXTRA" not in in_window(Shown(3), size=(30, 8))


def test_marks() -> None:
    app = Shown(5)
    text = in_window(app, "space", "down", "space")
    assert set(app.table.marked) == {0, 2}
    assert text.count("◆") == 2
    assert app.table.unmark()
    assert not app.table.unmark()


def test_an_empty_list_says_so() -> None:
    assert "nothing here" in in_window(Shown(0))


def test_the_cursor_stays_on_its_row_when_others_come() -> None:
    async def run() -> tuple[int, int | None]:
        app = Shown(30)
        async with app.run_test(size=(60, 12)) as pilot:
            app.table.focus()
            await pilot.press("down", "down")
            app.table.show(0, [100, 101, *range(30)], 32)
            return app.table.cursor, app.table.selected

    assert asyncio.run(run()) == (4, 2)


def test_mouse() -> None:
    async def run() -> Shown:
        app = Shown(30)
        async with app.run_test(size=(60, 12)) as pilot:
            await pilot.click(Table, offset=(5, 0))
            await pilot.click(Table, offset=(15, 3))
            await pilot.click(Table, offset=(15, 3), times=2)
            await pilot.pause()
            return app

    app = asyncio.run(run())
    assert app.heads == ["number"]
    assert app.table.cursor == 2
    assert app.opened == 1


def test_only_what_changed_is_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> list[tuple[int, int]]:
        app = Shown(30)
        async with app.run_test(size=(60, 12)) as pilot:
            await pilot.pause()
            drawn: list[tuple[int, int]] = []
            table = app.table
            monkeypatch.setattr(table, "refresh", lambda *regions, **_: drawn.extend((r.y, r.width) for r in regions))
            table.show(0, list(range(30)), 30)
            assert drawn == []
            table.show(0, [0, 1, 22, *range(3, 30)], 30)
            return drawn

    drawn = asyncio.run(run())
    assert {y for y, _ in drawn} == {3}
    assert all(width < 60 for _, width in drawn)
