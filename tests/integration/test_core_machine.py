"""A state machine over life cycle and store against a simple model; a crash is one of its steps.

The model knows only what was acknowledged: to a client (an awaited call returned) or to the engine (an update
was acknowledged). After every recovery each of these facts must hold, no ended job may be live again, nothing
may run that the queue does not know, and no attempt may ever be launched twice.
"""

from __future__ import annotations

import asyncio
import itertools
import shutil
import tempfile
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from retz.config_server import load_server
from retz.engine.base import Assignment, KnownTask, Listener, Task, Update
from retz.model.agent import Agent, Offer
from retz.model.container import Container
from retz.model.job import ENDED_STATES, RUNNING_STATES, Job, Usage, parse_task_id
from retz.model.resources import Resources, Vector, subtract
from retz.model.submission import JobSpec, ResourcesSpec
from retz.model.user import User
from retz.scheduler.scheduler import Scheduler
from retz.server.core import Core
from retz.server.housekeeping import Housekeeping
from retz.server.submitting import SLICE
from retz.store.aggregates import AggregateStore
from retz.store.archive import Archive
from retz.store.database import Database, StoreOptions
from retz.store.files import FileLayer
from tests.doubles.powerloss import RecordingFiles, Survival, after_power_loss

ANN = User(key="ann", secret="s", admin=True)
TOTAL = Resources(3, 3)
BULK = SLICE + 3
T = TypeVar("T")


INDEX = st.integers(0, 11)
"""What it picks depends on what survived, which is not hypothesis's to know."""


def _pick(things: Sequence[T], which: int) -> T | None:
    return things[which % len(things)] if things else None


class Machines:
    """What runs, whatever becomes of the server: the world outside.

    Attributes:
        launched: Every attempt ever started.
        live: Tasks that run.
        told: Updates that nobody acknowledged yet.
        kills: Kill requests that arrived.
    """

    def __init__(self) -> None:
        self.launched: dict[str, Task] = {}
        self.live: dict[str, Task] = {}
        self.told: dict[int, Update] = {}
        self.acknowledged: dict[str, Update] = {}
        self.kills: set[str] = set()
        self.numbers = itertools.count(1)


class Puppet:
    """The engine of one life of the server; deaf and dumb once that life is over."""

    name = "puppet"
    honours: frozenset[str] = frozenset()
    shared = False
    master: str | None = None

    def __init__(self, world: Machines) -> None:
        self.world = world
        self.dead = False
        self._listener: Listener
        self._claimed: dict[str, Vector] = {}
        self._offers = itertools.count(1)
        self._offer: Offer | None = None

    async def start(self, listener: Listener, known: Sequence[KnownTask]) -> None:
        self._listener = listener
        names = {task.id for task in known}
        unknown = set(self.world.live) - names - {update.task for update in self.world.told.values()}
        assert not unknown, f"running, and the queue does not know it: {unknown}"
        for task in known:
            if task.id not in self.world.launched:
                listener.updates([Update(seq=0, task=task.id, kind="not_started", at=1.0)])
            elif task.id in self.world.live:
                listener.updates([Update(seq=0, task=task.id, kind="started", at=1.0)])
                if task.kill:
                    self.world.kills.add(task.id)
        for update in list(self.world.told.values()):
            listener.updates([update])
        self.make_offer()

    async def stop(self) -> None:
        self.dead = True

    def agents(self) -> Sequence[Agent]:
        return [Agent(id="a", host="a", total=TOTAL)]

    async def refusal(self, container: Container) -> str | None:
        return None

    def assign(self, offer: Offer, resources: Resources, taken: Assignment) -> Assignment | None:
        if self._offer is not None and self._offer.id == offer.id:
            self._offer = None
        self._claimed[offer.id] = offer.room
        return Assignment()

    def launch(self, offer: Offer, tasks: Sequence[Task]) -> None:
        if self.dead:
            return
        self._claimed.pop(offer.id, None)
        for task in tasks:
            assert task.id not in self.world.launched, f"{task.id} is launched a second time"
            self.world.launched[task.id] = self.world.live[task.id] = task
        self.make_offer()

    def make_offer(self) -> None:
        room = TOTAL.vector
        for held in [*(task.resources.vector for task in self.world.live.values()), *self._claimed.values()]:
            room = subtract(room, held)
        assert min(room) >= 0, "more was given away than there is"
        if self._offer is not None:
            self._listener.rescinded([self._offer.id])
        self._offer = Offer(id=f"o{next(self._offers)}-{id(self)}", agent="a", room=room)
        self._listener.offers([self._offer])

    def decline(self, offer_ids: Sequence[str]) -> None:
        return

    def revive(self) -> None:
        return

    def suppress(self) -> None:
        return

    def kill(self, task_id: str, grace_s: float) -> None:
        if not self.dead:
            self.world.kills.add(task_id)

    def acknowledge(self, seqs: Sequence[int]) -> None:
        for seq in () if self.dead else seqs:
            if update := self.world.told.pop(seq, None):
                self.world.acknowledged[update.task] = update

    async def usage(self, task_ids: Sequence[str], *, series: bool = True) -> dict[str, Usage]:
        return {}

    async def list_files(self, task_id: str, path: str, agent: str = "") -> list[Any]:
        raise FileNotFoundError(task_id)

    async def open_file(self, task_id: str, path: str, agent: str = "") -> Any:
        raise FileNotFoundError(task_id)

    def collect(self, task_ids: Sequence[str]) -> None:
        return

    def tell(self, update: Update) -> None:
        """News from the world; what has a number is told until it is acknowledged."""
        if update.seq:
            self.world.told[update.seq] = update
        if update.kind != "started":
            self.world.live.pop(update.task, None)
        self._listener.updates([update])
        if update.kind != "started":
            self.make_offer()


@dataclass
class Fact:
    """What was acknowledged about a job. None: nothing is certain."""

    priority: int | None = 0
    held: bool | None = False
    kill_maybe: bool = False
    killed: bool = False
    final: Job | None = None


class QueueMachine(RuleBasedStateMachine):
    """Lives on a real disk and dies of ``kill -9``: whatever was written is there."""

    OPTIONS: ClassVar = StoreOptions()

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="retz-machine-"))
        self.lives = itertools.count(1)
        self.world = Machines()
        self.facts: dict[int, Fact] = {}
        self.keys: dict[str, tuple[int, list[int]]] = {}
        self.pending: tuple[str, int] | None = None
        self.maybe: set[int] = set()
        self.directory = self.root / "0"
        self.directory.mkdir()
        self.key_numbers = itertools.count(1)

    def make_files(self) -> FileLayer:
        return FileLayer()

    def open(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.files = self.make_files()
        self.db = Database.open(self.directory, files=self.files, options=self.OPTIONS)
        self.archive = Archive.open(self.directory / "archive", files=self.files)
        self.db.reserve_above(self.archive.max_id)
        self.db.attach(self.loop)
        self.engine = Puppet(self.world)
        self.core = Core(
            db=self.db,
            archive=self.archive,
            aggregates=AggregateStore(self.root / "aggregates"),
            scheduler=Scheduler(),
            engine=self.engine,
            config=load_server({"retz.data-dir": str(self.directory)}, environ={"HOME": str(self.root)}),
            clock=time.time,
        )

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Do it, then let everything that follows from it happen."""

        async def settle() -> Any:
            result = await work
            for _ in range(3):
                await self.core.settled()
                await asyncio.sleep(0)
            return result

        return self.loop.run_until_complete(asyncio.wait_for(settle(), 20))

    @initialize()
    def begin(self) -> None:
        self.open()
        self.run(self.core.start())

    # -- clients ---------------------------------------------------------------------------------------

    def specs(self, count: int, held: bool, retries: int) -> list[JobSpec]:
        needs = ResourcesSpec(cpus=1, mem=1)
        return [JobSpec(command="x", resources=needs, held=held, max_retries=retries) for _ in range(count)]

    def accepted(self, ids: Sequence[int], held: bool) -> None:
        again = set(ids) & set(self.facts)
        assert not again, f"ids were given twice: {again}"
        self.facts.update({number: Fact(held=held) for number in ids})

    @rule(count=st.sampled_from([1, 1, 1, 2, BULK]), held=st.booleans(), retries=st.integers(0, 2))
    def submit(self, count: int, held: bool, retries: int) -> None:
        key = f"k{next(self.key_numbers)}"
        ids, replayed = self.run(self.core.submissions.submit(ANN, self.specs(count, held, retries), key, str(count)))
        assert not replayed
        self.accepted(ids, held)
        self.keys[key] = (count, list(ids))

    @rule(which=INDEX)
    def submit_again(self, which: int) -> None:
        key = _pick(sorted(self.keys), which)
        if key is None:
            return
        count, known = self.keys[key]
        ids, replayed = self.run(self.core.submissions.submit(ANN, self.specs(count, False, 0), key, str(count)))
        assert (list(ids), replayed) == (known, True)

    def some(self, which: int) -> int | None:
        # The newest are the interesting ones; a bulk would hide them.
        return _pick(sorted(self.facts)[-12:], which)

    @rule(which=INDEX, action=st.sampled_from(["kill", "hold", "release", "update"]), priority=st.integers(-20, 19))
    def change(self, which: int, action: Any, priority: int) -> None:
        number = self.some(which)
        if number is None:
            return
        self.doubt(number, action)
        (result,) = self.run(self.core.actions.act(ANN, action, [number], priority=priority))
        self.believe(number, action, priority, result.ok)

    def doubt(self, number: int, action: str) -> None:
        fact = self.facts[number]
        if action == "kill":
            fact.kill_maybe = True
        elif action == "update":
            fact.priority = None
        else:
            fact.held = None

    def believe(self, number: int, action: str, priority: int, ok: bool) -> None:
        fact = self.facts[number]
        if ok and action == "kill":
            fact.killed = True
        elif ok and action == "update":
            fact.priority = priority
        elif ok:
            fact.held = action == "hold"

    # -- the world -----------------------------------------------------------------------------------------

    @rule(which=INDEX, kind=st.sampled_from(["started", "ended", "ended", "lost"]), code=st.integers(0, 2))
    def news(self, which: int, kind: Any, code: int) -> None:
        self.run(self.hear(which, kind, code))

    async def hear(self, which: int, kind: Any, code: int) -> None:
        task = _pick(sorted(self.world.live), which)
        if task is not None:
            self.engine.tell(self.update(task, kind, code))

    def update(self, task: str, kind: Any, code: int) -> Update:
        seq = 0 if kind == "started" else next(self.world.numbers)
        return Update(seq=seq, task=task, kind=kind, at=1.0, exit_code=code if kind == "ended" else None)

    @rule(which=INDEX)
    def old_news_again(self, which: int) -> None:
        task = _pick(sorted(self.world.acknowledged), which)
        if task is None:
            return
        before = self.core.find(parse_task_id(task)[0])
        self.run(self.tell_again(self.world.acknowledged[task]))
        after = self.core.find(parse_task_id(task)[0])
        assert before is not None and after is not None
        assert [a for a in after.attempts if a.number == parse_task_id(task)[1]] == [
            a for a in before.attempts if a.number == parse_task_id(task)[1]
        ]

    async def tell_again(self, update: Update) -> None:
        self.engine._listener.updates([update])

    # -- housekeeping, the end and the next life ------------------------------------------------------------

    @rule()
    def archive_ended(self) -> None:
        self.run(Housekeeping(self.core).archive_ended())

    @rule()
    def compact(self) -> None:
        self.merge()

    def merge(self) -> None:
        self.run(self.db.compact())

    @rule()
    def restart(self) -> None:
        self.run(self.core.stop())
        self.bury()
        self.recover()

    @rule(
        doing=st.sampled_from(["nothing", "submit", "bulk", "kill", "hold", "release", "ended", "lost", "archive"]),
        which=INDEX,
        turns=st.integers(0, 4),
        survival=st.sampled_from(["synced", "data", "names", "all"]),
        torn=st.sampled_from([None, 0, 1, 40]),
    )
    def crash(self, doing: str, which: int, turns: int, survival: Survival, torn: int | None) -> None:
        """The end comes while something is on its way: whether it happened is open, that it is whole is not."""
        task = self.loop.create_task(self.begin_something(doing, which))

        async def a_little() -> None:
            for _ in range(turns):
                await asyncio.sleep(0)

        self.loop.run_until_complete(a_little())
        self.engine.dead = True
        if self.pending is not None and task.done():
            self.accepted_late(task.result()[0])
        self.take_what_is_left(survival, torn)
        self.bury()
        self.recover()
        self.submit_what_was_pending()

    def accepted_late(self, ids: Sequence[int]) -> None:
        assert self.pending is not None
        key, count = self.pending
        self.accepted(ids, False)
        self.keys[key] = (count, list(ids))
        self.pending = None

    async def begin_something(self, doing: str, which: int) -> Any:
        number = self.some(which)
        if doing in ("submit", "bulk"):
            self.pending = (f"k{next(self.key_numbers)}", BULK if doing == "bulk" else 2)
            key, count = self.pending
            return await self.core.submissions.submit(ANN, self.specs(count, False, 0), key, str(count))
        if doing in ("kill", "hold", "release") and number is not None:
            self.doubt(number, doing)
            action: Any = doing
            await self.core.actions.act(ANN, action, [number])
        elif doing == "archive":
            await Housekeeping(self.core).archive_ended()
        elif doing in ("ended", "lost"):
            await self.hear(which, doing, 0)
        return None

    def submit_what_was_pending(self) -> None:
        if self.pending is None:
            return
        key, count = self.pending
        ids, replayed = self.run(self.core.submissions.submit(ANN, self.specs(count, False, 0), key, str(count)))
        assert not replayed or set(ids) <= self.maybe
        self.pending = None
        self.maybe = set()
        self.accepted(ids, False)
        self.keys[key] = (count, list(ids))

    def take_what_is_left(self, survival: Survival, torn: int | None) -> None:
        """``kill -9``: what was handed to the kernel stays."""
        self.db.wait(self.db.seq, 30)
        self.next_directory()
        shutil.copytree(self.before, self.directory)

    def next_directory(self) -> None:
        self.before, self.directory = self.directory, self.root / str(next(self.lives))

    def bury(self) -> None:
        """The dead server's threads and files; nothing of it is heard any more."""
        self.engine.dead = True
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()
        self.db.close()
        self.archive.close()

    def recover(self) -> None:
        self.open()
        self.check_records(self.hot_and_archived())
        self.run(self.core.start())

    def hot_and_archived(self) -> dict[int, Job]:
        hot = dict(self.db.jobs.records())
        for number in self.facts:
            if number not in hot and (job := self.archive.get(number)) is not None:
                hot[number] = job
        return hot

    # -- what must hold -----------------------------------------------------------------------------------------

    def check_records(self, found: dict[int, Job]) -> None:
        missing = set(self.facts) - set(found)
        assert not missing, f"acknowledged, and gone: {missing}"
        self.maybe = set(found) - set(self.facts)
        if self.maybe:
            assert self.pending is not None and len(self.maybe) == self.pending[1], f"not whole: {self.maybe}"
        for number, fact in self.facts.items():
            self.check_job(found[number], fact)
        for task in self.world.launched:
            number, attempt = parse_task_id(task)
            assert len(found[number].attempts) >= attempt, f"{task} was launched before that was safe"
        for update in self.world.acknowledged.values():
            number, attempt = parse_task_id(update.task)
            record = found[number].attempts[attempt - 1]
            assert record.ended is not None, f"acknowledged to the engine, and forgotten: {update}"
            assert record.exit_code == update.exit_code
        for number in self.archived():
            assert number not in self.facts or found[number].state in ENDED_STATES

    def archived(self) -> set[int]:
        return {number for number in self.facts if self.archive.get(number) is not None}

    def check_job(self, job: Job, fact: Fact) -> None:
        if fact.final is not None:
            assert job == fact.final, "ended, and different now"
            return
        if fact.killed:
            assert job.state in ENDED_STATES or (job.state in RUNNING_STATES and job.kill_requested is not None), job
        if job.state == "QUEUED":
            assert fact.held in (None, job.held), (fact, job)
        if fact.priority is not None:
            assert job.priority == fact.priority, (fact, job)
        if job.state == "KILLED":
            assert fact.killed or fact.kill_maybe, job

    @invariant()
    def the_queue_agrees(self) -> None:
        if not hasattr(self, "core"):
            return
        for number, fact in self.facts.items():
            job = self.core.find(number)
            assert job is not None, f"job {number} is gone"
            self.check_job(job, fact)
            if job.state in ENDED_STATES and fact.final is None:
                fact.final = job  # run() waited until it was safe
        ledger = set(self.core.dispatcher.ledger.running)
        states = {n for n, job in self.db.jobs.records().items() if job.state in RUNNING_STATES}
        assert ledger == states
        assert {parse_task_id(task)[0] for task in self.world.live} == states
        running = sorted(parse_task_id(task)[0] for task in self.world.live)
        assert len(running) == len(set(running)), "two attempts of one job at a time"
        waiting = [j for j in self.db.jobs.records().values() if j.state == "QUEUED" and not j.held]
        assert len(self.world.live) == 3 or not waiting, "there is room, and jobs wait"
        for number in states:
            if self.facts[number].killed:
                job = self.db.jobs.record(number)
                assert job is not None and job.task_id in self.world.kills, "a kill never reached the engine"

    def teardown(self) -> None:
        if hasattr(self, "core"):
            self.bury()
        shutil.rmtree(self.root)


class PowerLossMachine(QueueMachine):
    """Dies of a power loss: what was not synced may be gone, torn, or there."""

    OPTIONS: ClassVar = StoreOptions(rotate_bytes=4000, compact_bytes=1 << 30)

    def make_files(self) -> RecordingFiles:
        files = RecordingFiles(self.directory)
        files.log += _as_found(self.directory)
        return files

    def merge(self) -> None:
        """It is another process, which this disk does not see; test_compaction.py takes its power away."""

    def take_what_is_left(self, survival: Survival, torn: int | None) -> None:
        assert isinstance(self.files, RecordingFiles)
        log = list(self.files.log)
        written_last = bool(log) and log[-1][0] == "write"
        self.next_directory()
        # What a later sync made safe cannot be torn.
        after_power_loss(log, self.directory, survival, torn if written_last else None)


def _as_found(directory: Path) -> list[tuple[Any, ...]]:
    """Operations that make a directory as it is, and safe."""
    log: list[tuple[Any, ...]] = []
    paths = sorted(path for path in directory.rglob("*") if path.name != "lock")
    for number, path in enumerate(paths):
        name = str(path.relative_to(directory))
        if path.is_dir():
            log.append(("mkdir", name))
        else:
            fd = -1 - number
            log += [("create", fd, name), ("write", fd, path.read_bytes()), ("sync", fd)]
    parents = {str(path.parent.relative_to(directory)) for path in paths}
    return [*log, *(("sync_dir", parent) for parent in sorted(parents))]


STEPS = settings(
    max_examples=30, stateful_step_count=25, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)


@pytest.mark.parametrize("machine", [QueueMachine, PowerLossMachine], ids=["kill -9", "power loss"])
def test_every_acknowledged_fact_survives(machine: type[QueueMachine]) -> None:
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(machine, settings=STEPS)
