"""Anything that can happen to a store, in any order, against a dictionary: crash, reopen and merge included."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from msgspec.structs import replace
from tinydb import where

from retz.store.compaction import clean, merge
from retz.store.database import Change, Database, StoreOptions
from retz.store.files import FileLayer
from tests.doubles.store_jobs import check_indexes, contents, job

OPTIONS = StoreOptions(rotate_bytes=3_000, keep_sealed_bytes=2_000)

ids = st.integers(1, 12)
jobs = st.builds(
    lambda number, **fields: job(number, **fields),
    ids,
    owner=st.sampled_from(["ann", "bob"]),
    state=st.sampled_from(["QUEUED", "STARTED", "FINISHED"]),
    tags=st.lists(st.sampled_from(["a", "b", "ünïcode\n"]), max_size=3).map(tuple),
    priority=st.integers(-2, 2),
    pipeline=st.sampled_from([None, "p"]),
)
changes = st.one_of(
    jobs.map(lambda record: Change("jobs", record.id, record)),
    ids.map(lambda number: Change("jobs", number, None)),
    st.builds(lambda key, n: Change("meta", key, {"n": n}), st.sampled_from("xyz"), st.integers()),
    st.sampled_from("xyz").map(lambda key: Change("meta", key, None)),
)


class StoreMachine(RuleBasedStateMachine):
    """The model is a dictionary; ``highest`` is the largest job id that was ever durable."""

    @initialize()
    def begin(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="retz-model-"))
        self.directory = self.root / "data"
        self.model: dict[str, dict[Any, Any]] = {"jobs": {}, "meta": {}}
        self.highest = 0
        self.database = Database.open(self.directory, options=OPTIONS)
        self.events: list[Any] = []
        self.database.subscribe(self.events.extend)

    def _note(self, batch: list[Change]) -> None:
        for table, key, record in batch:
            if table == "jobs":
                assert isinstance(key, int)
                self.highest = max(self.highest, key)
            if record is None:
                self.model[table].pop(key, None)
            else:
                self.model[table][key] = record

    @rule(batch=st.lists(changes, min_size=1, max_size=5))
    def apply(self, batch: list[Change]) -> None:
        self.database.apply(batch).wait()
        self._note(batch)

    @rule(batch=st.lists(changes, min_size=1, max_size=9), size=st.integers(1, 4))
    def bulk(self, batch: list[Change], size: int) -> None:
        bulk = self.database.bulk()
        for at in range(0, len(batch), size):
            bulk.encode(batch[at : at + size])
        ticket = bulk.commit()
        while bulk.absorb(size):
            pass
        ticket.wait()
        self._note(batch)

    @rule(owner=st.sampled_from(["ann", "bob"]), priority=st.integers(-2, 2))
    def tinydb_update(self, owner: str, priority: int) -> None:
        self.database.jobs.update({"priority": priority}, where("owner") == owner)
        for number, record in self.model["jobs"].items():
            if record.owner == owner:
                self.model["jobs"][number] = replace(record, priority=priority)

    @rule(priority=st.integers(-2, 2))
    def tinydb_remove(self, priority: int) -> None:
        self.database.jobs.remove(where("priority") == priority)
        self.model["jobs"] = {n: record for n, record in self.model["jobs"].items() if record.priority != priority}

    @rule(owner=st.sampled_from(["ann", "bob"]))
    def tinydb_insert(self, owner: str) -> None:
        number = self.database.jobs.insert({"owner": owner, "command": "c", "resources": {}, "submitted": 1.0})
        assert number > self.highest, "an id was given again"
        self.highest = number
        self.model["jobs"][number] = self.database.jobs.record(number)
        assert self.model["jobs"][number].owner == owner

    @rule()
    def truncate(self) -> None:
        self.database.jobs.truncate()
        self.model["jobs"] = {}

    @rule(torn=st.binary(max_size=30).filter(lambda data: b"\n" not in data))
    def crash(self, torn: bytes) -> None:
        """Leave it as a killed process would, half a record at the end, and start from what is on disk."""
        self.database.close()
        active = max((self.directory / "store").glob("journal-*.log"))
        with active.open("ab") as stream:
            stream.write(torn)
        self.database = Database.open(self.directory, options=OPTIONS)
        assert self.database.recovery.torn_bytes == len(torn)
        self.events = []
        self.database.subscribe(self.events.extend)

    @rule()
    def compact(self) -> None:
        """Rotate and merge in this process (the process of its own has its own test)."""
        assert self.database._writer is not None
        assert self.database._writer.rotate().wait(20)
        merge(self.directory / "store", FileLayer())
        clean(self.directory / "store", FileLayer(), OPTIONS, now=0.0)

    @invariant()
    def memory_is_the_model(self) -> None:
        assert contents(self.database) == {name: rows for name, rows in self.model.items() if rows}
        check_indexes(self.database)

    @invariant()
    def events_are_complete(self) -> None:
        numbers = [event.seq for event in self.events]
        assert numbers == list(range(self.database.seq - len(numbers) + 1, self.database.seq + 1))

    def teardown(self) -> None:
        self.database.close()
        again = Database.open(self.directory, read_only=True)
        assert contents(again) == {name: rows for name, rows in self.model.items() if rows}
        check_indexes(again)
        shutil.rmtree(self.root)


TestStore = StoreMachine.TestCase
TestStore.settings = settings(
    max_examples=150,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
