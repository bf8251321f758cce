"""What can be wrong with a store, in words that say what to do next."""

from __future__ import annotations

from pathlib import Path


class StoreFailed(Exception):
    """A write or fsync failed (or the store is not open for writing): nothing more is acknowledged."""


class StoreLocked(Exception):
    """Another process holds the data directory; the text names its pid."""


class StoreDamaged(Exception):
    """A record that was once safe on disk cannot be read.

    Attributes:
        path: The file.
        offset: The byte where the trouble begins.
        what: One clause about it.
    """

    def __init__(self, path: Path, offset: int, what: str) -> None:
        super().__init__(
            f"{path}, byte {offset}: {what}. Nothing was changed. "
            f"See what can be saved with: retz-server fsck --data-dir {path.parent.parent}"
        )
        self.path = path
        self.offset = offset
        self.what = what


class StoreTooNew(StoreDamaged):
    """Not damaged at all: a newer version of Retz wrote it."""

    def __init__(self, path: Path, schema: int, known: int) -> None:
        Exception.__init__(
            self,
            f"{path} was written by a newer Retz (schema {schema}; this one knows up to {known}). "
            f"Install that version or a later one; nothing was changed.",
        )
        self.path = path
        self.offset = 0
        self.what = "written by a newer version"
