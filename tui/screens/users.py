"""Who uses the cluster: now, and over the last day."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar, NamedTuple

from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from retz.client.types import Aggregates, Event, User
from retz.model.resources import Resources

from .. import actions
from ..dialogs import Confirm
from ..page import Page
from ..text import amount, count, memory, printable
from ..widgets.bars import Message, TopLine
from ..widgets.table import Cell, Column, Table

DAY_S = 86_400
STEP_S = 300
SHARE_CELLS = 10
LIVE = ("QUEUED", "STARTING", "STARTED")


class Use(NamedTuple):
    """What one user holds, and held over the last day.

    Attributes:
        now: Mean of the latest minutes.
        cpu_h, mem_gib_h, gpu_h: Amounts times hours.
        share: Part of all cpu hours that were used.
        account: What administrators know of the user; None for everybody else.
    """

    user: str
    now: Resources
    cpu_h: float
    mem_gib_h: float
    gpu_h: float
    share: float
    account: User | None = None


def uses_of(found: Aggregates, now: float, accounts: Sequence[User] = ()) -> list[Use]:
    """One for each user who held something, most cpu hours first; then those of ``accounts`` who held nothing."""
    known = {account.key: account for account in accounts}
    hours = found.step_s / 3600
    sums: dict[str, list[float]] = {}
    for point in found.points:
        for user, held in point.by_user.items():
            each = sums.setdefault(user, [0.0, 0.0, 0.0])
            for index, value in enumerate((held.cpus, held.mem / 1024, held.gpus)):
                each[index] += value * hours
    whole = sum(point.used.cpus for point in found.points) * hours
    last = found.points[-1] if found.points else None
    recent = last is not None and now - last.time.timestamp() < 2 * found.step_s
    latest = last.by_user if last is not None and recent else {}
    uses = [
        Use(user, latest.get(user, Resources()), cpu, mem, gpu, cpu / whole if whole > 0 else 0.0, known.get(user))
        for user, (cpu, mem, gpu) in sums.items()
    ]
    uses += [Use(key, Resources(), 0.0, 0.0, 0.0, 0.0, known[key]) for key in known.keys() - sums.keys()]
    return sorted(uses, key=lambda use: (-use.cpu_h, use.user))


def _share(use: Use) -> Cell:
    full = round(use.share * SHARE_CELLS)
    return f"{'▓' * full}{'·' * (SHARE_CELLS - full)} {100 * use.share:3.0f}%", "used" if full else "dim"


def _hours(value: float) -> str:
    return count(round(value)) if value >= 100 else f"{value:.1f}"


def _gpus(use: Use) -> Cell:
    return amount(float(use.now.gpus)) if use.now.gpus else "", ""


def _info(use: Use) -> Cell:
    if use.account is None:
        return "", ""
    words = [printable(use.account.info), "admin" if use.account.admin else ""]
    return " ".join(
        filter(None, ["" if use.account.enabled else "DISABLED", *words])
    ), "" if use.account.enabled else "dim"


COLUMNS: Sequence[Column[Use]] = [
    Column("user", "USER", lambda use: (printable(use.user), ""), 14, flexible=True),
    Column("info", "INFO", _info, 10, flexible=True, drop=4),
    Column("cpus", "CPUS NOW", lambda use: (amount(round(use.now.cpus, 1)), ""), 9, right=True),
    Column("mem", "MEM NOW", lambda use: (memory(use.now.mem), ""), 8, right=True),
    Column("gpus", "GPUS NOW", _gpus, 8, right=True, drop=3),
    Column("cpu_h", "CPU·H 24H", lambda use: (_hours(use.cpu_h), ""), 10, right=True),
    Column("mem_h", "GIB·H 24H", lambda use: (_hours(use.mem_gib_h), ""), 10, right=True, drop=2),
    Column("gpu_h", "GPU·H 24H", lambda use: (_hours(use.gpu_h) if use.gpu_h else "", ""), 10, right=True, drop=1),
    Column("share", "SHARE OF CPUS", _share, SHARE_CELLS + 5),
]


class UsersPage(Page):
    """See the module's text."""

    crumb = "users"
    every_s = 5.0
    changing = frozenset({"admit"})

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("d", "admit", "disable", id="users.disable", tooltip="Keep the user out, or let them in again."),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._counts: dict[str, int] = {}
        self._asked = ""

    def content(self) -> ComposeResult:
        """The table, and a sentence."""
        table = Table[Use](COLUMNS, lambda use: use.user, id="users", empty="nobody held anything in the last 24 hours")
        table.add_class("ages")
        yield table
        yield Message(id="about")

    @property
    def table(self) -> Table[Use]:
        """The table."""
        return self.query_one("#users", Table)

    def summary(self) -> str:
        """How many."""
        number = self.table.total if self.is_mounted else 0
        when = "" if self.session.admin else " in the last 24 hours"
        return f"{number} {'user' if number == 1 else 'users'}{when}"

    def events(self, batch: list[Event]) -> None:
        """Minutes are recorded when they are over: only a new connection makes it load at once."""
        if any(event.kind == "reset" for event in batch):
            self.reload()

    def on_mount(self) -> None:
        """Once a minute."""
        self.set_interval(60.0, self.reload)

    async def load(self) -> None:
        """The last day until the moment that is looked at."""
        now = self.session.now() if self.retz.moment is None else self.retz.moment
        since, until = (datetime.fromtimestamp(each, UTC).isoformat() for each in (now - DAY_S, now))
        found = await self.session.client.aggregates(since.replace("+00:00", "Z"), until.replace("+00:00", "Z"), STEP_S)
        accounts = await self.session.client.users() if self.session.admin else ()
        uses = uses_of(found, now, accounts)
        self.table.show(0, uses, len(uses))
        self.query_one(TopLine).refresh()
        await self._count()

    async def _count(self) -> None:
        """How many jobs the selected user has."""
        use = self.table.selected
        self._asked = "" if use is None else use.user
        self._counts = {}
        if use is not None and self.retz.moment is None:
            mine: dict[str, Any] = {"user": use.user} if self.session.admin else {}
            self._counts = dict((await self.session.client.list(limit=1, **mine)).counts)
        self.say()

    def say(self) -> None:
        """The sentence about the selected user, and what this page cannot do."""
        whose = "" if self.session.admin else "You see yourself only: administrators see everybody.  "
        counts = [f"{count(self._counts.get(state, 0))} {state.lower()}" for state in LIVE if self._counts]
        about = f"{printable(self._asked)}: {', '.join(counts)}.  " if counts else ""
        rest = "'retz admin' makes users and gives new secrets." if self.session.admin else ""
        self.query_one("#about", Message).say(about + whose + rest)

    def on_table_moved(self, event: Table.Moved) -> None:
        """Another user is selected."""
        event.stop()
        use = self.table.selected
        if use is not None and use.user != self._asked:
            self.reload(now=True)

    async def on_table_opened(self, event: Table.Opened) -> None:
        """The user's jobs, in the queue."""
        event.stop()
        use = self.table.selected
        if use is not None:
            await self.retz.action_go("queue")
            await self.retz.command(f"filter user:{use.user}")

    def action_admit(self) -> None:
        """Keep the selected user out, or let them in again."""
        use = self.table.selected
        if use is not None and use.account is not None:
            actions.begin(self.retz, self._toggle(use.account))

    async def _toggle(self, account: User) -> None:
        verb = "disable" if account.enabled else "enable"
        note = "refused from this instant on; their jobs go on" if account.enabled else "they may sign requests again"
        lines = [f"{account.key}  {account.info}", "", note]
        if await self.retz.push_screen_wait(
            Confirm(f"{verb} {account.info or account.key}?", lines, f"{verb} the user")
        ):
            await self.session.client.change_user(account.key, enabled=not account.enabled)
            self.reload(now=True)
