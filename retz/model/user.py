"""Users: an access key, the secret that signs requests, and what the user may do."""

from __future__ import annotations

from msgspec import Struct


class User(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One user. ``repr`` leaves the secret out, so that it cannot reach a log by accident."""

    key: str
    secret: str
    enabled: bool = True
    admin: bool = False
    info: str = ""
    created: float = 0.0

    def __repr__(self) -> str:
        return f"User(key={self.key!r}, enabled={self.enabled}, admin={self.admin})"
