"""Users: an access key, the secret that signs requests, and what the user may do."""

from __future__ import annotations

from msgspec import Struct

UNIX_NAME = r"[A-Za-z_][A-Za-z0-9_.-]{0,31}[$]?"
"""What the name of a Unix user may look like; whether there is one the machine says that runs its jobs."""


class User(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One user. ``repr`` leaves the secret out, so that it cannot reach a log by accident.

    Attributes:
        unix_user: Whose rights this user's jobs have on a server that runs as root; None means the configured ones.
    """

    key: str
    secret: str
    enabled: bool = True
    admin: bool = False
    info: str = ""
    created: float = 0.0
    unix_user: str | None = None

    def __repr__(self) -> str:
        return f"User(key={self.key!r}, enabled={self.enabled}, admin={self.admin})"
