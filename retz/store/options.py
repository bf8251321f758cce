"""The store's settings."""

from __future__ import annotations

from msgspec import Struct


class StoreOptions(Struct, frozen=True, kw_only=True):
    """Sizes are bytes, times seconds.

    Attributes:
        rotate_bytes: A journal that has grown to this is sealed and a new one begun.
        compact_bytes: Sealed journals of this size together (or of the last snapshot's, if that is larger)
            are merged into a new snapshot.
        keep_sealed_s, keep_sealed_bytes: How long, and how much of, sealed journals stay after they were merged,
            so that event streams can be resumed.
        ring: How many events are kept in memory.
        compactor_nice: Niceness of the merging process.
    """

    rotate_bytes: int = 64 << 20
    compact_bytes: int = 64 << 20
    keep_sealed_s: float = 86_400.0
    keep_sealed_bytes: int = 1 << 30
    ring: int = 10_000
    compactor_nice: int = 10
