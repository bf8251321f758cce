"""Tables that are TinyDB tables to their readers and journalled records underneath."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from tinydb.queries import QueryLike
from tinydb.storages import Storage
from tinydb.table import Document, Table

from retz.model.job import Job

from .documents import DocumentView, Fields, Overlay, apply_fields, record_id, to_document, to_record
from .indexes import JobIndexes
from .journal import Id
from .records import STRING_IDS, TYPES, Interner

if TYPE_CHECKING:
    from .database import Database


class Change(NamedTuple):
    """One record as it shall be from now on; ``record`` None deletes it."""

    table: str
    id: Id
    record: Any


class JournalStorage(Storage):
    """What TinyDB takes for its storage: reads are live views; whole-file writes do not exist."""

    def __init__(self, database: Database) -> None:
        super().__init__()
        self.database = database

    def read(self) -> dict[str, Any]:
        """Return a view of every table that holds a document."""
        return {name: table.documents() for name, table in self.database.journal_tables().items() if table.records()}

    def write(self, data: dict[str, dict[str, Any]]) -> None:
        """Refused: it would bypass the journal."""
        raise NotImplementedError("every change of a Retz database goes through its journal")


class JournalTable(Table):
    """A TinyDB table whose every mutation is one atomic, durable journal line.

    TinyDB's mutators block until the line is on disk; what its reads return are copies. The server itself uses
    ``record``/``records`` (no copies) and ``Database.apply`` (does not block).
    """

    def __init__(self, storage: Storage, name: str, **_options: Any) -> None:
        # No query cache: it hands the same document objects to everybody who asks again.
        super().__init__(storage, name, cache_size=0)
        self._records: dict[Id, Any] = {}
        self._proxy: Mapping[Id, Any] = MappingProxyType(self._records)
        self._text_ids = name in STRING_IDS
        self.document_id_class = cast(type[int], str if self._text_ids else int)
        self._database = cast(JournalStorage, storage).database

    def record(self, record_id: Any) -> Any:
        """Return the live record with this id, None if there is none. Not to be changed."""
        return self._records.get(record_id)

    def records(self) -> Mapping[Any, Any]:
        """Return a live, read-only view of all records by id."""
        return self._proxy

    def documents(self) -> DocumentView:
        """Return all documents under their ids as text, made lazily."""
        return DocumentView(self._records, self.document_id_class)

    # What the database does to us.

    def load(self, records: dict[Id, Any]) -> None:
        """Take what was read from disk; the table must be empty."""
        self._records.update(records)

    def put(self, key: Any, record: Any) -> None:
        """Set or (None) delete a record in memory only."""
        if record is None:
            self._records.pop(key, None)
        else:
            self._records[key] = record

    # TinyDB's seams (its documentation, "How to extend TinyDB", section 4).

    def _read_table(self) -> DocumentView:  # type: ignore[override]
        return self.documents()

    def _update_table(self, updater: Callable[[Any], None]) -> None:
        overlay = Overlay(self.name, self._records)
        updater(overlay)
        changes = [Change(self.name, key, record) for key, record in overlay.changes()]
        if changes:
            self._database.apply(changes).wait()

    def _get_next_id(self) -> Any:
        if self._text_ids:
            raise ValueError(f"table {self.name} has texts as ids: insert a tinydb.table.Document(…, doc_id=…)")
        return self._database.reserve(self.name, 1)[0]

    def _identified(self, document: Mapping[str, Any]) -> Mapping[str, Any]:
        """A typed document carries its id; one without gets the next number."""
        if isinstance(document, Document) or not isinstance(document, Mapping):
            return document
        if self.name == "jobs":
            key = document.get("id", None) or self._get_next_id()
            return Document({**document, "id": key}, key)
        if self.name in TYPES:
            key = record_id(self.name, to_record(self.name, None, document))
            return Document(document, key)
        return document

    def insert(self, document: Mapping[str, Any]) -> int:
        return super().insert(self._identified(document))

    def insert_multiple(self, documents: Iterable[Mapping[str, Any]]) -> list[int]:
        return super().insert_multiple([self._identified(document) for document in documents])

    # The stock versions of these read every row through the mapping that they write to: 300 kB of journal
    # for one changed row of a thousand. Ours find the rows first.

    def _matching(self, cond: QueryLike) -> list[Any]:
        return [key for key, record in self._records.items() if cond(to_document(record))]

    def update(self, fields: Any, cond: QueryLike | None = None, doc_ids: Iterable[int] | None = None) -> list[int]:
        if doc_ids is None and cond is not None:
            doc_ids = self._matching(cond)
        return super().update(fields, doc_ids=doc_ids)

    def update_multiple(self, updates: Iterable[tuple[Fields, QueryLike]]) -> list[int]:
        steps = list(updates)
        updated: list[Any] = []

        def updater(table: Overlay) -> None:
            for key, record in self._records.items():
                document = to_document(record)
                hits = [key for fields, cond in steps if cond(document) and apply_fields(fields, document)]
                if hits:
                    updated.extend(hits)
                    table[key] = document

        self._update_table(updater)
        return updated

    def remove(self, cond: QueryLike | None = None, doc_ids: Iterable[int] | None = None) -> list[int]:
        if doc_ids is None and cond is not None:
            doc_ids = self._matching(cond)
        return super().remove(doc_ids=doc_ids)

    def get(self, cond: Any = None, doc_id: Any = None, doc_ids: Any = None) -> Any:
        if doc_id is None and doc_ids is not None:
            # The stock version makes every document of the table to find these.
            return [
                Document(to_document(self._records[key]), key) for key in dict.fromkeys(doc_ids) if key in self._records
            ]
        return super().get(cond, doc_id=doc_id)


class RecordTable(JournalTable):
    """Records under texts: applications, users, submissions, meta, audit, notices."""


class JobTable(JournalTable):
    """The jobs, with indexes. All lists of ids are ascending and live: not to be changed, nor kept over a change."""

    def __init__(self, storage: Storage, name: str, **options: Any) -> None:
        super().__init__(storage, name, **options)
        self._indexes = JobIndexes()
        self._interner = Interner()

    def record(self, job_id: int) -> Job | None:
        """Return a job, None if it is not here (never was, or is in the archive)."""
        return self._records.get(job_id)

    def records(self) -> Mapping[int, Job]:
        """Return a live, read-only view of all jobs by id."""
        return cast("Mapping[int, Job]", self._proxy)

    def ids(self, field: str, value: Hashable) -> Sequence[int]:
        """Return the ids of the jobs with this value.

        ``field``: ``state``, ``owner``, ``tag``, ``application``, ``pipeline`` or ``priority``.
        """
        return self._indexes.ids(field, value)

    def all_ids(self) -> Sequence[int]:
        """Return the ids of all jobs."""
        ids: Sequence[int] = self._indexes.all
        return ids

    def values(self, field: str) -> Sequence[Hashable]:
        """Return the distinct values of an indexed field that are present, sorted."""
        return self._indexes.values(field)

    def count(self, field: Any, value: Hashable = None) -> int:
        """Return how many jobs have this value. With a TinyDB query alone: how many match it."""
        if isinstance(field, str):
            return len(self._indexes.ids(field, value))
        return super().count(field)

    def waiting(self, owner: str) -> int:
        """Return how many jobs of an owner wait to be started, every such task of an array counted."""
        return self._indexes.queued[owner]

    @property
    def held(self) -> int:
        """How many queued jobs are held; an array is one."""
        return self._indexes.held

    @property
    def started_arrays(self) -> int:
        """How many arrays count as STARTED, beside their tasks."""
        return len(self._indexes.started_arrays)

    def load(self, records: dict[Id, Any]) -> None:
        super().load(records)
        self._indexes.build(records.values())

    def put(self, key: Any, record: Any) -> None:
        records = self._records
        old = records.get(key)
        if record is None:
            records.pop(key, None)
        else:
            if old is None:
                self._interner.share(record)
            records[key] = record
        self._indexes.change(key, old, record)
