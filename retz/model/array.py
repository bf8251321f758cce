"""Arrays: many tasks of one command in one record, and the arithmetic of their places, indices and ids.

The tasks of array 17 have *places* 0, 1, 2 ... and *indices* as their owner counts them (``1-1000:2``: 1, 3, 5 ...).
The task at a place has the job id ``17 + 1 + place``: the ids are set aside with the array's own, so that a task has
its id for ever without a record that says so.
"""

from __future__ import annotations

import re

from msgspec import Struct

MAX_TASKS = 1_000_000
MAX_INDEX = 2**31 - 1
_TEXT = re.compile(r"([0-9]{1,10})-([0-9]{1,10})((?:[%:][0-9]{1,10}){0,2})")
_HELP = "write FIRST-LAST, as 1-1000; %20 behind it for at most 20 at a time, :2 for every second index"


class Array(Struct, frozen=True, omit_defaults=True, gc=False):
    """What of an array has happened so far.

    Attributes:
        first, last, step: The indices.
        limit: At most so many tasks at a time; 0: as many as there is room for.
        next: All tasks at places below this have a record of their own (or had, before the archive).
        apart: Places from ``next`` on whose tasks have one too, because somebody changed just them.
        cut: Tasks from this place on that have no record never get one: the array was killed, or failed too often.
        finished, failed, killed: How many of those with a record ended so.
    """

    first: int
    last: int
    step: int = 1
    limit: int = 0
    next: int = 0
    apart: tuple[int, ...] = ()
    cut: int | None = None
    finished: int = 0
    failed: int = 0
    killed: int = 0

    @property
    def size(self) -> int:
        """How many tasks there are."""
        return (self.last - self.first) // self.step + 1

    @property
    def end(self) -> int:
        """The first place whose task will not be started for lack of a record; ``size`` unless cut."""
        return self.size if self.cut is None else self.cut

    @property
    def active(self) -> int:
        """Tasks with a record that have not ended: running, or queued again."""
        return self.next + len(self.apart) - self.finished - self.failed - self.killed

    @property
    def waiting(self) -> int:
        """Tasks that will get a record when there is room."""
        return max(0, self.end - self.next) - sum(place < self.end for place in self.apart)

    @property
    def dropped(self) -> int:
        """Tasks that will never start."""
        return self.size - self.next - len(self.apart) - self.waiting

    @property
    def over(self) -> bool:
        """Whether nothing of it can happen any more."""
        return self.active == 0 and self.waiting == 0

    def index_of(self, place: int) -> int:
        """The index of the task at a place."""
        return self.first + place * self.step

    def place_of(self, index: int) -> int | None:
        """The place of the task with an index; None if there is none."""
        place, rest = divmod(index - self.first, self.step)
        return place if rest == 0 and 0 <= place < self.size else None

    @property
    def text(self) -> str:
        """As people write it."""
        step = f":{self.step}" if self.step > 1 else ""
        return f"{self.first}-{self.last}{step}" + (f"%{self.limit}" if self.limit else "")


def parse_array(text: str) -> Array:
    """``1-1000``, ``1-1000%20``, ``0-99:3``, ``0-99:3%5``.

    Raises:
        ValueError: with a sentence for the user.
    """
    match = _TEXT.fullmatch(text.strip())
    extras = re.findall(r"([%:])(\d+)", match[3]) if match else []
    if match is None or len({sign for sign, _ in extras}) != len(extras):
        raise ValueError(f"{text[:40]!r} is no array; {_HELP}")
    more = {sign: int(number) for sign, number in extras}
    first, last, step = int(match[1]), int(match[2]), more.get(":", 1)
    if first > last:
        raise ValueError(f"{text[:40]!r} counts downwards; write {last}-{first}")
    if step < 1 or more.get("%", 1) < 1:
        raise ValueError(f"{text[:40]!r}: step and limit must be 1 or more; {_HELP}")
    if last > MAX_INDEX:
        raise ValueError(f"an index is at most {MAX_INDEX}, not {last}")
    array = Array(first, last, step, more.get("%", 0))
    if array.size > MAX_TASKS:
        raise ValueError(f"{array.size} tasks are too many for one array; at most {MAX_TASKS}, in several arrays")
    return array


def parse_task(text: str) -> tuple[int, int]:
    """``17_3`` or ``17[3]`` -> (17, 3): the task with index 3 of array 17.

    Raises:
        ValueError: if it is no such name.
    """
    match = re.fullmatch(r"([0-9]{1,15})(?:_([0-9]{1,10})|\[([0-9]{1,10})\])", text)
    if match is None:
        raise ValueError(f"{text[:40]!r} is no task of an array; write 17_3 for index 3 of array 17")
    return int(match[1]), int(match[2] or match[3])
