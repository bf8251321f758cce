"""What the tables hold: typed records, how they are read from JSON, and how old ones are brought up to date."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import msgspec
from msgspec.structs import force_setattr

from retz.model.application import Application
from retz.model.audit import AuditRecord
from retz.model.job import Job
from retz.model.notice import Notice
from retz.model.submission import Submission
from retz.model.user import User

from .errors import StoreTooNew
from .journal import Id, encode

SCHEMA = 1
"""Version of the records' meaning. Raise it together with an entry in MIGRATIONS."""

Migration = Callable[[str, dict[str, Any]], dict[str, Any]]
MIGRATIONS: dict[int, Migration] = {}
"""Version reached -> function(table, record as a dictionary) -> record; applied in ascending order."""

TYPES: dict[str, type[msgspec.Struct]] = {
    "jobs": Job,
    "applications": Application,
    "users": User,
    "submissions": Submission,
    "audit": AuditRecord,
    "notices": Notice,
}
STRING_IDS = ("applications", "users", "submissions", "meta", "audit", "notices")
"""Tables whose ids are texts; all others count from 1."""

NULL = b"null"
Tables = dict[str, dict[Id, Any]]

_decoders: dict[str, Callable[[Any], Any]] = {
    name: msgspec.json.Decoder(cast(Any, kind)).decode for name, kind in TYPES.items()
}
_decode_dict = msgspec.json.Decoder(dict[str, Any]).decode


def check_schema(schema: int, where: Path) -> None:
    """Refuse what a newer version wrote.

    Raises:
        StoreTooNew: naming both versions.
    """
    if schema > SCHEMA:
        raise StoreTooNew(where, schema, SCHEMA)


def migrate(table: str, record: dict[str, Any], schema: int) -> dict[str, Any]:
    """Bring a record of an older schema up to date."""
    for version in range(schema + 1, SCHEMA + 1):
        step = MIGRATIONS.get(version)
        if step is not None:
            record = step(table, record)
    return record


def migrate_raw(table: str, raw: bytes | msgspec.Raw, schema: int) -> bytes | msgspec.Raw:
    """The same on JSON; untouched when it is of today's schema."""
    return raw if schema == SCHEMA else encode(migrate(table, _decode_dict(raw), schema))


def decode_record(table: str, raw: Any, schema: int) -> Any:
    """Return the typed record in ``raw`` (JSON), a dictionary for untyped tables.

    Raises:
        ValueError: if it does not fit.
    """
    try:
        if schema != SCHEMA:
            record = migrate(table, _decode_dict(raw), schema)
            kind = TYPES.get(table)
            return msgspec.convert(record, kind) if kind else record
        decode: Callable[[Any], Any] = _decoders.get(table, _decode_dict)
        return decode(raw)
    except msgspec.MsgspecError as error:
        raise ValueError(f"not a record of table {table}: {error}") from None


class Interner:
    """Lets equal parts of many jobs be one object: users, applications, tags, resources, empty environments.

    A queue of 100 000 jobs repeats a few hundred of them; shared, a job takes about half the memory.
    """

    LIMIT = 50_000

    def __init__(self) -> None:
        self._pool: dict[Any, Any] = {}
        self._empty: dict[str, str] = {}

    def share(self, job: Job) -> None:
        """Replace parts of ``job`` by equal objects seen before. Its value does not change."""
        pool = self._pool
        if len(pool) > self.LIMIT:
            # Tags may be unique to each job: the pool must not outlive them all.
            pool.clear()
        share = pool.setdefault
        force_setattr(job, "owner", share(job.owner, job.owner))
        force_setattr(job, "application", share(job.application, job.application))
        force_setattr(job, "resources", share(job.resources, job.resources))
        if job.tags:
            tags = pool.get(job.tags)
            force_setattr(job, "tags", tags or share(job.tags, tuple(share(tag, tag) for tag in job.tags)))
        environment = job.environment
        # One user's jobs mostly carry the same PATH, HOME and LANG.
        shared = share(tuple(environment.items()), environment) if environment else self._empty
        force_setattr(job, "environment", shared)
        if job.directory is not None:
            force_setattr(job, "directory", share(job.directory, job.directory))
        if job.on_end is not None:
            force_setattr(job, "on_end", share(job.on_end, job.on_end))
        if job.pipeline is not None:
            force_setattr(job, "pipeline", share(job.pipeline, job.pipeline))
        for attempt in job.attempts:
            force_setattr(attempt, "agent", share(attempt.agent, attempt.agent))
            force_setattr(attempt, "host", share(attempt.host, attempt.host))
