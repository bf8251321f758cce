"""Opening a store: lock, create, finish what was interrupted, read, cut a torn tail."""

from __future__ import annotations

import gc
import logging
from pathlib import Path

from .errors import StoreDamaged
from .files import FileLayer
from .journal import journal_name
from .layout import (
    FORMAT_NAME,
    create_journal,
    create_store,
    journal_header,
    read_format,
    read_layout,
    remove_temporaries,
    write_format,
)
from .lock import DirectoryLock
from .records import SCHEMA
from .recovery import Loaded, load

log = logging.getLogger(__name__)

STORE = "store"
REPAIRED = "store.repaired"
LOCK = "lock"

_ATTEMPTS = 5


def open_store(directory: Path, files: FileLayer, *, read_only: bool) -> tuple[Path, Loaded, DirectoryLock | None]:
    """Return the store's path, its contents and, unless read-only, the lock that is now ours."""
    store = directory / STORE
    if read_only:
        # Beside a running server, rotation and merge may also make our listing look full of holes.
        return store, _load_again(store, files, FileNotFoundError, StoreDamaged), None
    if not directory.exists():
        files.mkdir(directory)
        files.fsync_dir(directory.parent)
    lock = files.lock(directory / LOCK)
    try:
        return store, _open(directory, store, files), lock
    except BaseException:
        lock.release()
        raise


def _open(directory: Path, store: Path, files: FileLayer) -> Loaded:
    names = files.listdir(directory)
    if STORE not in names and REPAIRED in names:
        # A repair was interrupted between its two renames: the second is all that is missing.
        files.rename(directory / REPAIRED, store)
        files.fsync_dir(directory)
    elif STORE not in names or not _was_created(store, files):
        create_store(store, files)
    remove_temporaries(store, files)
    loaded = _load_again(store, files, FileNotFoundError)
    _cut(loaded, files)
    if read_format(store, files) != SCHEMA:
        write_format(store, files)
    if loaded.active_schema != SCHEMA:
        _begin_journal(store, loaded, files)
    return loaded


def _was_created(store: Path, files: FileLayer) -> bool:
    """Whether the store's creation came as far as its first journal; nothing can have been recorded before."""
    layout = read_layout(store, files)
    return bool(layout.journals or layout.snapshots) or FORMAT_NAME in files.listdir(store)


def _load_quickly(store: Path, files: FileLayer) -> Loaded:
    """Load without the collector, which would scan all records again and again while they come in."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        return load(store, files)
    finally:
        if enabled:
            gc.enable()


def _load_again(store: Path, files: FileLayer, *reasons: type[Exception]) -> Loaded:
    """Load; when a file vanishes under us (a merge that is just ending deletes what it merged), list anew."""
    for _ in range(_ATTEMPTS - 1):
        try:
            return _load_quickly(store, files)
        except reasons:
            if STORE not in files.listdir(store.parent):
                raise
    return _load_quickly(store, files)


def _cut(loaded: Loaded, files: FileLayer) -> None:
    """Cut a torn tail; make what remains durable before anything is built on it."""
    recovery = loaded.recovery
    for note in recovery.notes:
        log.warning("%s", note)
    fd = files.open_append(loaded.active)
    try:
        if recovery.torn_bytes:
            files.truncate(fd, loaded.active_size)
            log.warning(
                "%s: cut %d bytes of a record that was never completed, at byte %d",
                loaded.active,
                recovery.torn_bytes,
                loaded.active_size,
            )
        files.fsync(fd)
    finally:
        files.close(fd)
    files.fsync_dir(loaded.active.parent)


def _begin_journal(store: Path, loaded: Loaded, files: FileLayer) -> None:
    """Seal the active journal because its schema is old: what we write is of today's."""
    first = loaded.seq + 1
    files.close(create_journal(store, first, files))
    header = journal_header(first)
    loaded.active = store / journal_name(first)
    loaded.active_first, loaded.active_size, loaded.active_schema = first, len(header), SCHEMA
