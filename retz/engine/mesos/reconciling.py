"""How fast the master is asked about tasks: explicit questions in batches, then all that it knows of (implicitly).

Every ten minutes the same again: implicitly, then explicitly, for what it forgot the master tells only if asked.

The master answers each question by a status update and never says that it has answered all. After a restart it may
be silent for minutes about agents that are not back yet: silence is asked again, never believed.
Pure: ``now`` is monotonic seconds.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Iterator

from msgspec import Struct

from .wire import TaskRef

BATCH = 1_000
"""Questions in one call."""

BATCH_WAIT_S = 2.0
"""The next batch follows when nine tenths of the last are answered, or after so long."""

AGAIN_S = 5.0
AGAIN_MOST_S = 300.0
"""An unanswered question is asked again after so long, then twice as long, and so on up to the most."""

IMPLICIT_EVERY_S = 600.0


def _none() -> float:
    return 0.0


class _Question(Struct, gc=False):
    """An open question.

    Attributes:
        batch: In which it was asked last.
        pause, at: How long it waits for an answer now, and until when.
    """

    task: TaskRef
    batch: int
    pause: float
    at: float


class Reconciler:
    """Which questions are due.

    Args:
        jitter: Seconds to add to the time until the next implicit question, so that not all frameworks ask at once.
        everything: All tasks, to be asked for now and then.
    """

    def __init__(
        self, jitter: Callable[[], float] = _none, everything: Callable[[], Iterable[TaskRef]] = tuple
    ) -> None:
        self._jitter = jitter
        self._everything = everything
        self._rounds = 0
        self._fresh: deque[Iterator[TaskRef]] = deque()
        self._asked: dict[str, _Question] = {}
        self._again: list[tuple[float, str]] = []
        self._implicit_at: float | None = None
        self._batch = 0
        self._size = 0
        self._left = 0
        self._next_at = 0.0

    @property
    def open(self) -> bool:
        """Whether the next batch may be due any moment; what else comes is a matter of seconds."""
        return bool(self._fresh) or self._left > 0

    def start(self, tasks: Iterable[TaskRef], now: float) -> None:
        """Ask about these tasks too. ``tasks`` is iterated as far as the questions go out.

        The first time after :meth:`stop` (a subscription), all tasks are asked for behind them.
        """
        self._fresh.append(iter(tasks))
        if self._implicit_at is None:
            self._implicit_at = now

    def stop(self) -> None:
        """Forget all questions: there is nobody to ask."""
        self._fresh.clear()
        self._asked.clear()
        self._again.clear()
        self._implicit_at = None
        self._rounds = 0
        self._left = 0

    def answered(self, task: str) -> None:
        """A status of this task came, whichever."""
        question = self._asked.pop(task, None)
        if question is not None and question.batch == self._batch:
            self._left -= 1

    def due(self, now: float) -> list[TaskRef] | None:
        """What to ask now: these tasks; all of them (implicitly), if the list is empty; nothing, if None."""
        if now < self._next_at and self._left * 10 > self._size:
            return None
        self._left = 0
        tasks = self._take(now)
        if tasks:
            return self._ask(tasks, now)
        if self._implicit_at is None or now < self._implicit_at:
            return None
        self._implicit_at = now + IMPLICIT_EVERY_S + self._jitter()
        self._rounds += 1
        if self._rounds > 1:  # the first follows right behind questions about all
            self._fresh.append(iter(self._everything()))
        return []

    def _take(self, now: float) -> list[_Question]:
        """A batch: what was not asked yet, then what is to be asked again."""
        questions: list[_Question] = []
        while self._fresh and len(questions) < BATCH:
            task = next(self._fresh[0], None)
            if task is None:
                self._fresh.popleft()
            elif task.task not in self._asked:
                question = self._asked[task.task] = _Question(task, 0, AGAIN_S, 0.0)
                questions.append(question)
        while self._again and self._again[0][0] <= now and len(questions) < BATCH:
            at, name = heapq.heappop(self._again)
            asked = self._asked.get(name)
            if asked is not None and asked.at == at:
                asked.pause = min(asked.pause * 2, AGAIN_MOST_S)
                questions.append(asked)
        return questions

    def _ask(self, questions: list[_Question], now: float) -> list[TaskRef]:
        self._batch += 1
        self._size = self._left = len(questions)
        self._next_at = now + BATCH_WAIT_S
        for question in questions:
            question.batch = self._batch
            question.at = now + question.pause
            heapq.heappush(self._again, (question.at, question.task.task))
        return [question.task for question in questions]
