"""When to ask the master for offers (REVIVE) and when to say that we want none (SUPPRESS)."""

from __future__ import annotations

REVIVE_EVERY_S = 0.2
"""Each REVIVE makes the master offer everything that is free: megabytes, on a large cluster."""

LINGER_S = 1.0
"""So long without work before the master is told: the next job often comes at once."""


class Demand:
    """Remembers what the master thinks that we want. Times are of a monotonic clock.

    A declined offer is filtered for a while; a REVIVE clears filters and suppression. So it is only worth sending
    when one of them may be in force. When a filter has run out is the master's business: its clock is not ours.
    """

    def __init__(self) -> None:
        self._suppressed = False
        self._filtered = False
        self._wanted = False
        self._revived_at = -REVIVE_EVERY_S
        self._idle_since: float | None = None

    def connected(self) -> None:
        """A subscription begins without filters, and not suppressed."""
        self._suppressed = False
        self._filtered = False
        self._wanted = False

    def declined(self) -> None:
        """Something was declined for a while."""
        self._filtered = True

    def revive(self) -> None:
        """Offers are wanted that may have been declined."""
        self._wanted = True
        self._idle_since = None

    def suppress(self, now: float) -> None:
        """None are wanted."""
        self._wanted = False
        if self._idle_since is None:
            self._idle_since = now

    def due_revive(self, now: float) -> bool:
        """Whether to send REVIVE now; it counts as sent then."""
        if not self._wanted:
            return False
        if not self._suppressed and not self._filtered:
            self._wanted = False  # everything that is free comes by itself
            return False
        if now - self._revived_at < REVIVE_EVERY_S:
            return False
        self._wanted = self._suppressed = self._filtered = False
        self._revived_at = now
        return True

    def due_suppress(self, now: float) -> bool:
        """Whether to send SUPPRESS now; it counts as sent then."""
        if self._suppressed or self._idle_since is None or now - self._idle_since < LINGER_S:
            return False
        self._suppressed = True
        return True

    def next_look(self, now: float) -> float | None:
        """Seconds until one of the two may be due; None if nothing will be by itself."""
        if self._wanted:
            return max(0.0, self._revived_at + REVIVE_EVERY_S - now)
        if self._idle_since is not None and not self._suppressed:
            return max(0.0, self._idle_since + LINGER_S - now)
        return None
