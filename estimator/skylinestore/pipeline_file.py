"""One pipeline in one TinyDB document file: history, prediction, and a header that says what is inside.

The file has three tables, of one document per line. The first line is the table ``pipeline``: its one document names
the pipeline and counts its runs, so that a list of pipelines reads the first line of each file and no more::

    {"pipeline": {"1": {"name": "etl", "runs": 2, "predicted": false, "digest": "9c..", "writes": 2}},
    "prediction": {},
    "runs": {"1": {"run": "monday", "digest": "52..", "jobs": [..]},
    "2": {"run": "tuesday", "digest": "b0..", "jobs": [..]}}}
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tinydb import TinyDB
from tinydb.storages import Storage

from ..documents import combined_digest, prediction_from_document, prediction_to_document, run_digest
from ..model import Prediction, ResourceSkyline
from .columns import jobs_from_document, jobs_to_document

Tables = dict[str, dict[str, Any]]
_TABLES = ("pipeline", "prediction", "runs")
_WRONG = (ValueError, TypeError, KeyError, AttributeError, RecursionError)
"""What reading a file that is not ours can raise; json's and Unicode's errors are ValueErrors."""


class Damaged(Exception):
    """The file does not hold what it should; the text says why."""


@dataclass(frozen=True)
class Header:
    """What the first line says.

    Attributes:
        digest: Of the history; "" without runs.
        writes: How often the file was written.
    """

    name: str
    runs: int
    predicted: bool
    digest: str
    writes: int


class StoredRun:
    """The jobs of one run, decoded when somebody asks for them."""

    def __init__(self, digest: str, document: list[dict[str, Any]]) -> None:
        self.digest = digest
        self.document = document
        self._jobs: list[ResourceSkyline] | None = None

    @classmethod
    def of(cls, run: str, jobs: list[ResourceSkyline]) -> StoredRun:
        """A run about to be stored."""
        stored = cls(run_digest(run, jobs), jobs_to_document(jobs))
        stored._jobs = list(jobs)
        return stored

    def jobs(self) -> list[ResourceSkyline]:
        """The jobs; the list is the caller's.

        Raises:
            Damaged: they make no sense.
        """
        if self._jobs is None:
            try:
                self._jobs = jobs_from_document(self.document)
            except _WRONG as error:
                raise Damaged(str(error)) from error
        return list(self._jobs)


@dataclass
class PipelineFile:
    """The contents of a file. ``writes`` counts how often it was written."""

    name: str
    runs: dict[str, StoredRun] = field(default_factory=dict)
    prediction: Prediction | None = None
    writes: int = 0

    def copy(self) -> PipelineFile:
        """One that can be changed without changing this one."""
        return PipelineFile(self.name, dict(self.runs), self.prediction, self.writes)

    def to_bytes(self) -> bytes:
        """The whole file."""
        digest = combined_digest(run.digest for run in self.runs.values())
        database = TinyDB(storage=Lines)
        database.table("pipeline").insert(
            {
                "name": self.name,
                "runs": len(self.runs),
                "predicted": self.prediction is not None,
                "digest": digest,
                "writes": self.writes,
            }
        )
        if self.prediction is not None:
            database.table("prediction").insert(prediction_to_document(self.prediction))
        database.table("runs").insert_multiple(
            {"run": run, "digest": stored.digest, "jobs": stored.document} for run, stored in self.runs.items()
        )
        storage = database.storage
        assert isinstance(storage, Lines)
        return storage.to_bytes()

    @classmethod
    def from_bytes(cls, contents: bytes) -> PipelineFile:
        """The inverse.

        Raises:
            Damaged: this is not such a file.
        """
        try:
            database = TinyDB(storage=Lines, contents=contents)
            header = _header(database.table("pipeline").all()[0])
            runs = {row["run"]: StoredRun(row["digest"], row["jobs"]) for row in database.table("runs").all()}
            predictions = database.table("prediction").all()
            prediction = prediction_from_document(dict(predictions[0])) if predictions else None
        except (*_WRONG, IndexError) as error:
            raise Damaged(str(error)) from error
        if (len(runs), combined_digest(run.digest for run in runs.values())) != (header.runs, header.digest):
            raise Damaged(f"it says that it holds {header.runs} runs, but holds {len(runs)} or others")
        return cls(header.name, runs, prediction, header.writes)


class Lines(Storage):
    """A TinyDB storage of bytes: JSON with one document per line.

    TinyDB writes the whole data at every change; here that costs nothing, and the store makes one file of it at the
    end, so that several changes are one.
    """

    def __init__(self, contents: bytes | None = None) -> None:
        self._tables: Tables = {name: {} for name in _TABLES} if contents is None else json.loads(contents)

    def read(self) -> Tables:
        return self._tables

    def write(self, data: Tables) -> None:
        self._tables = data

    def to_bytes(self) -> bytes:
        """The whole, ``pipeline`` first."""
        return ("{" + ",\n".join(f'"{name}": {_table(self._tables[name])}' for name in _TABLES) + "}\n").encode()


def read_header(descriptor: int) -> tuple[Header, bytes]:
    """What the first line of an open file says, and the line itself.

    Raises:
        Damaged: it is not such a line.
        OSError: it cannot be read.
    """
    line = b""
    while b"\n" not in line:
        block = os.pread(descriptor, max(1024, len(line)), len(line))
        if not block:
            raise Damaged("the first line is cut off")
        line += block
    line = line[: line.index(b"\n")]
    try:
        return _header(json.loads(line.removesuffix(b",") + b"}")["pipeline"]["1"]), line
    except _WRONG as error:
        raise Damaged(f"the first line: {error}") from error


def replace(path: Path, temporary: Path, contents: bytes) -> None:
    """Write a file in one step: readers see the old one or the new one.

    Only what replaces something is synced. A power cut can cost the newest change, and no more.

    Raises:
        OSError: it could not be written; the old one is as it was.
    """
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(contents)
            file.flush()
            if path.exists():
                os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _header(document: Mapping[str, Any]) -> Header:
    header = Header(**document)
    wanted = {"name": str, "runs": int, "predicted": bool, "digest": str, "writes": int}
    for name, kind in wanted.items():
        if not isinstance(getattr(header, name), kind):
            raise ValueError(f"{name} is not a {kind.__name__}")
    return header


def _table(documents: Mapping[str, Any]) -> str:
    return "{" + ",\n".join(f'"{number}": {json.dumps(each)}' for number, each in documents.items()) + "}"
