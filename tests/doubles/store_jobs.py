"""Small records for the store's tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from retz.model.job import Job
from retz.model.resources import Resources
from retz.store.database import Change, Database
from retz.store.indexes import FIELDS


def job(number: int, **fields: Any) -> Job:
    """Return a job with this id."""
    known: dict[str, Any] = {"owner": "ann", "command": f"echo {number}", "resources": Resources(1.0, 512)}
    return Job(id=number, submitted=1000.0 + number, **{**known, **fields})


def put(number: int, **fields: Any) -> Change:
    """Return the change that makes (or replaces) this job."""
    return Change("jobs", number, job(number, **fields))


def gone(number: int) -> Change:
    """Return the change that deletes this job."""
    return Change("jobs", number, None)


def contents(database: Database) -> dict[str, dict[Any, Any]]:
    """Return all records of all tables that have any."""
    return {name: dict(table.records()) for name, table in database.journal_tables().items() if table.records()}


def read(directory: Path) -> dict[str, dict[Any, Any]]:
    """Return what a read-only look at a data directory finds."""
    return contents(Database.open(directory, read_only=True))


def journals(directory: Path) -> list[Path]:
    """Return the journals of a data directory, oldest first."""
    return sorted((directory / "store").glob("journal-*.log"))


def recomputed(database: Database) -> dict[str, dict[str | int, list[int]]]:
    """The indexes as the records say they should be."""
    found: dict[str, dict[str | int, list[int]]] = {field: {} for field in FIELDS}
    for number, record in sorted(database.jobs.records().items()):
        for field in ("state", "owner", "application", "priority", "pipeline"):
            if getattr(record, field) is not None:
                found[field].setdefault(getattr(record, field), []).append(number)
        for tag in set(record.tags):
            found["tag"].setdefault(tag, []).append(number)
    return found


def check_indexes(database: Database) -> None:
    """Assert that the indexes are what a recomputation gives."""
    for field, values in recomputed(database).items():
        assert list(database.jobs.values(field)) == sorted(values)
        for value, numbers in values.items():
            assert list(database.jobs.ids(field, value)) == numbers
            assert database.jobs.count(field, value) == len(numbers)
    assert list(database.jobs.all_ids()) == sorted(database.jobs.records())
