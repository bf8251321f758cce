"""Which files a store consists of: ``format.json``, snapshots, journals."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import NamedTuple

import msgspec

from .errors import StoreDamaged, StoreTooNew
from .files import FileLayer
from .journal import encode, header_line, journal_first, journal_name
from .records import SCHEMA
from .snapshot import snapshot_seq

FORMAT = 1
"""Version of the files' layout, as opposed to the records' meaning (SCHEMA)."""
FORMAT_NAME = "format.json"


class Layout(NamedTuple):
    """The store's files by number: journals by first change, snapshots by last; both ascending."""

    store: Path
    journals: dict[int, Path]
    snapshots: dict[int, Path]

    def sealed_end(self, first: int) -> int | None:
        """Return the last change of a sealed journal; None for the active one."""
        later = [other for other in self.journals if other > first]
        return min(later) - 1 if later else None


def read_layout(store: Path, files: FileLayer) -> Layout:
    """List a store's directory."""
    names = sorted(files.listdir(store))
    journals = {first: store / name for name in names if (first := journal_first(name)) is not None}
    snapshots = {seq: store / name for name in names if (seq := snapshot_seq(name)) is not None}
    return Layout(store, journals, snapshots)


def create_store(store: Path, files: FileLayer) -> None:
    """Make an empty store. The format file comes last: it says that the journal before it is there."""
    files.mkdir(store)
    files.fsync_dir(store.parent)
    files.close(create_journal(store, 1, files))
    write_format(store, files)


def create_journal(store: Path, first: int, files: FileLayer) -> int:
    """Make an empty journal, durably; return its descriptor, open for appending."""
    return files.install(store / journal_name(first), [journal_header(first)])


def journal_header(first: int) -> bytes:
    """Return the header line of a journal of today's schema."""
    return header_line({"retz": "journal", "schema": SCHEMA, "first": first})


def write_format(store: Path, files: FileLayer) -> None:
    """Write the store's versions, durably."""
    files.close(files.install(store / FORMAT_NAME, [encode({"format": FORMAT, "schema": SCHEMA}) + b"\n"]))


def read_format(store: Path, files: FileLayer) -> int | None:
    """Return the store's schema version; None if there is no format file.

    Raises:
        StoreTooNew: if we cannot read such a store.
        StoreDamaged: if the file is not what we write.
    """
    path = store / FORMAT_NAME
    try:
        with files.open_read(path) as stream:
            fields = msgspec.json.decode(stream.read(), type=dict[str, int])
        layout, schema = fields["format"], fields["schema"]
    except FileNotFoundError:
        return None
    except (msgspec.MsgspecError, KeyError):
        raise StoreDamaged(path, 0, "not a format file") from None
    if layout > FORMAT or schema > SCHEMA:
        raise StoreTooNew(store, schema, SCHEMA)
    return schema


def remove_temporaries(store: Path, files: FileLayer) -> None:
    """Delete what an interrupted creation left behind."""
    for name in files.listdir(store):
        if name.endswith(".tmp"):
            # An orphaned merge may be just about to rename it: then it is no longer ours to delete.
            with contextlib.suppress(FileNotFoundError):
                files.unlink(store / name)
