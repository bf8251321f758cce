"""``retz.properties`` of the Java Retz, server's or client's, read as it is.

Flat keys; each becomes one of ours, or is named in a note that says what to do instead. Standard library only.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

from .config_keys import BY_NAME

SUFFIX = ".properties"


class Property(NamedTuple):
    """One entry: the line it begins on, key and value as written."""

    line: int
    name: str
    value: str


class Converted(NamedTuple):
    """Values by our keys, as text; the line of each; notes about what was left out."""

    values: dict[str, str]
    lines: dict[str, int]
    notes: tuple[str, ...]


_RENAMED = {
    "retz.mesos": "retz.mesos.master",
    "retz.mesos.role": "retz.mesos.roles",
    "retz.mesos.secret.file": "retz.mesos.secret-file",
    "retz.mesos.failover.timeout": "retz.mesos.failover-timeout",
    "retz.user": "retz.mesos.user",
    "retz.gc.leeway": "retz.archive.keep",
}
_PLANNERS = {"naive": "fifo", "fifo": "fifo", "priority": "priority", "priority2": "priority", "fair": "fair"}
_PEM = "keys are PEM files here: retz.tls.certificate and retz.tls.key for the server, retz.tls.ca for clients"
_STORE = "jobs are kept in retz.data-dir, without a database"
_NO_MEANING = {
    "retz.max.stock": "room that no job needs goes back at once, see retz.mesos.refuse",
    "retz.job-queue.type": "every job that fits is tried, see retz.planner.patience",
    "retz.job-queue.all.limit": "every job that fits is tried, see retz.planner.patience",
    "retz.job-queue-strategy": "every job that fits is tried, see retz.planner.patience",
    "retz.classpath": "planners are Python here, see retz.planner.name",
    "retz.database.url": _STORE,
    "retz.database.driver": _STORE,
    "retz.database.user": _STORE,
    "retz.database.pass": _STORE,
    "retz.tls.keystore.file": _PEM,
    "retz.tls.keystore.pass": _PEM,
    "retz.tls.truststore.file": _PEM,
    "retz.tls.truststore.pass": _PEM,
    "retz.jmx.port": "users are looked after with 'retz admin'",
    "retz.gc": "records of ended jobs are kept for retz.archive.keep",
    "retz.gc.interval": "records of ended jobs are kept for retz.archive.keep",
}
_NONE_MEANS_ALL = ("retz.max.cpus", "retz.max.mem", "retz.max.gpus", "retz.max.ports", "retz.max.disk")
_BYTES_PER_MIB = 1 << 20


def convert(text: str) -> Converted:
    """Return what a file says, in our keys. Of a key that occurs twice the last one counts, as in Java.

    Empty values count as not said.
    """
    values: dict[str, str] = {}
    lines: dict[str, int] = {}
    notes: list[str] = []
    for line, old, value in {entry.name: entry for entry in parse(text)}.values():
        if not value:
            continue
        name, converted, note = _one(old, value)
        if note is not None:
            notes.append(f"line {line}: {old}: {note}")
        if name is not None:
            values[name], lines[name] = converted, line
    if "retz.mesos.master" in values and "retz.engine" not in values:
        values["retz.engine"], lines["retz.engine"] = "mesos", lines["retz.mesos.master"]
    return Converted(values, lines, tuple(notes))


def _one(old: str, value: str) -> tuple[str | None, str, str | None]:
    """Our key (None: left out), its value, and a remark."""
    if old in _NO_MEANING:
        return None, "", f"has no meaning here and is left out: {_NO_MEANING[old]}"
    name = _RENAMED.get(old, old)
    if name not in BY_NAME:
        return None, "", "is no key of Retz and is left out"
    if old == "retz.planner.name":
        return _planner(value)
    if old == "retz.max.file-size":
        return name, _mebibytes(value), None
    if old in _NONE_MEANS_ALL and value.strip() == "0":
        return None, "", "0 would mean no limit here, and a limit of none there is not: it is left out"
    return name, value, None


def _planner(value: str) -> tuple[str | None, str, str | None]:
    found = _PLANNERS.get(value)
    if found is None:
        return None, "", f"{value} is a Java planner and is left out: there are fifo, priority and fair"
    return "retz.planner.name", found, None if found == value else f"{value} is called {found} here"


def _mebibytes(value: str) -> str:
    """Bytes, of which a negative number means no limit, in MiB, of which 0 does. What is no number is told later."""
    try:
        return str(max(0, math.ceil(int(value) / _BYTES_PER_MIB)))
    except ValueError:
        return value


def parse(text: str) -> Iterator[Property]:
    """Yield the entries of a Java properties file."""
    for line, entry in _logical_lines(text):
        key, value = _split(entry)
        yield Property(line, _unescaped(key), _unescaped(value))


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines without comments and blank ones, continued lines joined, each with the number of its first."""
    lines = enumerate(re.split(r"\r\n|\n|\r", text), 1)
    for number, line in lines:
        entry = line.lstrip(" \t\f")
        if not entry or entry[0] in "#!":
            continue
        while _continues(entry):
            entry = entry[:-1] + next(lines, (0, ""))[1].lstrip(" \t\f")
        yield number, entry


def _continues(entry: str) -> bool:
    return (len(entry) - len(entry.rstrip("\\"))) % 2 == 1


_KEY = re.compile(r"((?:\\.|[^\\=: \t\f])*)[ \t\f]*[=:]?[ \t\f]*", re.DOTALL)


def _split(entry: str) -> tuple[str, str]:
    found = _KEY.match(entry)
    assert found is not None  # it matches the empty text
    return found[1], entry[found.end() :].rstrip()


_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_SIGNS = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}


def _unescaped(text: str) -> str:
    def sign(found: re.Match[str]) -> str:
        what = found[1]
        return chr(int(what[1:], 16)) if len(what) == 5 else _SIGNS.get(what, what)

    return _ESCAPE.sub(sign, text)
