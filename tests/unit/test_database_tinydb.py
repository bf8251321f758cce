"""The store is a TinyDB: every mutator of every table goes through the journal, and touches only its rows."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, MutableMapping
from pathlib import Path

import msgspec
import pytest
from tinydb import TinyDB, where
from tinydb.operations import increment
from tinydb.table import Document, Table

from retz.model.user import User
from retz.store.database import Change, Database
from retz.store.journal import JournalReader
from tests.doubles.store_jobs import contents, journals, put, read

JOB = {"owner": "ann", "command": "true", "resources": {"cpus": 1.0}, "submitted": 5.0}

MUTATORS: dict[str, Callable[[Database], object]] = {
    "insert": lambda db: db.jobs.insert(JOB),
    "insert_multiple": lambda db: db.jobs.insert_multiple([JOB, {**JOB, "owner": "bob"}]),
    "update": lambda db: db.jobs.update({"name": "new"}, where("id") == 2),
    "update_multiple": lambda db: db.jobs.update_multiple(
        [({"name": "a"}, where("id") == 1), ({"priority": 3}, where("id") == 2)]
    ),
    "upsert": lambda db: db.jobs.upsert({**JOB, "name": "up"}, where("name") == "nobody"),
    "remove": lambda db: db.jobs.remove(where("id") == 3),
    "truncate": lambda db: db.jobs.truncate(),
    "drop_table": lambda db: db.drop_table("jobs"),
    "drop_tables": lambda db: db.drop_tables(),
}
READERS = {
    "all", "clear_cache", "close", "contains", "count", "get", "name", "search", "storage", "table", "tables",
}  # fmt: skip
CLASS_ATTRIBUTES = {
    "default_query_cache_capacity", "default_storage_class", "default_table_name", "document_class",
    "document_id_class", "query_cache_class", "table_class",
}  # fmt: skip


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with Database.open(tmp_path / "data") as opened:
        opened.apply([put(number, tags=("t",)) for number in range(1, 51)]).wait()
        opened.apply([Change("meta", "k", {"v": 1}), Change("loose", 1, {"x": 1})]).wait()
        yield opened


def journalled(database: Database, directory: Path) -> list[tuple[str, object]]:
    """What the journal holds: (table, id) of every change."""
    path = journals(directory)[-1]
    with path.open("rb") as stream:
        return [
            (table, key)
            for line in JournalReader(stream, path, sealed=True)
            for table, key, _ in msgspec.json.decode(line.body)
        ]


def test_every_public_method_of_tinydb_is_known() -> None:
    """A new TinyDB with a new mutator must not slip past us: decide here what each method is."""
    public = {name for kind in (Table, TinyDB) for name, _ in inspect.getmembers(kind) if not name.startswith("_")}
    assert public - CLASS_ATTRIBUTES == MUTATORS.keys() | READERS


@pytest.mark.parametrize("name", MUTATORS)
def test_every_mutator_is_durable_when_it_returns(database: Database, tmp_path: Path, name: str) -> None:
    before, seq = contents(database), database.seq
    MUTATORS[name](database)
    assert contents(database) != before
    assert database.seq > seq and database.durable_seq == database.seq
    assert read(tmp_path / "data") == contents(database)


@pytest.mark.parametrize("name", MUTATORS)
def test_every_mutator_is_one_atomic_line(database: Database, tmp_path: Path, name: str) -> None:
    lines = journals(tmp_path / "data")[0].read_bytes().count(b"\n")
    MUTATORS[name](database)
    assert journals(tmp_path / "data")[0].read_bytes().count(b"\n") == lines + 1


@pytest.mark.parametrize(
    ("mutate", "rows"),
    [
        (lambda db: db.jobs.update({"name": "x"}, where("id") == 7), [("jobs", 7)]),
        (lambda db: db.jobs.update(increment("priority"), (where("id") > 48)), [("jobs", 49), ("jobs", 50)]),
        (lambda db: db.jobs.update({"name": "x"}, doc_ids=[3, 999]), [("jobs", 3)]),
        (lambda db: db.jobs.update_multiple([({"name": "x"}, where("id") == 9)]), [("jobs", 9)]),
        (lambda db: db.jobs.remove(where("id") == 4), [("jobs", 4)]),
        (lambda db: db.jobs.remove(doc_ids=[4, 5]), [("jobs", 4), ("jobs", 5)]),
        (lambda db: db.jobs.update({"name": "x"}, where("id") == 999), []),
        (lambda db: db.jobs.update({"owner": "ann"}), []),
    ],
)
def test_only_touched_rows_are_journalled(
    database: Database, tmp_path: Path, mutate: Callable[[Database], object], rows: list[tuple[str, int]]
) -> None:
    before = len(journalled(database, tmp_path / "data"))
    mutate(database)
    assert journalled(database, tmp_path / "data")[before:] == rows


def test_storage_refuses_what_would_bypass_the_journal(database: Database) -> None:
    with pytest.raises(NotImplementedError):
        database.storage.write({})


def test_same_answers_as_stock_tinydb(tmp_path: Path, database: Database) -> None:
    """The overridden methods give what the stock ones give, on the same documents."""
    from tinydb.storages import MemoryStorage

    stock = TinyDB(storage=MemoryStorage).table("jobs")
    for document in database.jobs.all():
        stock.insert(Document(document, document.doc_id))
    steps: list[Callable[[Table], object]] = [
        lambda table: sorted(table.update({"name": "n"}, where("id") <= 5)),
        lambda table: table.update_multiple(
            [({"name": "z"}, where("id") == 5), ({"priority": 4}, where("name") == "z")]
        ),
        lambda table: sorted(table.remove(where("priority") == 4)),
        lambda table: table.get(doc_id=3),
        lambda table: sorted(doc.doc_id for doc in table.get(doc_ids=[1, 2, 999])),
        lambda table: len(table.search(where("tags").any(["t"]))),
        lambda table: table.contains(doc_id=5),
        lambda table: table.count(where("state") == "QUEUED"),
        lambda table: table.upsert(Document({"name": "up"}, 8)),
        lambda table: table.remove(doc_ids=[1, 1000]),
        lambda table: len(table),
    ]
    for step in steps:
        assert step(database.jobs) == step(stock)
    assert database.jobs.all() == stock.all()


def test_queries_see_fields_that_have_their_default(database: Database) -> None:
    assert len(database.jobs.search(where("state") == "QUEUED")) == 50
    assert database.jobs.get(where("resources").mem == 512)["id"] == 1


def test_what_reads_return_are_copies(database: Database) -> None:
    for _ in range(2):
        found = database.jobs.search(where("id") == 1)[0]
        found["tags"].append("mine")
        found["resources"]["mem"] = 0
    database.table("loose").all()[0]["x"] = 2
    assert database.jobs.get(doc_id=1)["tags"] == ["t"]
    record = database.jobs.record(1)
    assert record is not None and record.resources.mem == 512
    assert database.table("loose").all() == [{"x": 1}]


def test_a_failing_update_changes_nothing(database: Database, tmp_path: Path) -> None:
    def bad(document: MutableMapping[str, object]) -> None:
        document["name"] = "half"
        if document["id"] == 3:
            raise RuntimeError("no")

    before = contents(database)
    with pytest.raises(RuntimeError):
        database.jobs.update(bad)
    assert contents(database) == before == read(tmp_path / "data")


@pytest.mark.parametrize(
    "document",
    [{**JOB, "priority": "high"}, {**JOB, "priorty": 1}, {"owner": "ann"}, {**JOB, "state": "DONE"}],
)
def test_documents_that_do_not_fit_are_refused(database: Database, document: dict[str, object]) -> None:
    before = contents(database)
    with pytest.raises(ValueError, match="jobs"):
        database.jobs.insert(document)
    assert contents(database) == before


def test_a_job_keeps_its_id(database: Database) -> None:
    with pytest.raises(ValueError, match="id"):
        database.jobs.update({"id": 77}, doc_ids=[1])
    assert database.jobs.insert({**JOB, "id": 500}) == 500
    assert database.jobs.insert(JOB) == 501
    with pytest.raises(ValueError, match="exists"):
        database.jobs.insert({**JOB, "id": 500})


def test_typed_tables_find_their_ids(database: Database, tmp_path: Path) -> None:
    # TinyDB declares every id an int; these are texts.
    ids: list[object] = [
        database.users.insert({"key": "K", "secret": "s"}),
        database.applications.insert({"name": "a", "owner": "K"}),
        database.meta.insert(Document({"v": 2}, "m")),  # type: ignore[arg-type]
    ]
    assert ids == ["K", "K/a", "m"]
    with pytest.raises(ValueError, match="Document"):
        database.meta.insert({"v": 2})
    assert database.users.record("K") == User(key="K", secret="s")
    assert database.users.get(doc_id="K")["secret"] == "s"
    database.users.update({"enabled": False}, where("key") == "K")
    assert read(tmp_path / "data") == contents(database)
    assert not database.users.record("K").enabled


def test_default_table_and_loose_tables_work(database: Database, tmp_path: Path) -> None:
    assert database.insert({"a": 1}) == 1
    assert database.insert({"a": 2}) == 2
    database.remove(doc_ids=[2])
    assert database.insert({"a": 3}) == 3, "ids are not used again"
    assert [document["a"] for document in database] == [1, 3]
    assert database.tables() == {"jobs", "meta", "loose", "_default"}
    again = Database.open(tmp_path / "data", read_only=True)
    assert again.all() == database.all()


def test_aliasing_what_was_inserted_changes_nothing(database: Database) -> None:
    mine = {"inner": [1]}
    number = database.insert(mine)
    mine["inner"].append(2)
    assert database.get(doc_id=number) == {"inner": [1]}
